/* AVX2 + FMA: 16 registers of 8 floats; a tile of 6 rows x 1 block uses 12 of them for sums. */
#ifndef LSTMD_MODEL_KERNELS_SIMD_AVX2_H
#define LSTMD_MODEL_KERNELS_SIMD_AVX2_H

#include <immintrin.h>

#define LANES            8
#define TILE_ROWS        6
#define TILE_BLOCKS      1
#define TILE_1_BLOCKS    4
#define STRIP_ROWS       6
#define STRIP_BLOCKS     1
#define vf_fma(a, b, c)  ((vf)_mm256_fmadd_ps((__m256)(a), (__m256)(b), (__m256)(c)))
#define vf_min(bound, x) ((vf)_mm256_min_ps((__m256)(bound), (__m256)(x)))
#define vf_max(bound, x) ((vf)_mm256_max_ps((__m256)(bound), (__m256)(x)))
#define STEP_ROWS        3
#define STEP_1_GROUPS    1
#define STEP_1_VECTORS   2
#define vs_widen(p)      ((vs)_mm256_cvtepi8_epi16(_mm_loadu_si128((const __m128i *)(const void *)(p))))
#define vi_dot(s, a, b)  ((s) + (vi)_mm256_madd_epi16((__m256i)(a), (__m256i)(b)))
#define KERNEL(name)     kernels_avx2_##name

#endif
