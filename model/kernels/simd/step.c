/* Fused steps and the output layer. This file goes over rows and groups; the tiles (tiles.h) multiply. */
#include "model/kernels/simd/tiles.h"

/* ---- cells ---- */

enum step_cell { STEP_LSTM, STEP_GRU, STEP_RNN };

/* The gates and the new state, once the sums are there: gates [rows][groups][all][vectors]. Not inline, because every
 * use would carry a copy. */
struct finish {
    size_t rows, groups, vectors, m0, group, lane;
};

INLINE size_t finish_unit(const struct finish *f, size_t v)
{
    return (f->group + v / f->vectors) * KERNEL_BLOCK + f->lane + v % f->vectors * LANES;
}

static NOINLINE void lstm_finish(const struct kernel_step *s, const struct finish *f, const vf *gates)
{
    const size_t vectors = f->vectors;
    for (size_t m = 0; m < f->rows; m++, gates += 4 * vectors * f->groups) {
        for (size_t v = 0; v < f->groups * vectors; v++) {
            const vf *gate = gates + v / vectors * 4 * vectors + v % vectors;
            const vf in = vf_sigmoid(gate[0]), forget = vf_sigmoid(gate[vectors]);
            const vf g = vf_tanh(gate[2 * vectors]), out = vf_sigmoid(gate[3 * vectors]);
            float *c = s->c[f->m0 + m] + finish_unit(f, v);
            const vf cell = vf_fma(forget, vf_load(c), in * g);
            vf_store(c, cell);
            vf_store(s->h[f->m0 + m] + finish_unit(f, v), out * vf_tanh(cell));
        }
    }
}

/* gates: n of the input, r, z, q */
static NOINLINE void gru_finish(const struct kernel_step *s, const struct finish *f, const vf *gates)
{
    const size_t vectors = f->vectors;
    for (size_t m = 0; m < f->rows; m++, gates += 4 * vectors * f->groups) {
        for (size_t v = 0; v < f->groups * vectors; v++) {
            const vf *gate = gates + v / vectors * 4 * vectors + v % vectors;
            const vf r = vf_sigmoid(gate[vectors]), z = vf_sigmoid(gate[2 * vectors]);
            const vf n = vf_tanh(vf_fma(r, gate[3 * vectors], gate[0]));
            const vf h = vf_load(s->h_previous[f->m0 + m] + finish_unit(f, v));
            vf_store(s->h[f->m0 + m] + finish_unit(f, v), vf_fma(z, h - n, n));
        }
    }
}

static NOINLINE void rnn_finish(const struct kernel_step *s, const struct finish *f, const vf *gates)
{
    for (size_t m = 0; m < f->rows; m++, gates += f->groups * f->vectors)
        for (size_t v = 0; v < f->groups * f->vectors; v++)
            vf_store(s->h[f->m0 + m] + finish_unit(f, v), vf_tanh(gates[v]));
}

/* A tile's place among all sums: `rows` sequences from m on, vector lanes from `lane` of each block on. */
struct place {
    size_t m, rows, lane;
};

/* Biases, or the one-hot input's column. */
INLINE void step_start(enum step_cell cell, struct tile t, const struct kernel_step *s, struct place at, size_t group,
                       vf *sum)
{
    const size_t row = t.gates * KERNEL_BLOCK;
    struct tile hidden = t;
    hidden.first = 1;
    for (size_t m = 0; m < at.rows; m++) {
        const float *start = s->start[at.m + m] + group * row + at.lane;
        STEP_UNROLL for (size_t c = 0; c < columns_of(t); c++) sum[sum_index(t, m, c)] =
            vf_load(start + column_offset(t, row, c));
        if (cell != STEP_GRU) continue;
        STEP_UNROLL for (size_t c = 0; c < columns_of(t); c++)
        {
            const vf bias = vf_load(s->bias_hh + group * row + at.lane + column_offset(t, row, c));
            const size_t i = sum_index(hidden, m, c);
            const bool is_q = c / t.vectors % t.gates == 2; /* r and z have their input part already */
            if (is_q)
                sum[i] = bias;
            else
                sum[i] += bias;
        }
    }
}

/* How a cell passes over its weights: how many rows a tile has at most, how many groups, how many vectors of each, and
 * the tiles of both matrices. Constants at every call. */
struct way {
    enum step_cell cell;
    size_t most, groups, vectors;
    enum tile_shape input, hidden;
};

/* The shape of the input's sums, of one row. */
INLINE struct tile start_shape(struct way way)
{
    const size_t gates = way.cell == STEP_LSTM ? 4 : way.cell == STEP_GRU ? 3 : 1;
    return (struct tile){1, way.groups, way.vectors, way.cell == STEP_GRU ? 4 : gates, 0, gates};
}

static const struct tiles *tiles_of(enum kernel_format format)
{
    return format == KERNEL_F32    ? &FLOAT_TILES(tiles_f32)
           : format == KERNEL_BF16 ? &FLOAT_TILES(tiles_bf16)
                                   : &KERNEL(tiles_int8);
}

/* ---- all rows, all groups ---- */

