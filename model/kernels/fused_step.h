/* Fused steps and the output layer, for any vector width: a part of kernels/simd.h, which includes it. A file
 * of an instruction set defines, besides what is listed there:
 *   STEP_ROWS        sequences of a register tile; each has 4 sums (the gates of LANES units, or 4 vectors of outputs)
 *   STEP_1_GROUPS, STEP_1_VECTORS  a single sequence: groups of 16 units at once, vectors of each; 8 sums or 16
 *   vs_widen(p)      2 * LANES int8_t -> as many int16_t in a vs
 *   vi_dot(s, a, b)  s + a[2i] * b[2i] + a[2i + 1] * b[2i + 1] for each of LANES sums
 *
 * A tile is rows x columns of sums; a column is one vector of outputs. Column c of a tile is vector c % vectors of gate
 * c / vectors % gates of group c / vectors / gates. All these sizes are constants at every call, so that the sums are
 * registers and the loops over them disappear.
 */

typedef int16_t vs __attribute__((vector_size(4 * LANES), aligned(2), may_alias));
typedef int32_t vi_any __attribute__((vector_size(4 * LANES), aligned(1), may_alias));
typedef int32_t i32_any __attribute__((aligned(1), may_alias));

#define STEP_COLUMNS  4 /* of a tile with several rows */
#define STEP_MAX_SUMS (STEP_ROWS * STEP_COLUMNS > 16 ? STEP_ROWS * STEP_COLUMNS : 16)
#define STEP_UNROLL   _Pragma("GCC unroll 24")

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

INLINE struct piece whole(const struct kernel_matrix *matrix, size_t group)
{
    return (struct piece){matrix, group, 0, matrix->inputs};
}

