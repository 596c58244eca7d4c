/* Fused steps, the output layer and input products for several rows. This file goes over rows and groups; the tiles
 * (tiles.h) multiply.
 */
#include <string.h>

#include "model/kernels/simd/step_cells.h"

static const struct tiles *tiles_of(enum kernel_format format)
{
    return format == KERNEL_F32    ? &FLOAT_TILES(tiles_f32)
           : format == KERNEL_BF16 ? &FLOAT_TILES(tiles_bf16)
                                   : &KERNEL(tiles_int8);
}

/* ---- bands of rows ---- */

/* The rows of the next tile when `left` are left. Tiles are of nearly equal height, because a thin tile at the end
 * would use few registers. */
INLINE size_t next_rows(size_t left)
{
    const size_t tiles = (left + STEP_ROWS - 1) / STEP_ROWS;
    return (left + tiles - 1) / tiles;
}

/* A band of `rows` sequences from `first` on; `vectors` vectors of each block at once. */
INLINE void place_tiles(struct band *band, size_t vectors, size_t first, size_t rows)
{
    band->first = first;
    band->count = 0;
    for (size_t m = 0, height; m < rows; m += height) {
        height = next_rows(rows - m);
        for (size_t lane = 0; lane < KERNEL_BLOCK; lane += vectors * LANES)
            band->places[band->count++] = (struct place){m, height, lane};
    }
}

/* Rows of a band: all bands have nearly as many. */
INLINE size_t band_rows(size_t rows)
{
    const size_t bands = (rows + BAND_ROWS - 1) / BAND_ROWS;
    return bands > 0 ? (rows + bands - 1) / bands : 0;
}

/* ---- steps ---- */

/* Several tiles pass over a group's weights STEP_DEPTH inputs at a time: the weights of so many inputs and 4 gates stay
 * in the first-level cache, and the cache beyond it delivers no faster than a tile multiplies. The only cost is that
 * the sums are stored and loaded again; their bits stay the same. */
#define STEP_DEPTH 64
_Static_assert(STEP_DEPTH % KERNEL_BLOCK == 0, "a piece is whole blocks");

INLINE struct piece piece_at(const struct kernel_matrix *matrix, size_t group, size_t first)
{
    const size_t left = matrix->inputs - first;
    return (struct piece){matrix, group, first, left < STEP_DEPTH ? left : STEP_DEPTH};
}

INLINE struct piece first_piece(const struct kernel_step *s, size_t group)
{
    return piece_at(s->input.inputs > 0 ? &s->input : &s->hidden, group, 0);
}

/* The order of pieces: the input's, the hidden state's, those of the next `groups` groups (another band of sequences
 * may come before). The count is 0 after the last piece. */
INLINE struct piece piece_after(const struct kernel_step *s, size_t groups, struct piece piece)
{
    const size_t first = piece.first + piece.count, group = piece.group + groups;
    if (first < piece.matrix->inputs) return piece_at(piece.matrix, piece.group, first);
    if (piece.matrix == &s->input) return piece_at(&s->hidden, piece.group, 0);
    if (group + groups > s->blocks) return (struct piece){&s->hidden, group, 0, 0};
    return first_piece(s, group);
}

/* How a cell passes over its weights: how many groups at once, how many vectors of each, and the tiles of both
 * matrices. Constants at every call. */
struct way {
    enum step_cell cell;
    size_t groups, vectors;
    enum tile_shape input, hidden;
};

/* The tiles fetch the next piece while they multiply this one, so that memory does not idle. The weights of one group
 * lie together. Several groups are several streams, which the processor foresees by itself. */
INLINE struct ahead fetched(const struct band *band, struct way way, enum kernel_format format, struct piece next)
{
    const size_t gates = input_shape(way.cell, 1, 1, 1).gates;
    const size_t bytes = (format == KERNEL_F32 ? 4 : format == KERNEL_BF16 ? 2 : 1) * gates * KERNEL_BLOCK;
    const size_t size = way.groups > 1 ? 0 : next.count * bytes, line = 64;
    const char *from = (const char *)next.matrix->weights + (next.group * next.matrix->inputs + next.first) * bytes;
    const size_t tiles = band->count > 0 ? band->count : 1;
    return (struct ahead){from, size, (size / line + tiles - 1) / tiles * line};
}

/* Adds the products of a group (way.groups of them) for all sequences of a band. */
INLINE void add_pieces(struct way way, const struct tiles *tiles, const struct kernel_step *s, struct band *band,
                       size_t group)
{
    for (struct piece piece = first_piece(s, group), next; piece.group == group; piece = next) {
        next = piece_after(s, way.groups, piece);
        const struct ahead ahead = fetched(band, way, s->hidden.format, next);
        if (piece.matrix == &s->input)
            tiles->add[way.input](band, &piece, s->x + band->first, ahead);
        else
            tiles->add[way.hidden](band, &piece, s->hidden_input + band->first, ahead);
        /* Columns: from here on, the sums are where they go to. INT8 adds to them with the last piece of a matrix. */
        if (s->hidden.format != KERNEL_INT8 || piece.first + piece.count == piece.matrix->inputs)
            band->from = (const float *const *)band->to;
    }
}

