/* The tiles of F32 and BF16 weights: fused steps and the output layer (tiles.h). */
#include "model/kernels/simd/tiles.h"

INLINE void accumulate_f32(struct tile t, struct piece piece, size_t lane, const void *const *inputs, vf *sum)
{
    const size_t K = piece.matrix->inputs, row = t.gates * KERNEL_BLOCK;
    const float *w = (const float *)piece.matrix->weights + (piece.group * K + piece.first) * row + lane;
    const float *x[STEP_ROWS];
    STEP_UNROLL for (size_t m = 0; m < t.rows; m++) x[m] = (const float *)inputs[m] + piece.first;
#pragma GCC unroll 1 /* as in product.c */
    for (size_t k = 0; k < piece.count; k++) {
        STEP_UNROLL for (size_t c = 0; c < columns_of(t); c++)
        {
            const vf weight = vf_load(w + column_offset(t, K * row, c) + k * row);
            STEP_UNROLL for (size_t m = 0; m < t.rows; m++)
            {
                const size_t s = sum_index(t, m, c);
                sum[s] = vf_fma(vf_set(x[m][k]), weight, sum[s]);
            }
        }
    }
}

/* The sums are in registers meanwhile. */
INLINE void tile_add_f32(struct tile t, struct piece piece, size_t lane, const void *const *inputs, struct sums *sums)
{
    const size_t all = t.rows * t.groups * t.all * t.vectors;
    vf sum[STEP_MAX_SUMS];
    STEP_UNROLL for (size_t i = 0; i < all; i++) sum[i] = sums->sum[i];
    accumulate_f32(t, piece, lane, inputs, sum);
    STEP_UNROLL for (size_t i = 0; i < all; i++) sums->sum[i] = sum[i];
}

#define FUNCTIONS(name, ...)  TILE_FUNCTIONS(f32, name, __VA_ARGS__)
#define FUNCTION_1(name, ...) TILE_FUNCTION(f32, name, 1, __VA_ARGS__)
TILES_OF_ROWS(FUNCTIONS)
TILES_OF_ONE_ROW(FUNCTION_1)
#undef FUNCTIONS
#undef FUNCTION_1

#define ROW(name, ...)   [TILE_##name] = TILE_NAMES(f32, name),
#define ROW_1(name, ...) [TILE_##name] = {f32_##name##_1},
const struct tiles KERNEL(tiles_f32) = {{TILES_OF_ROWS(ROW) TILES_OF_ONE_ROW(ROW_1)}};
#undef ROW
#undef ROW_1

/* Two inputs at a time: a lane of 32 bits holds the weights of both. */
INLINE void accumulate_bf16(struct tile t, struct piece piece, size_t lane, const void *const *inputs, vf *sum)
{
    const size_t pairs = piece.matrix->inputs / 2, row = t.gates * KERNEL_BLOCK;
    const i32_any *w = (const i32_any *)piece.matrix->weights + (piece.group * pairs + piece.first / 2) * row + lane;
    const float *x[STEP_ROWS];
    STEP_UNROLL for (size_t m = 0; m < t.rows; m++) x[m] = (const float *)inputs[m] + piece.first;
    for (size_t k = 0; k < piece.count / 2; k++) {
        STEP_UNROLL for (size_t c = 0; c < columns_of(t); c++)
        {
            const vi both = *(const vi_any *)(const void *)(w + column_offset(t, pairs * row, c) + k * row);
            const vf even = (vf)(both << 16), odd = (vf)(both & ~0xFFFF);
            STEP_UNROLL for (size_t m = 0; m < t.rows; m++)
            {
                const size_t s = sum_index(t, m, c);
                sum[s] = vf_fma(vf_set(x[m][2 * k]), even, sum[s]);
                sum[s] = vf_fma(vf_set(x[m][2 * k + 1]), odd, sum[s]);
            }
        }
    }
}

/* The sums are in registers meanwhile. */
INLINE void tile_add_bf16(struct tile t, struct piece piece, size_t lane, const void *const *inputs, struct sums *sums)
{
    const size_t all = t.rows * t.groups * t.all * t.vectors;
    vf sum[STEP_MAX_SUMS];
    STEP_UNROLL for (size_t i = 0; i < all; i++) sum[i] = sums->sum[i];
    accumulate_bf16(t, piece, lane, inputs, sum);
    STEP_UNROLL for (size_t i = 0; i < all; i++) sums->sum[i] = sum[i];
}

#define FUNCTIONS(name, ...)  TILE_FUNCTIONS(bf16, name, __VA_ARGS__)
#define FUNCTION_1(name, ...) TILE_FUNCTION(bf16, name, 1, __VA_ARGS__)
TILES_OF_ROWS(FUNCTIONS)
TILES_OF_ONE_ROW(FUNCTION_1)
#undef FUNCTIONS
#undef FUNCTION_1

#define ROW(name, ...)   [TILE_##name] = TILE_NAMES(bf16, name),
#define ROW_1(name, ...) [TILE_##name] = {bf16_##name##_1},
const struct tiles KERNEL(tiles_bf16) = {{TILES_OF_ROWS(ROW) TILES_OF_ONE_ROW(ROW_1)}};
#undef ROW
#undef ROW_1
