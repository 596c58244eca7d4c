/* AVX-512 with VNNI, which adds products of 16-bit integers in one instruction. Only steps and their INT8 tiles are
 * compiled for it: all other kernels are those of AVX-512. */
#ifndef LSTMD_MODEL_KERNELS_SIMD_AVX512VNNI_H
#define LSTMD_MODEL_KERNELS_SIMD_AVX512VNNI_H

#include "model/kernels/simd/avx512.h"

#undef KERNEL
#undef vi_dot
#define vi_dot(s, a, b)   ((vi)_mm512_dpwssd_epi32((__m512i)(s), (__m512i)(a), (__m512i)(b)))
#define KERNEL(name)      kernels_avx512vnni_##name
#define FLOAT_TILES(name) kernels_avx512_##name

#endif
