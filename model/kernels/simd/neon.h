/* NEON of arm64: 32 registers of 4 floats; a tile of 6 rows x 1 block uses 24 of them for sums. */
#ifndef LSTMD_MODEL_KERNELS_SIMD_NEON_H
#define LSTMD_MODEL_KERNELS_SIMD_NEON_H

#include <arm_neon.h>

#define LANES            4
#define TILE_ROWS        6
#define TILE_BLOCKS      1
#define TILE_1_BLOCKS    4
#define STRIP_ROWS       6
#define STRIP_BLOCKS     1
#define vf_fma(a, b, c)  ((vf)vfmaq_f32((float32x4_t)(c), (float32x4_t)(a), (float32x4_t)(b)))
#define vf_min(bound, x) ((vf)vminq_f32((float32x4_t)(bound), (float32x4_t)(x)))
#define vf_max(bound, x) ((vf)vmaxq_f32((float32x4_t)(bound), (float32x4_t)(x)))
#define STEP_ROWS        6
#define STEP_1_GROUPS    1
#define STEP_1_VECTORS   4
#define vs_widen(p)      ((vs)vmovl_s8(vld1_s8(p)))
#define vi_dot(s, a, b)                                                                                                \
    ((vi)vaddq_s32((int32x4_t)(s), vpaddq_s32(vmull_s16(vget_low_s16((int16x8_t)(a)), vget_low_s16((int16x8_t)(b))),   \
                                              vmull_high_s16((int16x8_t)(a), (int16x8_t)(b)))))
#define KERNEL(name) kernels_neon_##name

#endif