INLINE void step_gates(struct way way, const struct tiles *tiles, const struct kernel_step *s, struct band *band,
                       size_t group)
{
    const struct tile shape = input_shape(way.cell, 1, way.groups, way.vectors);
    for (size_t i = 0; i < band->count; i++) {
        const struct place at = {band->first + band->places[i].m, band->places[i].rows, band->places[i].lane};
        step_start(way.cell, shape, s, at, group, band->sums[i].sum);
    }
    add_pieces(way, tiles, s, band, group);
    for (size_t i = 0; i < band->count; i++) {
        const struct place at = band->places[i];
        const struct finish finish = {at.rows, way.groups, way.vectors, band->first + at.m, group, at.lane};
        step_finish(way.cell, s, &finish, band->sums[i].sum);
    }
}

/* The sums of a simple RNN need no memory of their own: h holds them until the activation. */
INLINE void step_columns(struct way way, const struct tiles *tiles, const struct kernel_step *s, struct band *band,
                         size_t rows, size_t group)
{
    band->from = s->start + band->first;
    band->to = s->h + band->first;
    add_pieces(way, tiles, s, band, group);
    for (size_t m = 0; m < rows; m++) {
        float *h = band->to[m] + group * KERNEL_BLOCK;
        for (size_t v = 0; v < way.groups * VECTORS; v++) vf_store(h + v * LANES, vf_tanh(vf_load(h + v * LANES)));
    }
}

/* Passes over as many whole `way.groups` groups as there are from `group` on. Returns the first group that is left. */
INLINE size_t step_groups(struct way way, const struct tiles *tiles, const struct kernel_step *s, size_t group)
{
    const size_t most = band_rows(s->rows);
    struct band band;
    for (; group + way.groups <= s->blocks; group += way.groups) {
        for (size_t m = 0; m < s->rows; m += most) {
            const size_t rows = s->rows - m < most ? s->rows - m : most;
            place_tiles(&band, way.vectors, m, rows);
            if (way.cell == STEP_RNN)
                step_columns(way, tiles, s, &band, rows, group);
            else
                step_gates(way, tiles, s, &band, group);
        }
    }
    return group;
}

void KERNEL(lstm_step)(const struct kernel_step *s)
{
    const struct tiles *tiles = tiles_of(s->hidden.format);
    if (s->rows == 1)
        tiles->single_step[STEP_LSTM](s);
    else
        step_groups((struct way){STEP_LSTM, 1, 1, TILE_LSTM, TILE_LSTM}, tiles, s, 0);
}

void KERNEL(gru_step)(const struct kernel_step *s)
{
    const struct tiles *tiles = tiles_of(s->hidden.format);
    if (s->rows == 1)
        tiles->single_step[STEP_GRU](s);
    else
        step_groups((struct way){STEP_GRU, 1, 1, TILE_GRU_INPUT, TILE_GRU_HIDDEN}, tiles, s, 0);
}

void KERNEL(rnn_step)(const struct kernel_step *s)
{
    const struct tiles *tiles = tiles_of(s->hidden.format);
    if (s->rows == 1) {
        tiles->single_step[STEP_RNN](s);
        return;
    }
    const struct way several = {STEP_RNN, COLUMN_GROUPS, VECTORS, TILE_COLUMNS, TILE_COLUMNS};
    const size_t group = step_groups(several, tiles, s, 0);
    step_groups((struct way){STEP_RNN, 1, VECTORS, TILE_ONE, TILE_ONE}, tiles, s, group);
}

/* ---- the output layer ---- */

/* Passes over as many whole `groups` groups as there are from `group` on. Returns the first group that is left. groups
 * and shape are constants at every call. biases: [BAND_ROWS] times the same. */
INLINE size_t project_groups(size_t groups, enum tile_shape shape, const struct tiles *tiles,
                             const struct projection *p, const float *const *biases, size_t group)
{
    const size_t most = band_rows(p->rows);
    struct band band;
    band.from = biases;
    for (; group + groups <= p->blocks; group += groups) {
        const struct piece piece = {p->matrix, group, 0, p->matrix->inputs};
        for (size_t m = 0; m < p->rows; m += most) {
            place_tiles(&band, VECTORS, m, p->rows - m < most ? p->rows - m : most);
            band.to = p->y + m;
            tiles->add[shape](&band, &piece, p->x + m, (struct ahead){0});
        }
    }
    return group;
}