/* The rows of the next tile when `left` are left. Tiles are of nearly equal height, because a thin tile at the end
 * would use few registers. */
INLINE size_t next_rows(size_t left)
{
    const size_t tiles = (left + STEP_ROWS - 1) / STEP_ROWS;
    return (left + tiles - 1) / tiles;
}

/* Several tiles pass over a group's weights STEP_DEPTH inputs at a time: the weights of so many inputs and 4 gates stay
 * in the first-level cache, and the cache beyond it delivers no faster than a tile multiplies. The only cost is that
 * the sums are stored and loaded again; their bits stay the same. A band is the sequences that do so together. */
#define STEP_DEPTH 64
#define BAND_ROWS  36
#define LINE_BYTES 64
#define BAND_TILES (BAND_ROWS / STEP_ROWS * VECTORS)
_Static_assert(BAND_ROWS % STEP_ROWS == 0, "a whole band fills its tiles");
_Static_assert(STEP_DEPTH % KERNEL_BLOCK == 0, "a piece is whole blocks");

struct band {
    size_t groups, depth; /* of a piece */
    size_t count;         /* of tiles */
    struct place places[BAND_TILES];
    struct sums sums[BAND_TILES];
};

INLINE struct piece piece_at(const struct band *band, const struct kernel_matrix *matrix, size_t group, size_t first)
{
    const size_t left = matrix->inputs - first;
    return (struct piece){matrix, group, first, left < band->depth ? left : band->depth};
}

INLINE struct piece first_piece(const struct band *band, const struct kernel_step *s, size_t group)
{
    return piece_at(band, s->input.inputs > 0 ? &s->input : &s->hidden, group, 0);
}

/* The order of pieces: the input's, the hidden state's, those of the next group (another band of sequences may come
 * before). The count is 0 after the last piece. */
INLINE struct piece piece_after(const struct band *band, const struct kernel_step *s, struct piece piece)
{
    const size_t first = piece.first + piece.count, group = piece.group + band->groups;
    if (first < piece.matrix->inputs) return piece_at(band, piece.matrix, piece.group, first);
    if (piece.matrix == &s->input) return piece_at(band, &s->hidden, piece.group, 0);
    if (group + band->groups > s->blocks) return (struct piece){&s->hidden, group, 0, 0};
    return first_piece(band, s, group);
}

/* Fetches tile i's share of the next piece's weights, so that memory does not idle while this piece is multiplied. The
 * piece is of one group, whose weights lie together. */
INLINE void fetch(const struct band *band, enum kernel_format format, size_t gates, struct piece next, size_t i)
{
    const size_t bytes = (format == KERNEL_F32 ? 4 : format == KERNEL_BF16 ? 2 : 1) * gates * KERNEL_BLOCK;
    const size_t size = next.count * bytes, share = (size / LINE_BYTES + band->count - 1) / band->count * LINE_BYTES;
    const char *from = (const char *)next.matrix->weights + (next.group * next.matrix->inputs + next.first) * bytes;
    for (size_t at = i * share; at < (i + 1) * share && at < size; at += LINE_BYTES)
        __builtin_prefetch(from + at, 0, 2);
}

/* The sequences from m on, `rows` of them in tiles of `most` at most. */
INLINE void place_tiles(struct band *band, size_t most, size_t vectors, size_t m, size_t rows)
{
    band->count = 0;
    for (size_t end = m + rows, height; m < end; m += height) {
        height = most == 1 ? 1 : next_rows(end - m);
        for (size_t lane = 0; lane < KERNEL_BLOCK; lane += vectors * LANES)
            band->places[band->count++] = (struct place){m, height, lane};
    }
}

/* One group, or several at once, for all sequences of a band. */
INLINE void step_band(struct way way, const struct kernel_step *s, struct band *band, size_t group)
{
    const struct tile shape = start_shape(way);
    const struct tiles *tiles = tiles_of(s->hidden.format);
    /* The processor prefetches a single sequence's pass by itself, for it is one stream; several groups nearly are. */
    const bool fetches = way.most > 1 && way.groups == 1;
    for (size_t i = 0; i < band->count; i++) step_start(way.cell, shape, s, band->places[i], group, band->sums[i].sum);
    for (struct piece piece = first_piece(band, s, group), next; piece.group == group; piece = next) {
        const bool is_input = piece.matrix == &s->input;
        tile_add *const *add = tiles->of[is_input ? way.input : way.hidden];
        const void *const *inputs = is_input ? s->x : s->hidden_input;
        next = piece_after(band, s, piece);
        for (size_t i = 0; i < band->count; i++) {
            const struct place at = band->places[i];
            if (fetches) fetch(band, s->hidden.format, shape.gates, next, i);
            add[at.rows - 1](&piece, at.lane, inputs + at.m, &band->sums[i]);
        }
    }
    for (size_t i = 0; i < band->count; i++) {
        const struct place at = band->places[i];
        const struct finish finish = {at.rows, way.groups, way.vectors, at.m, group, at.lane};
        if (way.cell == STEP_LSTM) lstm_finish(s, &finish, band->sums[i].sum);
        if (way.cell == STEP_GRU) gru_finish(s, &finish, band->sums[i].sum);
        if (way.cell == STEP_RNN) rnn_finish(s, &finish, band->sums[i].sum);
    }
}

