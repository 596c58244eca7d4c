/* AVX-512 F, VL, DQ and BW: 32 registers of 16 floats; a tile of 6 rows x 4 blocks uses 24 of them for sums. */
#ifndef LSTMD_MODEL_KERNELS_SIMD_AVX512_H
#define LSTMD_MODEL_KERNELS_SIMD_AVX512_H

#include <immintrin.h>

#define LANES            16
#define TILE_ROWS        6
#define TILE_BLOCKS      4
#define TILE_1_BLOCKS    8
#define STRIP_ROWS       12
#define STRIP_BLOCKS     2
#define vf_fma(a, b, c)  ((vf)_mm512_fmadd_ps((__m512)(a), (__m512)(b), (__m512)(c)))
#define vf_min(bound, x) ((vf)_mm512_min_ps((__m512)(bound), (__m512)(x)))
#define vf_max(bound, x) ((vf)_mm512_max_ps((__m512)(bound), (__m512)(x)))
#define STEP_ROWS        6
#define STEP_1_GROUPS    2
#define STEP_1_VECTORS   1
#define vs_widen(p)      ((vs)_mm512_cvtepi8_epi16(_mm256_loadu_si256((const __m256i *)(const void *)(p))))
#define vi_dot(s, a, b)  ((s) + (vi)_mm512_madd_epi16((__m512i)(a), (__m512i)(b)))
#define KERNEL(name)     kernels_avx512_##name

#endif