void KERNEL(project)(size_t rows, size_t blocks, const struct kernel_matrix *matrix, const float *bias,
                     const void *const *x, float *const *y)
{
    const struct projection p = {rows, blocks, matrix, bias, x, y};
    const struct tiles *tiles = tiles_of(matrix->format);
    if (matrix->inputs == 0) {
        for (size_t m = 0; m < rows; m++) memcpy(y[m], bias, blocks * KERNEL_BLOCK * sizeof *bias);
        return;
    }
    if (rows == 1) {
        tiles->single_project(&p);
        return;
    }
    const float *biases[BAND_ROWS];
    for (size_t m = 0; m < BAND_ROWS; m++) biases[m] = bias;
    size_t group = project_groups(COLUMN_GROUPS, TILE_COLUMNS, tiles, &p, biases, 0);
#if HAS_TWO
    group = project_groups(2, TILE_TWO, tiles, &p, biases, group);
#endif
    project_groups(1, TILE_ONE, tiles, &p, biases, group);
}

/* ---- input products of several steps ---- */

INLINE void inputs_start(struct tile t, const struct kernel_inputs *p, struct place at, size_t group, vf *sum)
{
    const size_t row = t.gates * KERNEL_BLOCK;
    const float *start = p->start + group * row + at.lane;
    for (size_t m = 0; m < at.rows; m++)
        STEP_UNROLL for (size_t c = 0; c < columns_of(t); c++) sum[sum_index(t, m, c)] =
            vf_load(start + column_offset(t, row, c));
}

INLINE void inputs_finish(struct tile t, const struct kernel_inputs *p, struct place at, size_t group, const vf *sum)
{
    const size_t row = t.gates * KERNEL_BLOCK;
    float *y = p->y + at.m * p->ldy + group * row + at.lane;
    for (size_t m = 0; m < at.rows; m++)
        STEP_UNROLL for (size_t c = 0; c < columns_of(t); c++)
            vf_store(y + m * p->ldy + column_offset(t, row, c), sum[sum_index(t, m, c)]);
}

INLINE const void *inputs_row(const struct kernel_inputs *p, size_t m)
{
    const size_t size = p->matrix->format == KERNEL_INT8 ? sizeof(int16_t) : sizeof(float);
    return (const char *)p->x + m * p->ldx * size;
}

/* A band's rows of one group. cell and shape are constants at every call. */
INLINE void inputs_band(enum step_cell cell, enum tile_shape shape, const struct kernel_inputs *p, struct band *band,
                        const void *const *x, size_t group)
{
    const struct tile t = input_shape(cell, 1, 1, 1);
    const struct tiles *tiles = tiles_of(p->matrix->format);
    for (size_t i = 0; i < band->count; i++) inputs_start(t, p, band->places[i], group, band->sums[i].sum);
    for (size_t k = 0; k < p->matrix->inputs; k += STEP_DEPTH) {
        const struct piece piece = piece_at(p->matrix, group, k);
        tiles->add[shape](band, &piece, x, (struct ahead){0});
    }
    for (size_t i = 0; i < band->count; i++) {
        struct place at = band->places[i];
        at.m += band->first;
        inputs_finish(t, p, at, group, band->sums[i].sum);
    }
}

/* A group's weights serve all bands while they are in the nearest cache. */
INLINE void inputs_groups(enum step_cell cell, enum tile_shape shape, const struct kernel_inputs *p)
{
    const size_t most = band_rows(p->rows);
    const void *x[BAND_ROWS];
    struct band band;
    for (size_t group = 0; group < p->blocks; group++) {
        for (size_t m = 0; m < p->rows; m += most) {
            const size_t rows = p->rows - m < most ? p->rows - m : most;
            for (size_t i = 0; i < rows; i++) x[i] = inputs_row(p, m + i);
            place_tiles(&band, 1, m, rows);
            inputs_band(cell, shape, p, &band, x, group);
        }
    }
}

/* One gate: the output layer's product. */
static void inputs_of_one_gate(const struct kernel_inputs *p)
{
    const void *x[BAND_ROWS];
    float *y[BAND_ROWS];
    for (size_t m = 0; m < p->rows; m += BAND_ROWS) {
        const size_t rows = p->rows - m < BAND_ROWS ? p->rows - m : BAND_ROWS;
        for (size_t i = 0; i < rows; i++) {
            x[i] = inputs_row(p, m + i);
            y[i] = p->y + (m + i) * p->ldy;
        }
        KERNEL(project)(rows, p->blocks, p->matrix, p->start, x, y);
    }
}

void KERNEL(inputs)(const struct kernel_inputs *p)
{
    if (p->gates == 4)
        inputs_groups(STEP_LSTM, TILE_LSTM, p);
    else if (p->gates == 3)
        inputs_groups(STEP_GRU, TILE_GRU_INPUT, p);
    else
        inputs_of_one_gate(p);
}
