/* Register tiles of fused steps and of the output layer. tiles_float.c and tiles_int8.c multiply with them; step.c says
 * which tile comes next.
 *
 * The header of an instruction set defines:
 *   STEP_ROWS        sequences of a register tile. Each has 4 sums (the gates of LANES units, or 4 vectors of outputs).
 *   STEP_1_GROUPS, STEP_1_VECTORS  for a single sequence: groups of 16 units at once, vectors of each; 8 sums or 16
 *   vs_widen(p)      2 * LANES int8_t -> as many int16_t in a vs
 *   vi_dot(s, a, b)  s + a[2i] * b[2i] + a[2i + 1] * b[2i + 1] for each of LANES sums
 *   FLOAT_TILES(name)  only if the tiles of F32 and BF16 are those of another instruction set
 *
 * A tile is rows x columns of sums; a column is one vector of outputs. Column c of a tile is vector c % vectors of gate
 * c / vectors % gates of group c / vectors / gates. Each function for a tile has its sizes as constants, so that the
 * sums are registers and the loops over them disappear.
 */
#ifndef LSTMD_MODEL_KERNELS_SIMD_TILES_H
#define LSTMD_MODEL_KERNELS_SIMD_TILES_H

#include "model/kernels/simd/vector.h"

#ifndef FLOAT_TILES
#define FLOAT_TILES(name) KERNEL(name)
#endif

typedef int16_t vs __attribute__((vector_size(4 * LANES), aligned(2), may_alias));
typedef int32_t vi_any __attribute__((vector_size(4 * LANES), aligned(1), may_alias));
typedef int32_t i32_any __attribute__((aligned(1), may_alias));

#define STEP_COLUMNS    4                        /* of a tile with several rows */
#define COLUMN_GROUPS   (STEP_COLUMNS / VECTORS) /* groups of one gate in a tile with several rows */
#define COLUMN_1_GROUPS (2 * COLUMN_GROUPS)      /* with one row */
#define STEP_MAX_SUMS   (STEP_ROWS * STEP_COLUMNS > 16 ? STEP_ROWS * STEP_COLUMNS : 16)
#define STEP_UNROLL     _Pragma("GCC unroll 24")

/* The shape of a tile, and which gates of its sums a matrix adds to: `gates` of them from `first` on, of `all`. */
struct tile {
    size_t rows, groups, vectors, all, first, gates;
};

INLINE size_t sum_index(struct tile t, size_t m, size_t column)
{
    const size_t group = column / t.vectors / t.gates, gate = t.first + column / t.vectors % t.gates;
    return ((m * t.groups + group) * t.all + gate) * t.vectors + column % t.vectors;
}

/* Where a column begins in an array whose groups lie `group_size` apart. */
INLINE size_t column_offset(struct tile t, size_t group_size, size_t column)
{
    const size_t group = column / t.vectors / t.gates, gate = column / t.vectors % t.gates;
    return group * group_size + gate * KERNEL_BLOCK + column % t.vectors * LANES;
}

INLINE size_t columns_of(struct tile t)
{
    return t.groups * t.gates * t.vectors;
}

/* Inputs `first` .. `first + count - 1` of a matrix (whole blocks of 16), for the groups of outputs from `group` on. */
struct piece {
    const struct kernel_matrix *matrix;
    size_t group, first, count;
};

/* The sums of a tile while pieces are added to them. */
struct sums {
    vf sum[STEP_MAX_SUMS];
    vi integers[STEP_MAX_SUMS]; /* INT8: of the matrix that is being added */
};

/* The shapes of tiles: X(name, groups, vectors, all, first, gates). Each has functions for 1 .. STEP_ROWS rows. */
#define TILES_OF_ROWS(X)                                                                                               \
    X(LSTM, 1, 1, 4, 0, 4)                                                                                             \
    X(GRU_INPUT, 1, 1, 4, 0, 3)                                                                                        \
    X(GRU_HIDDEN, 1, 1, 4, 1, 3)                                                                                       \
    X(COLUMNS, COLUMN_GROUPS, VECTORS, 1, 0, 1)                                                                        \
    TILES_OF_TWO(X)                                                                                                    \
    X(SINGLE, 1, VECTORS, 1, 0, 1)

