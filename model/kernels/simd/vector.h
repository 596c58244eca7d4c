/* Vectors of floats and integers, and exp, tanh and sigmoid of them, for the instruction set that a file is compiled
 * for. The files of this folder are written once for any vector width. The Makefile compiles each of them for every
 * instruction set (SIMD_SET_avx2 and so on), into an object of its own. model/kernels/ref.c is their specification.
 *
 * The header of an instruction set defines:
 *   KERNEL(name)       the name of a kernel of this instruction set: kernels_avx2_product
 *   LANES              floats in a vector register (4, 8, 16)
 *   vf_fma(a, b, c)    a * b + c (fused if the instruction set can)
 *   vf_min, vf_max     of (constant, x): x if x is NaN, so NaN is never hidden
 *   TILE_ROWS, TILE_BLOCKS, TILE_1_BLOCKS, STRIP_ROWS, STRIP_BLOCKS  for product.c
 *   STEP_ROWS, STEP_1_GROUPS, STEP_1_VECTORS, vs_widen, vi_dot  for tiles.h
 */
#ifndef LSTMD_MODEL_KERNELS_SIMD_VECTOR_H
#define LSTMD_MODEL_KERNELS_SIMD_VECTOR_H

#include <stdint.h>

#include "model/kernels/constants.h"
#include "model/kernels/kernels.h"
#include "model/kernels/tables.h"

#if defined(SIMD_SET_avx2)
#include "model/kernels/simd/avx2.h"
#elif defined(SIMD_SET_avx512)
#include "model/kernels/simd/avx512.h"
#elif defined(SIMD_SET_avx512vnni)
#include "model/kernels/simd/avx512vnni.h"
#elif defined(SIMD_SET_neon)
#include "model/kernels/simd/neon.h"
#else
#include "model/kernels/simd/portable.h"
#endif

#define VECTORS  (KERNEL_BLOCK / LANES) /* vector registers of one block */
#define INLINE   static inline __attribute__((always_inline))
#define NOINLINE __attribute__((noinline))

typedef float vf __attribute__((vector_size(4 * LANES), aligned(4), may_alias));
typedef int32_t vi __attribute__((vector_size(4 * LANES), aligned(4), may_alias));

INLINE vf vf_load(const float *p)
{
    return *(const vf *)(const void *)p;
}

INLINE void vf_store(float *p, vf x)
{
    *(vf *)(void *)p = x;
}

INLINE vf vf_set(float x)
{
    return x - (vf){0};
}

/* ---- exp, tanh, sigmoid ---- */

/* x = n ln 2 + r; *scale = 2^n; returns e^r - 1. |x| must be below 88. */
INLINE vf reduce_expm1(vf x, vf *scale)
{
    vf shifted = vf_fma(x, vf_set(EXP_LOG2E), vf_set(EXP_ROUND));
    vf n = shifted - EXP_ROUND;
    vf r = vf_fma(n, vf_set(-EXP_LN2_HIGH), x);
    r = vf_fma(n, vf_set(-EXP_LN2_LOW), r);
    vf q = vf_fma(vf_set(EXP_C4), r, vf_set(EXP_C3));
    q = vf_fma(q, r, vf_set(EXP_C2));
    q = vf_fma(q, r, vf_set(EXP_C1));
    q = vf_fma(q, r, vf_set(EXP_C0));
    vi bits = ((vi)shifted - EXP_ROUND_BITS + 127) << 23;
    *scale = (vf)bits;
    return vf_fma(q, r * r, r);
}

INLINE vf vf_exp(vf x)
{
    vf scale;
    x = vf_max(vf_set(EXP_MINIMUM), vf_min(vf_set(EXP_MAXIMUM), x));
    vf e = reduce_expm1(x, &scale);
    return vf_fma(e, scale, scale);
}

INLINE vf vf_sigmoid(vf x)
{
    return 1.0f / (1.0f + vf_exp(-x));
}

INLINE vf vf_tanh(vf x)
{
    vi sign = (vi)x & INT32_MIN;
    vf magnitude = vf_min(vf_set(TANH_MAXIMUM), (vf)((vi)x ^ sign));
    vf scale;
    vf e = reduce_expm1(magnitude + magnitude, &scale);
    e = vf_fma(e, scale, scale - 1.0f); /* e^2|x| - 1 */
    vf t = e / (e + 2.0f);
    return (vf)((vi)t | sign);
}

#endif
