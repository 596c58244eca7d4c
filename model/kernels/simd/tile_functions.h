/* The functions of `struct tiles` for one format of weights. A file of a format (tiles_f32.c) includes this header
 * once, defines add_piece() and makes its table of TILE_FUNCTIONS. All sizes of a tile are constants where add_piece()
 * is called.
 */
#ifndef LSTMD_MODEL_KERNELS_SIMD_TILE_FUNCTIONS_H
#define LSTMD_MODEL_KERNELS_SIMD_TILE_FUNCTIONS_H

#include "model/kernels/simd/step_cells.h"

/* Where a tile's sums come from and go to: `sums`, or (columns, a constant) rows of floats [t.rows][16 * blocks]. */
struct ends {
    bool columns;
    struct sums *sums;
    const float *const *from;
    float *const *to;
};

/* The vectors of row m, in the order of sum_index(). */
INLINE const vf *sums_from(struct tile t, struct ends ends, struct piece piece, size_t m)
{
    if (ends.columns) return (const vf *)(const void *)(ends.from[m] + piece.group * KERNEL_BLOCK);
    return ends.sums->sum + sum_row(t, m);
}

INLINE vf *sums_to(struct tile t, struct ends ends, struct piece piece, size_t m)
{
    if (ends.columns) return (vf *)(void *)(ends.to[m] + piece.group * KERNEL_BLOCK);
    return ends.sums->sum + sum_row(t, m);
}

INLINE void load_sums(struct tile t, struct ends ends, struct piece piece, vf *sum)
{
    STEP_UNROLL for (size_t m = 0; m < t.rows; m++)
    {
        const vf *from = sums_from(t, ends, piece, m);
        STEP_UNROLL for (size_t c = 0; c < columns_of(t); c++) sum[sum_index(t, m, c)] = from[sum_index(t, 0, c)];
    }
}

INLINE void store_sums(struct tile t, struct ends ends, struct piece piece, const vf *sum)
{
    STEP_UNROLL for (size_t m = 0; m < t.rows; m++)
    {
        vf *to = sums_to(t, ends, piece, m);
        STEP_UNROLL for (size_t c = 0; c < columns_of(t); c++) to[sum_index(t, 0, c)] = sum[sum_index(t, m, c)];
    }
}

/* sums += W x for the inputs of a piece, from vector lane `lane` of each block on. inputs: [t.rows]. */
INLINE void add_piece(struct tile t, struct piece piece, size_t lane, const void *const *inputs, struct ends ends);

/* ---- the tiles of a band ---- */

#define LINE_BYTES 64

/* Tile i fetches its share. */
INLINE void fetch(struct ahead ahead, size_t i)
{
    const size_t end = (i + 1) * ahead.share < ahead.size ? (i + 1) * ahead.share : ahead.size;
    for (size_t at = i * ahead.share; at < end; at += LINE_BYTES) __builtin_prefetch(ahead.from + at, 0, 2);
}

INLINE void add_tile(struct tile shape, size_t rows, struct piece piece, struct place at, const void *const *inputs,
                     struct ends ends)
{
    shape.rows = rows;
    add_piece(shape, piece, at.lane, inputs + at.m, ends);
}

/* shape.rows does not count: the place of a tile says how many rows it has. */
INLINE void add_band(struct tile shape, struct band *band, struct piece piece, const void *const *inputs,
                     struct ahead ahead)
{
    for (size_t i = 0; i < band->count; i++) {
        const struct place at = band->places[i];
        const bool columns = shape.all == 1;
        const struct ends ends = {columns, &band->sums[i], columns ? band->from + at.m : NULL,
                                  columns ? band->to + at.m : NULL};
        fetch(ahead, i);
        switch (at.rows) {
#if STEP_ROWS > 3
        case 6:
            add_tile(shape, 6, piece, at, inputs, ends);
            break;
        case 5:
            add_tile(shape, 5, piece, at, inputs, ends);
            break;
        case 4:
            add_tile(shape, 4, piece, at, inputs, ends);
            break;
#endif
        case 3:
            add_tile(shape, 3, piece, at, inputs, ends);
            break;
        case 2:
            add_tile(shape, 2, piece, at, inputs, ends);
            break;
        default:
            add_tile(shape, 1, piece, at, inputs, ends);
            break;
        }
    }
}