/* Between COLUMNS and SINGLE, if there is room between them. */
#if STEP_COLUMNS * LANES / KERNEL_BLOCK > 2
#define TILES_OF_TWO(X) X(TWO, 2, VECTORS, 1, 0, 1)
#else
#define TILES_OF_TWO(X)
#endif

/* The shapes for a single row, which leaves more registers to columns. */
#define TILES_OF_ONE_ROW(X)                                                                                            \
    X(LSTM_1, STEP_1_GROUPS, STEP_1_VECTORS, 4, 0, 4)                                                                  \
    X(GRU_INPUT_1, STEP_1_GROUPS, STEP_1_VECTORS, 4, 0, 3)                                                             \
    X(GRU_HIDDEN_1, STEP_1_GROUPS, STEP_1_VECTORS, 4, 1, 3)                                                            \
    X(COLUMNS_1, COLUMN_1_GROUPS, VECTORS, 1, 0, 1)

enum tile_shape {
#define SHAPE(name, ...) TILE_##name,
    TILES_OF_ROWS(SHAPE) TILES_OF_ONE_ROW(SHAPE)
#undef SHAPE
        TILE_SHAPES
};

/* sums += W x for the inputs of a piece, from vector lane `lane` of each block on. inputs: [rows]. */
typedef void tile_add(const struct piece *piece, size_t lane, const void *const *inputs, struct sums *sums);

/* The functions of one format, by shape and rows - 1. */
struct tiles {
    tile_add *of[TILE_SHAPES][STEP_ROWS];
};

/* Defines KERNEL(tiles_FORMAT) with all its functions, out of an inline tile_add_FORMAT(tile, piece, lane, inputs,
 * sums). */
#define TILE_FUNCTION(format, name, rows, ...)                                                                         \
    static void format##_##name##_##rows(const struct piece *piece, size_t lane, const void *const *inputs,            \
                                         struct sums *sums)                                                            \
    {                                                                                                                  \
        tile_add_##format((struct tile){rows, __VA_ARGS__}, *piece, lane, inputs, sums);                               \
    }
#if STEP_ROWS == 6
#define TILE_FUNCTIONS(format, name, ...)                                                                              \
    TILE_FUNCTION(format, name, 1, __VA_ARGS__)                                                                        \
    TILE_FUNCTION(format, name, 2, __VA_ARGS__)                                                                        \
    TILE_FUNCTION(format, name, 3, __VA_ARGS__)                                                                        \
    TILE_FUNCTION(format, name, 4, __VA_ARGS__)                                                                        \
    TILE_FUNCTION(format, name, 5, __VA_ARGS__)                                                                        \
    TILE_FUNCTION(format, name, 6, __VA_ARGS__)
#define TILE_NAMES(format, name)                                                                                       \
    {                                                                                                                  \
        format##_##name##_1, format##_##name##_2, format##_##name##_3, format##_##name##_4, format##_##name##_5,       \
            format##_##name##_6                                                                                        \
    }
#elif STEP_ROWS == 3
#define TILE_FUNCTIONS(format, name, ...)                                                                              \
    TILE_FUNCTION(format, name, 1, __VA_ARGS__)                                                                        \
    TILE_FUNCTION(format, name, 2, __VA_ARGS__)                                                                        \
    TILE_FUNCTION(format, name, 3, __VA_ARGS__)
#define TILE_NAMES(format, name)                                                                                       \
    {                                                                                                                  \
        format##_##name##_1, format##_##name##_2, format##_##name##_3                                                  \
    }
#else
#error "write TILE_FUNCTIONS and TILE_NAMES for this number of rows"
#endif

extern const struct tiles KERNEL(tiles_f32), KERNEL(tiles_bf16), KERNEL(tiles_int8);
extern const struct tiles FLOAT_TILES(tiles_f32), FLOAT_TILES(tiles_bf16);

#endif
