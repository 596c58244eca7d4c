/* The tiles of BF16 weights. */
#include "model/kernels/simd/tile_functions.h"

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

INLINE void add_piece(struct tile t, struct piece piece, size_t lane, const void *const *inputs, struct ends ends)
{
    vf sum[STEP_MAX_SUMS]; /* registers */
    load_sums(t, ends, piece, sum);
    accumulate_bf16(t, piece, lane, inputs, sum);
    store_sums(t, ends, piece, sum);
}

const struct tiles KERNEL(tiles_bf16) = TILE_FUNCTIONS;
