/* The tiles of INT8 weights: fused steps and the output layer (tiles.h). Sums of integers are exact, so their bits are
 * the same on every instruction set. */
#include "model/kernels/simd/tiles.h"

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

/* sum += integers times their rows' scales. */
INLINE void add_scaled(struct tile t, const struct kernel_matrix *matrix, size_t group, size_t lane, const vi *integers,
                       vf *sum)
{
    const size_t row = t.gates * KERNEL_BLOCK;
    const float *scale = matrix->scale + group * row + lane;
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
}

/* The integers of all pieces of a matrix are added up; the last piece scales them. In registers meanwhile. */
INLINE void tile_add_int8(struct tile t, struct piece piece, size_t lane, const void *const *inputs, struct sums *sums)
{
    const size_t count = t.rows * columns_of(t);
    const bool begins = piece.first == 0;
    vi integers[STEP_MAX_SUMS];
    STEP_UNROLL for (size_t i = 0; i < count; i++) integers[i] = begins ? (vi){0} : sums->integers[i];
    accumulate_int8(t, piece, lane, inputs, integers);
    if (piece.first + piece.count == piece.matrix->inputs)
        add_scaled(t, piece.matrix, piece.group, lane, integers, sums->sum);
    else
        STEP_UNROLL for (size_t i = 0; i < count; i++) sums->integers[i] = integers[i];
}

#define FUNCTIONS(name, ...)  TILE_FUNCTIONS(int8, name, __VA_ARGS__)
#define FUNCTION_1(name, ...) TILE_FUNCTION(int8, name, 1, __VA_ARGS__)
TILES_OF_ROWS(FUNCTIONS)
TILES_OF_ONE_ROW(FUNCTION_1)
#undef FUNCTIONS
#undef FUNCTION_1

#define ROW(name, ...)   [TILE_##name] = TILE_NAMES(int8, name),
#define ROW_1(name, ...) [TILE_##name] = {int8_##name##_1},
const struct tiles KERNEL(tiles_int8) = {{TILES_OF_ROWS(ROW) TILES_OF_ONE_ROW(ROW_1)}};
#undef ROW
#undef ROW_1
