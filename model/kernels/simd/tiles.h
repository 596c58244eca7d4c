/* Register tiles of fused steps and of the output layer. There is a table of functions per format of weights
 * (tiles_f32.c, tiles_bf16.c, tiles_int8.c, which are filled in by tile_functions.h); step.c goes over rows and groups
 * and calls them.
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

/* A band is so many sequences at most: their tiles add the same piece of a matrix one after the other. */
#define BAND_ROWS  36
#define BAND_TILES (BAND_ROWS / STEP_ROWS * VECTORS)
_Static_assert(BAND_ROWS % STEP_ROWS == 0, "a whole band fills its tiles");

/* The shape of a tile, and which gates of its sums a matrix adds to: `gates` of them from `first` on, of `all`. */
struct tile {
    size_t rows, groups, vectors, all, first, gates;
};

/* The first sum of row m. */
INLINE size_t sum_row(struct tile t, size_t m)
{
    return m * t.groups * t.all * t.vectors;
}

INLINE size_t sum_index(struct tile t, size_t m, size_t column)
{
    const size_t group = column / t.vectors / t.gates, gate = t.first + column / t.vectors % t.gates;
    return sum_row(t, m) + (group * t.all + gate) * t.vectors + column % t.vectors;
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

/* A tile's place in its band: `rows` sequences from m on, vector lanes from `lane` of each block on. */
struct place {
    size_t m, rows, lane;
};

struct band {
    size_t first; /* sequence */
    size_t count; /* of tiles */
    /* Tiles of columns: [rows of the band] where a row's sums begin and where they go: biases, outputs [16 * blocks].
     */
    const float *const *from;
    float *const *to;
    struct place places[BAND_TILES];
    struct sums sums[BAND_TILES]; /* of tiles of several gates; all: integers */
};

/* Weights that each tile of a band fetches `share` bytes of from memory before it multiplies. size 0: none. */
struct ahead {
    const char *from;
    size_t size, share; /* bytes */
};

/* The shapes of tiles with several rows: X(name, groups, vectors, all, first, gates). */
#define TILES_OF_ROWS(X)                                                                                               \
    X(LSTM, 1, 1, 4, 0, 4)                                                                                             \
    X(GRU_INPUT, 1, 1, 4, 0, 3)                                                                                        \
    X(GRU_HIDDEN, 1, 1, 4, 1, 3)                                                                                       \
    X(COLUMNS, COLUMN_GROUPS, VECTORS, 1, 0, 1)                                                                        \
    TILES_OF_TWO(X)                                                                                                    \
    X(ONE, 1, VECTORS, 1, 0, 1)

/* Between COLUMNS and ONE, if there is room between them. */
#define HAS_TWO (STEP_COLUMNS * LANES / KERNEL_BLOCK > 2)
#if HAS_TWO
#define TILES_OF_TWO(X) X(TWO, 2, VECTORS, 1, 0, 1)
#else
#define TILES_OF_TWO(X)
#endif

enum tile_shape {
#define SHAPE(name, ...) TILE_##name, /* the shape of this name in the list */
    TILES_OF_ROWS(SHAPE)
#undef SHAPE
        TILE_SHAPES /* how many there are */
};

enum step_cell {
    STEP_LSTM,  /* gates i f g o */
    STEP_GRU,   /* gates n r z of the input, r z q of the hidden state */
    STEP_RNN,   /* one gate */
    STEP_CELLS, /* how many there are */
};

/* The output layer: y[m] = bias + W x[m]. */
struct projection {
    size_t rows, blocks;
    const struct kernel_matrix *matrix;
    const float *bias;    /* [16 * blocks] */
    const void *const *x; /* [rows] */
    float *const *y;      /* [rows] of [16 * blocks] */
};

/* The functions of one format. A function goes over all tiles of a band, and one for a single row over all groups: a
 * call per tile would cost some percent of the tile. */
struct tiles {
    /* sums += W x for the inputs of a piece. inputs: [rows of the band]. */
    void (*add[TILE_SHAPES])(struct band *band, const struct piece *piece, const void *const *inputs,
                             struct ahead ahead);
    /* Whole steps and the output layer of a single row. */
    void (*single_step[STEP_CELLS])(const struct kernel_step *step);
    void (*single_project)(const struct projection *projection);
};

extern const struct tiles KERNEL(tiles_f32), KERNEL(tiles_bf16), KERNEL(tiles_int8);
extern const struct tiles FLOAT_TILES(tiles_f32), FLOAT_TILES(tiles_bf16);

#endif
