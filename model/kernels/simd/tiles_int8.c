/* The tiles of INT8 weights. Sums of integers are exact, so their bits are the same on every instruction set. */
#include "model/kernels/simd/tile_functions.h"

/* Sums of integers: those of column c and row m at m * columns + c. */
INLINE void accumulate_int8(struct tile t, struct piece piece, size_t lane, const void *const *inputs, vi *integers)
{
    const size_t pairs = piece.matrix->inputs / 2, row = t.gates * KERNEL_BLOCK;
    const int8_t *w =
        (const int8_t *)piece.matrix->weights + 2 * ((piece.group * pairs + piece.first / 2) * row + lane);
    const i32_any *x[STEP_ROWS];
    STEP_UNROLL for (size_t m = 0; m < t.rows; m++) x[m] = (const i32_any *)inputs[m] + piece.first / 2;
    for (size_t k = 0; k < piece.count / 2; k++) {
        STEP_UNROLL for (size_t c = 0; c < columns_of(t); c++)
        {
            const vs weights = vs_widen(w + 2 * (column_offset(t, pairs * row, c) + k * row));
            STEP_UNROLL for (size_t m = 0; m < t.rows; m++)
            {
                const size_t i = m * columns_of(t) + c;
                integers[i] = vi_dot(integers[i], weights, (vs)((vi){0} + x[m][k]));
            }
        }
    }
}

/* sums += integers times their rows' scales. */
INLINE void add_scaled(struct tile t, struct piece piece, size_t lane, const vi *integers, struct ends ends)
{
    const size_t row = t.gates * KERNEL_BLOCK;
    const float *scale = piece.matrix->scale + piece.group * row + lane;
    vf sum[STEP_MAX_SUMS]; /* registers */
    load_sums(t, ends, piece, sum);
    STEP_UNROLL for (size_t c = 0; c < columns_of(t); c++)
    {
        const vf factor = vf_load(scale + column_offset(t, row, c));
        STEP_UNROLL for (size_t m = 0; m < t.rows; m++)
        {
            /* Not fused anywhere: these bits are the same on every instruction set. */
            const vf product = __builtin_convertvector(integers[m * columns_of(t) + c], vf) * factor;
            sum[sum_index(t, m, c)] += product;
        }
    }
    store_sums(t, ends, piece, sum);
}

/* The integers of all pieces of a matrix are added up; the last piece scales them. */
INLINE void add_piece(struct tile t, struct piece piece, size_t lane, const void *const *inputs, struct ends ends)
{
    const size_t count = t.rows * columns_of(t);
    const bool begins = piece.first == 0, ends_here = piece.first + piece.count == piece.matrix->inputs;
    vi integers[STEP_MAX_SUMS]; /* registers */
    if (begins)
        STEP_UNROLL for (size_t i = 0; i < count; i++) integers[i] = (vi){0};
    else
        STEP_UNROLL for (size_t i = 0; i < count; i++) integers[i] = ends.sums->integers[i];
    accumulate_int8(t, piece, lane, inputs, integers);
    if (ends_here)
        add_scaled(t, piece, lane, integers, ends);
    else
        STEP_UNROLL for (size_t i = 0; i < count; i++) ends.sums->integers[i] = integers[i];
}

const struct tiles KERNEL(tiles_int8) = TILE_FUNCTIONS;