#define ADD_FUNCTION(name, ...)                                                                                        \
    static void add_##name(struct band *band, const struct piece *piece, const void *const *inputs,                    \
                           struct ahead ahead)                                                                         \
    {                                                                                                                  \
        add_band((struct tile){1, __VA_ARGS__}, band, *piece, inputs, ahead);                                          \
    }
TILES_OF_ROWS(ADD_FUNCTION)
#undef ADD_FUNCTION

/* ---- a single row ---- */

/* Its sums stay in registers from the biases to the gates. Passes over as many whole `groups` groups, `vectors` vectors
 * of each block at once, as there are from `group` on. Returns the first group that is left. */
INLINE size_t single_groups(enum step_cell cell, size_t groups, size_t vectors, const struct kernel_step *s,
                            size_t group)
{
    const struct tile input = input_shape(cell, 1, groups, vectors), hidden = hidden_shape(cell, 1, groups, vectors);
    for (; group + groups <= s->blocks; group += groups) {
        for (size_t lane = 0; lane < KERNEL_BLOCK; lane += vectors * LANES) {
            struct sums sums;
            const struct ends ends = {false, &sums, NULL, NULL};
            step_start(cell, input, s, (struct place){0, 1, lane}, group, sums.sum);
            if (s->input.inputs > 0)
                add_piece(input, (struct piece){&s->input, group, 0, s->input.inputs}, lane, s->x, ends);
            add_piece(hidden, (struct piece){&s->hidden, group, 0, s->hidden.inputs}, lane, s->hidden_input, ends);
            step_finish(cell, s, &(struct finish){1, groups, vectors, 0, group, lane}, sums.sum);
        }
    }
    return group;
}

static void single_lstm(const struct kernel_step *s)
{
    const size_t group = single_groups(STEP_LSTM, STEP_1_GROUPS, STEP_1_VECTORS, s, 0);
    if (STEP_1_GROUPS > 1) single_groups(STEP_LSTM, 1, STEP_1_VECTORS, s, group);
}

static void single_gru(const struct kernel_step *s)
{
    const size_t group = single_groups(STEP_GRU, STEP_1_GROUPS, STEP_1_VECTORS, s, 0);
    if (STEP_1_GROUPS > 1) single_groups(STEP_GRU, 1, STEP_1_VECTORS, s, group);
}

static void single_rnn(const struct kernel_step *s)
{
    size_t group = single_groups(STEP_RNN, COLUMN_1_GROUPS, VECTORS, s, 0);
    group = single_groups(STEP_RNN, COLUMN_GROUPS, VECTORS, s, group);
    if (COLUMN_GROUPS > 1) single_groups(STEP_RNN, 1, VECTORS, s, group);
}

INLINE size_t single_columns(size_t groups, const struct projection *p, size_t group)
{
    const struct tile t = {1, groups, VECTORS, 1, 0, 1};
    for (; group + groups <= p->blocks; group += groups) {
        const struct piece piece = {p->matrix, group, 0, p->matrix->inputs};
        add_piece(t, piece, 0, p->x, (struct ends){true, NULL, &p->bias, p->y});
    }
    return group;
}

static void single_project(const struct projection *p)
{
    size_t group = single_columns(COLUMN_1_GROUPS, p, 0);
    group = single_columns(COLUMN_GROUPS, p, group);
    if (HAS_TWO) group = single_columns(2, p, group);
    if (COLUMN_GROUPS > 1) single_columns(1, p, group);
}

/* ---- the table ---- */

#define ADD_MEMBER(name, ...) [TILE_##name] = add_##name,
#define TILE_FUNCTIONS                                                                                                 \
    {                                                                                                                  \
        .add = {TILES_OF_ROWS(ADD_MEMBER)},                                                                            \
        .single_step = {[STEP_LSTM] = single_lstm, [STEP_GRU] = single_gru, [STEP_RNN] = single_rnn},                  \
        .single_project = single_project                                                                               \
    }

#endif