/* Passes over as many whole `way.groups` groups as there are from `group` on. Returns the first group that is left. */
INLINE size_t step_groups(struct way way, const struct kernel_step *s, size_t group)
{
    struct band band;
    band.groups = way.groups;
    band.depth = way.most == 1 ? SIZE_MAX : STEP_DEPTH;
    const size_t bands = (s->rows + BAND_ROWS - 1) / BAND_ROWS, rows = (s->rows + bands - 1) / bands;
    for (; group + way.groups <= s->blocks; group += way.groups) {
        for (size_t m = 0; m < s->rows; m += rows) {
            place_tiles(&band, way.most, way.vectors, m, s->rows - m < rows ? s->rows - m : rows);
            step_band(way, s, &band, group);
        }
    }
    return group;
}

void KERNEL(lstm_step)(const struct kernel_step *s)
{
    const struct way one = {STEP_LSTM, 1, STEP_1_GROUPS, STEP_1_VECTORS, TILE_LSTM_1, TILE_LSTM_1};
    const struct way several = {STEP_LSTM, STEP_ROWS, 1, 1, TILE_LSTM, TILE_LSTM};
    step_groups(several, s, s->rows == 1 ? step_groups(one, s, 0) : 0);
}

void KERNEL(gru_step)(const struct kernel_step *s)
{
    const struct way one = {STEP_GRU, 1, STEP_1_GROUPS, STEP_1_VECTORS, TILE_GRU_INPUT_1, TILE_GRU_HIDDEN_1};
    const struct way several = {STEP_GRU, STEP_ROWS, 1, 1, TILE_GRU_INPUT, TILE_GRU_HIDDEN};
    step_groups(several, s, s->rows == 1 ? step_groups(one, s, 0) : 0);
}

void KERNEL(rnn_step)(const struct kernel_step *s)
{
    const struct way one = {STEP_RNN, 1, COLUMN_1_GROUPS, VECTORS, TILE_COLUMNS_1, TILE_COLUMNS_1};
    const struct way several = {STEP_RNN, STEP_ROWS, COLUMN_GROUPS, VECTORS, TILE_COLUMNS, TILE_COLUMNS};
    const struct way rest = {STEP_RNN, STEP_ROWS, 1, VECTORS, TILE_SINGLE, TILE_SINGLE};
    size_t group = s->rows == 1 ? step_groups(one, s, 0) : 0;
    group = step_groups(several, s, group);
    step_groups(rest, s, group);
}

/* ---- the output layer ---- */

struct projection {
    const struct kernel_matrix *matrix;
    const float *bias;
    const void *const *x;
    float *const *y;
    const struct tiles *tiles;
};

/* groups and shape are constants at every call. */
INLINE void project_tile(size_t rows, size_t groups, enum tile_shape shape, const struct projection *p, size_t m0,
                         size_t group)
{
    const struct tile t = {1, groups, VECTORS, 1, 0, 1};
    const struct piece piece = {p->matrix, group, 0, p->matrix->inputs};
    struct sums sums;
    STEP_UNROLL for (size_t c = 0; c < columns_of(t); c++)
    {
        const vf bias = vf_load(p->bias + group * KERNEL_BLOCK + column_offset(t, KERNEL_BLOCK, c));
        for (size_t m = 0; m < rows; m++) sums.sum[sum_index(t, m, c)] = bias;
    }
    if (p->matrix->inputs > 0) p->tiles->of[shape][rows - 1](&piece, 0, p->x + m0, &sums);
    for (size_t m = 0; m < rows; m++) {
        float *y = p->y[m0 + m] + group * KERNEL_BLOCK;
        STEP_UNROLL for (size_t c = 0; c < columns_of(t); c++)
            vf_store(y + column_offset(t, KERNEL_BLOCK, c), sums.sum[sum_index(t, m, c)]);
    }
}

INLINE size_t project_groups(size_t rows, size_t blocks, size_t groups, enum tile_shape shape,
                             const struct projection *p, size_t group)
{
    for (; group + groups <= blocks; group += groups) {
        for (size_t m = 0, height; m < rows; m += height) {
            height = next_rows(rows - m);
            project_tile(height, groups, shape, p, m, group);
        }
    }
    return group;
}

void KERNEL(project)(size_t rows, size_t blocks, const struct kernel_matrix *matrix, const float *bias,
                     const void *const *x, float *const *y)
{
    const struct projection p = {matrix, bias, x, y, tiles_of(matrix->format)};
    size_t group = 0;
    if (rows == 1) group = project_groups(1, blocks, COLUMN_1_GROUPS, TILE_COLUMNS_1, &p, group);
    group = project_groups(rows, blocks, COLUMN_GROUPS, TILE_COLUMNS, &p, group);
#if STEP_COLUMNS * LANES / KERNEL_BLOCK > 2
    group = project_groups(rows, blocks, 2, TILE_TWO, &p, group);
#endif
    project_groups(rows, blocks, 1, TILE_SINGLE, &p, group);
}