INLINE void accumulate_f32(struct tile t, struct piece piece, size_t lane, const void *const *inputs, vf *sum)
{
    const size_t K = piece.matrix->inputs, row = t.gates * KERNEL_BLOCK;
    const float *w = (const float *)piece.matrix->weights + (piece.group * K + piece.first) * row + lane;
    const float *x[STEP_ROWS];
    STEP_UNROLL for (size_t m = 0; m < t.rows; m++) x[m] = (const float *)inputs[m] + piece.first;
#pragma GCC unroll 1 /* as in tile() */
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

/* The sums of a tile while pieces are added to them. */
struct sums {
    vf sum[STEP_MAX_SUMS];
    vi integers[STEP_MAX_SUMS]; /* INT8: of the matrix that is being added */
};

/* sums += W x for the inputs of a piece, from vector lane `lane` of each block. In registers meanwhile. */
INLINE void accumulate(struct tile t, enum kernel_format format, struct piece piece, size_t lane,
                       const void *const *inputs, struct sums *sums)
{
    const size_t all = t.rows * t.groups * t.all * t.vectors, count = t.rows * columns_of(t);
    vf sum[STEP_MAX_SUMS];
    vi integers[STEP_MAX_SUMS];
    if (format == KERNEL_INT8) {
        const bool begins = piece.first == 0;
        STEP_UNROLL for (size_t i = 0; i < count; i++) integers[i] = begins ? (vi){0} : sums->integers[i];
        accumulate_int8(t, piece, lane, inputs, integers);
        if (piece.first + piece.count == piece.matrix->inputs)
            add_scaled(t, piece.matrix, piece.group, lane, integers, sums->sum);
        else
            STEP_UNROLL for (size_t i = 0; i < count; i++) sums->integers[i] = integers[i];
        return;
    }
    STEP_UNROLL for (size_t i = 0; i < all; i++) sum[i] = sums->sum[i];
    if (format == KERNEL_F32) accumulate_f32(t, piece, lane, inputs, sum);
    if (format == KERNEL_BF16) accumulate_bf16(t, piece, lane, inputs, sum);
    STEP_UNROLL for (size_t i = 0; i < all; i++) sums->sum[i] = sum[i];
}

/* ------------------------------------------------------------------ cells */

enum step_cell { STEP_LSTM, STEP_GRU, STEP_RNN };

/* What is left once the sums are there: gates [rows][groups][all][vectors]. Not inline: every tile would carry it. */
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

/* Tiles of `rows` rows (a constant at every call) and of `groups` groups, `vectors` vectors of each. */
INLINE struct tile step_shape(enum step_cell cell, size_t rows, size_t groups, size_t vectors, bool hidden)
{
    const size_t gates = cell == STEP_LSTM ? 4 : cell == STEP_GRU ? 3 : 1, all = cell == STEP_GRU ? 4 : gates;
    return (struct tile){rows, groups, vectors, all, hidden && cell == STEP_GRU, gates};
}

INLINE void step_add(enum step_cell cell, enum kernel_format format, size_t rows, size_t groups, size_t vectors,
                     const struct kernel_step *s, struct piece piece, struct place at, struct sums *sums)
{
    if (piece.matrix == &s->input)
        accumulate(step_shape(cell, rows, groups, vectors, false), format, piece, at.lane, s->x + at.m, sums);
    else
        accumulate(step_shape(cell, rows, groups, vectors, true), format, piece, at.lane, s->hidden_input + at.m, sums);
}

/* ------------------------------------------------------------------ the output layer */

struct projection {
    const struct kernel_matrix *matrix;
    const float *bias;
    const void *const *x;
    float *const *y;
};

INLINE void project_tile(enum kernel_format format, size_t rows, size_t groups, size_t vectors,
                         const struct projection *p, size_t m0, size_t group)
{
    const struct tile t = {rows, groups, vectors, 1, 0, 1};
    struct sums sums;
    STEP_UNROLL for (size_t c = 0; c < columns_of(t); c++)
    {
        const vf bias = vf_load(p->bias + group * KERNEL_BLOCK + column_offset(t, KERNEL_BLOCK, c));
        STEP_UNROLL for (size_t m = 0; m < rows; m++) sums.sum[sum_index(t, m, c)] = bias;
    }
    if (p->matrix->inputs > 0) accumulate(t, format, whole(p->matrix, group), 0, p->x + m0, &sums);
    STEP_UNROLL for (size_t m = 0; m < rows; m++)
    {
        float *y = p->y[m0 + m] + group * KERNEL_BLOCK;
        STEP_UNROLL for (size_t c = 0; c < columns_of(t); c++)
            vf_store(y + column_offset(t, KERNEL_BLOCK, c), sums.sum[sum_index(t, m, c)]);
    }
}

/* ------------------------------------------------------------------ all rows, all groups */

/* A tile of a height that is known at run time, `most` at most. */
INLINE void step_add_rows(enum step_cell cell, enum kernel_format format, size_t most, size_t groups, size_t vectors,
                          const struct kernel_step *s, struct piece piece, struct place at, struct sums *sums)
{
    switch (most == 1 ? 1 : at.rows) {
#if STEP_ROWS > 3
    case 6:
        step_add(cell, format, 6, groups, vectors, s, piece, at, sums);
        break;
    case 5:
        step_add(cell, format, 5, groups, vectors, s, piece, at, sums);
        break;
    case 4:
        step_add(cell, format, 4, groups, vectors, s, piece, at, sums);
        break;
#endif
    case 3:
        step_add(cell, format, 3, groups, vectors, s, piece, at, sums);
        break;
    case 2:
        step_add(cell, format, 2, groups, vectors, s, piece, at, sums);
        break;
    default:
        step_add(cell, format, 1, groups, vectors, s, piece, at, sums);
        break;
    }
}

INLINE void project_rows(enum kernel_format format, size_t rows, size_t groups, const struct projection *p, size_t m0,
                         size_t group)
{
    switch (rows) {
#if STEP_ROWS > 3
    case 6:
        project_tile(format, 6, groups, VECTORS, p, m0, group);
        break;
    case 5:
        project_tile(format, 5, groups, VECTORS, p, m0, group);
        break;
    case 4:
        project_tile(format, 4, groups, VECTORS, p, m0, group);
        break;
#endif
    case 3:
        project_tile(format, 3, groups, VECTORS, p, m0, group);
        break;
    case 2:
        project_tile(format, 2, groups, VECTORS, p, m0, group);
        break;
    default:
        project_tile(format, 1, groups, VECTORS, p, m0, group);
        break;
    }
}

/* The rows of the next tile when `left` are left: tiles of nearly equal height, for a thin one at the end would use few
 * of the registers. */
INLINE size_t next_rows(size_t left)
{
    const size_t tiles = (left + STEP_ROWS - 1) / STEP_ROWS;
    return (left + tiles - 1) / tiles;
}

/* Where several tiles pass over a group's weights, they do so STEP_DEPTH inputs at a time, for which the weights of a
 * group's 4 gates stay in the first-level cache: the cache beyond it delivers no faster than a tile multiplies. That
 * costs nothing but storing and loading the sums, which have the same bits. A band is as many sequences as do so
 * together. */
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

/* In the order of multiplying: the input's pieces, the hidden state's, the next group (which a further band of
 * sequences may come before). Its count is 0 after the last. */
INLINE struct piece piece_after(const struct band *band, const struct kernel_step *s, struct piece piece)
{
    const size_t first = piece.first + piece.count, group = piece.group + band->groups;
    if (first < piece.matrix->inputs) return piece_at(band, piece.matrix, piece.group, first);
    if (piece.matrix == &s->input) return piece_at(band, &s->hidden, piece.group, 0);
    if (group + band->groups > s->blocks) return (struct piece){&s->hidden, group, 0, 0};
    return first_piece(band, s, group);
}

/* Fetches tile i's share of the next piece's weights, so that memory does not idle while others are multiplied: of a
 * piece of one group, whose weights lie together. */
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

/* One group, or `groups` at once, for all sequences of a band. */
INLINE void step_band(enum step_cell cell, enum kernel_format format, size_t most, size_t groups, size_t vectors,
                      const struct kernel_step *s, struct band *band, size_t group)
{
    const struct tile shape = step_shape(cell, 1, groups, vectors, false);
    /* A single sequence's pass is one stream, which the processor foresees by itself; nearly so are several groups. */
    const bool fetches = most > 1 && groups == 1;
    for (size_t i = 0; i < band->count; i++) step_start(cell, shape, s, band->places[i], group, band->sums[i].sum);
    for (struct piece piece = first_piece(band, s, group), next; piece.group == group; piece = next) {
        next = piece_after(band, s, piece);
        for (size_t i = 0; i < band->count; i++) {
            if (fetches) fetch(band, format, shape.gates, next, i);
            step_add_rows(cell, format, most, groups, vectors, s, piece, band->places[i], &band->sums[i]);
        }
    }
    for (size_t i = 0; i < band->count; i++) {
        const struct place at = band->places[i];
        const struct finish finish = {at.rows, groups, vectors, at.m, group, at.lane};
        if (cell == STEP_LSTM) lstm_finish(s, &finish, band->sums[i].sum);
        if (cell == STEP_GRU) gru_finish(s, &finish, band->sums[i].sum);
        if (cell == STEP_RNN) rnn_finish(s, &finish, band->sums[i].sum);
    }
}

/* As many times `groups` groups as there are from `group` on; returns the first one that is left. */
INLINE size_t step_groups(enum step_cell cell, enum kernel_format format, size_t most, size_t groups, size_t vectors,
                          const struct kernel_step *s, size_t group)
{
    struct band band;
    band.groups = groups;
    band.depth = most == 1 ? SIZE_MAX : STEP_DEPTH;
    const size_t bands = (s->rows + BAND_ROWS - 1) / BAND_ROWS, rows = (s->rows + bands - 1) / bands;
    for (; group + groups <= s->blocks; group += groups) {
        for (size_t m = 0; m < s->rows; m += rows) {
            place_tiles(&band, most, vectors, m, s->rows - m < rows ? s->rows - m : rows);
            step_band(cell, format, most, groups, vectors, s, &band, group);
        }
    }
    return group;
}

INLINE size_t project_groups(enum kernel_format format, size_t rows, size_t blocks, size_t groups,
                             const struct projection *p, size_t group)
{
    for (; group + groups <= blocks; group += groups) {
        for (size_t m = 0, height; m < rows; m += height) {
            height = next_rows(rows - m);
            project_rows(format, height, groups, p, m, group);
        }
    }
    return group;
}

#define COLUMN_GROUPS   (STEP_COLUMNS / VECTORS) /* groups of one gate in a tile with several rows */
#define COLUMN_1_GROUPS (2 * COLUMN_GROUPS)      /* with one row */

INLINE void step_all(enum step_cell cell, enum kernel_format format, const struct kernel_step *s)
{
    const size_t groups_1 = cell == STEP_RNN ? COLUMN_1_GROUPS : STEP_1_GROUPS;
    const size_t vectors_1 = cell == STEP_RNN ? VECTORS : STEP_1_VECTORS;
    size_t group = 0;
    if (s->rows == 1) group = step_groups(cell, format, 1, groups_1, vectors_1, s, group);
    if (cell == STEP_RNN) group = step_groups(cell, format, STEP_ROWS, COLUMN_GROUPS, VECTORS, s, group);
    step_groups(cell, format, STEP_ROWS, 1, 1, s, group);
}

/* One function per format: one of all would take the compiler too long. */
#define DEFINE_STEP(name, cell)                                                                                        \
    static void name##_step_f32(const struct kernel_step *s)                                                           \
    {                                                                                                                  \
        step_all(cell, KERNEL_F32, s);                                                                                 \
    }                                                                                                                  \
    static void name##_step_bf16(const struct kernel_step *s)                                                          \
    {                                                                                                                  \
        step_all(cell, KERNEL_BF16, s);                                                                                \
    }                                                                                                                  \
    static void name##_step_int8(const struct kernel_step *s)                                                          \
    {                                                                                                                  \
        step_all(cell, KERNEL_INT8, s);                                                                                \
    }                                                                                                                  \
    static void name##_step(const struct kernel_step *s)                                                               \
    {                                                                                                                  \
        static void (*const of[])(const struct kernel_step *) = {                                                      \
            [KERNEL_F32] = name##_step_f32, [KERNEL_BF16] = name##_step_bf16, [KERNEL_INT8] = name##_step_int8};       \
        of[s->hidden.format](s);                                                                                       \
    }
DEFINE_STEP(lstm, STEP_LSTM)
DEFINE_STEP(gru, STEP_GRU)
DEFINE_STEP(rnn, STEP_RNN)

INLINE void project_all(enum kernel_format format, size_t rows, size_t blocks, const struct projection *p)
{
    size_t group = 0;
    if (rows == 1) {
        for (; group + COLUMN_1_GROUPS <= blocks; group += COLUMN_1_GROUPS)
            project_tile(format, 1, COLUMN_1_GROUPS, VECTORS, p, 0, group);
    }
    group = project_groups(format, rows, blocks, COLUMN_GROUPS, p, group);
    if (COLUMN_GROUPS > 2) group = project_groups(format, rows, blocks, 2, p, group);
    project_groups(format, rows, blocks, 1, p, group);
}

static void project_f32(size_t rows, size_t blocks, const struct projection *p)
{
    project_all(KERNEL_F32, rows, blocks, p);
}

static void project_bf16(size_t rows, size_t blocks, const struct projection *p)
{
    project_all(KERNEL_BF16, rows, blocks, p);
}

static void project_int8(size_t rows, size_t blocks, const struct projection *p)
{
    project_all(KERNEL_INT8, rows, blocks, p);
}

static void project(size_t rows, size_t blocks, const struct kernel_matrix *matrix, const float *bias,
                    const void *const *x, float *const *y)
{
    const struct projection p = {matrix, bias, x, y};
    static void (*const of[])(size_t, size_t, const struct projection *) = {
        [KERNEL_F32] = project_f32, [KERNEL_BF16] = project_bf16, [KERNEL_INT8] = project_int8};
    of[matrix->format](rows, blocks, &p);
}

static void quantize(size_t n, const float *x, float factor, int32_t limit, int16_t *out)
{
    const vf most = vf_set((float)limit);
    size_t i = 0;
    for (; i + LANES <= n; i += LANES) {
        const vf scaled = vf_max(-most, vf_min(most, vf_load(x + i) * factor));
        const vi integers = (vi)(scaled + EXP_ROUND) - EXP_ROUND_BITS;
        for (size_t l = 0; l < LANES; l++) out[i + l] = (int16_t)integers[l];
    }
    for (; i < n; i++) out[i] = (int16_t)lrintf(fmaxf(-(float)limit, fminf((float)limit, x[i] * factor)));
}
