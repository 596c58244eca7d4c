/* The tiles of F32 weights. */
#include "model/kernels/simd/tile_functions.h"

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

INLINE void add_piece(struct tile t, struct piece piece, size_t lane, const void *const *inputs, struct ends ends)
{
    vf sum[STEP_MAX_SUMS]; /* registers */
    load_sums(t, ends, piece, sum);
    accumulate_f32(t, piece, lane, inputs, sum);
    store_sums(t, ends, piece, sum);
}

const struct tiles KERNEL(tiles_f32) = TILE_FUNCTIONS;
