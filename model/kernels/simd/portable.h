/* Vectors of 4 floats in GCC's portable notation: SSE2 on x86-64, whatever there is elsewhere. No fused multiply-add.
 * Sums of products of 16-bit integers have no such notation: SSE2 has an instruction, others take the products apart.
 */
#ifndef LSTMD_MODEL_KERNELS_SIMD_PORTABLE_H
#define LSTMD_MODEL_KERNELS_SIMD_PORTABLE_H

#define LANES                      4
#define TILE_ROWS                  3
#define TILE_BLOCKS                1
#define TILE_1_BLOCKS              2
#define STRIP_ROWS                 3
#define STRIP_BLOCKS               1
#define vf_fma(a, b, c)            ((a) * (b) + (c))
#define vf_min(bound, x)           vf_select((bound) < (x), (bound), (x))
#define vf_max(bound, x)           vf_select((bound) > (x), (bound), (x))
#define vf_select(condition, a, b) ((vf)(((vi)(condition) & (vi)(a)) | (~(vi)(condition) & (vi)(b))))
#define STEP_ROWS                  3
#define STEP_1_GROUPS              1
#define STEP_1_VECTORS             2
#if defined(__SSE2__)
#include <emmintrin.h>
#define vs_widen(p)                                                                                                    \
    ((vs)_mm_srai_epi16(_mm_unpacklo_epi8(_mm_setzero_si128(), _mm_loadl_epi64((const __m128i *)(const void *)(p))), 8))
#define vi_dot(s, a, b) ((s) + (vi)_mm_madd_epi16((__m128i)(a), (__m128i)(b)))
#else
#define vs_widen(p)     ((vs){(p)[0], (p)[1], (p)[2], (p)[3], (p)[4], (p)[5], (p)[6], (p)[7]})
#define vi_dot(s, a, b) ((s) + vi_even(a) * vi_even(b) + vi_odd(a) * vi_odd(b))
/* The lower and the upper half of each lane; which is the first in memory does not matter to their sum. */
#define vi_even(a)      ((vi)((vi)(a) << 16) >> 16)
#define vi_odd(a)       ((vi)(a) >> 16)
#endif
#define KERNEL(name) kernels_portable_##name

#endif
