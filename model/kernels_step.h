/* Fused steps and the output layer, for any vector width: the second half of kernels_simd.h, which includes it. A file
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

/* Tile `index` of the `count` that pass over the same weights, one after the other. */
struct passing {
    size_t index, count;
    size_t next; /* the group whose weights are wanted afterwards; 0: none */
};
static const struct passing alone = {0, 1, 0};

/* Weights of the next groups are fetched while these are multiplied: memory would idle whenever a second tile of rows
 * passes over weights that are near. Each tile fetches its share. What is smaller than AHEAD_SMALLEST stays in the
 * cache by itself. */
#define LINE_BYTES     64
#define AHEAD_SMALLEST ((size_t)256 << 10) /* bytes of one gate's weights */
struct ahead {
    const char *from;
    size_t lines; /* per turn of the loop over inputs */
};

/* A group has `turns` turns of `bytes` bytes each; `groups` of them are wanted. */
INLINE struct ahead ahead_of(struct passing passing, const void *weights, size_t turns, size_t bytes, size_t groups)
{
    const size_t lines = (groups * bytes / LINE_BYTES + passing.count - 1) / passing.count;
    const size_t done = passing.index * lines * LINE_BYTES;
    if (passing.next == 0 || done >= groups * bytes) return (struct ahead){NULL, 0};
    return (struct ahead){(const char *)weights + (passing.next * bytes + done) * turns, lines};
}

INLINE void fetch_ahead(struct ahead *ahead)
{
    for (size_t i = 0; i < ahead->lines; i++, ahead->from += LINE_BYTES) __builtin_prefetch(ahead->from, 0, 2);
}

INLINE void accumulate_f32(struct tile t, const struct kernel_matrix *matrix, size_t group, size_t lane,
                           struct ahead ahead, const void *const *inputs, vf *sum)
{
    const size_t K = matrix->inputs, row = t.gates * KERNEL_BLOCK;
    const float *w = (const float *)matrix->weights + group * K * row + lane, *x[STEP_ROWS];
    STEP_UNROLL for (size_t m = 0; m < t.rows; m++) x[m] = inputs[m];
#pragma GCC unroll 2
    for (size_t k = 0; k < K; k++) {
        fetch_ahead(&ahead);
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
INLINE void accumulate_bf16(struct tile t, const struct kernel_matrix *matrix, size_t group, size_t lane,
                            struct ahead ahead, const void *const *inputs, vf *sum)
{
    const size_t pairs = matrix->inputs / 2, row = t.gates * KERNEL_BLOCK;
    const i32_any *w = (const i32_any *)matrix->weights + group * pairs * row + lane;
    const float *x[STEP_ROWS];
    STEP_UNROLL for (size_t m = 0; m < t.rows; m++) x[m] = inputs[m];
    for (size_t k = 0; k < pairs; k++) {
        fetch_ahead(&ahead);
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

INLINE void accumulate_int8(struct tile t, const struct kernel_matrix *matrix, const float *scale, size_t group,
                            size_t lane, struct ahead ahead, const void *const *inputs, vf *sum)
{
    const size_t pairs = matrix->inputs / 2, row = t.gates * KERNEL_BLOCK;
    const int8_t *w = (const int8_t *)matrix->weights + 2 * (group * pairs * row + lane);
    const i32_any *x[STEP_ROWS];
    vi integers[STEP_MAX_SUMS];
    STEP_UNROLL for (size_t m = 0; m < t.rows; m++) x[m] = inputs[m];
    STEP_UNROLL for (size_t i = 0; i < t.rows * columns_of(t); i++) integers[i] = (vi){0};
    for (size_t k = 0; k < pairs; k++) {
        fetch_ahead(&ahead);
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

/* sum += W x for the groups of the matrix from `group` on, from vector lane `lane` of each block. */
INLINE void accumulate(struct tile t, enum kernel_format format, const struct kernel_matrix *matrix, size_t group,
                       size_t lane, struct passing passing, const void *const *inputs, vf *sum)
{
    if (matrix->inputs == 0) return;
    const size_t row = t.gates * KERNEL_BLOCK, turns = format == KERNEL_F32 ? matrix->inputs : matrix->inputs / 2;
    const size_t bytes = format == KERNEL_INT8 ? 2 * row : 4 * row;
    const struct ahead ahead = ahead_of(passing, matrix->weights, turns, bytes, t.groups);
    if (format == KERNEL_F32) accumulate_f32(t, matrix, group, lane, ahead, inputs, sum);
    if (format == KERNEL_BF16) accumulate_bf16(t, matrix, group, lane, ahead, inputs, sum);
    if (format == KERNEL_INT8)
        accumulate_int8(t, matrix, matrix->scale + group * row + lane, group, lane, ahead, inputs, sum);
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

static __attribute__((noinline)) void lstm_finish(const struct kernel_step *s, const struct finish *f, const vf *gates)
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
static __attribute__((noinline)) void gru_finish(const struct kernel_step *s, const struct finish *f, const vf *gates)
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

static __attribute__((noinline)) void rnn_finish(const struct kernel_step *s, const struct finish *f, const vf *gates)
{
    for (size_t m = 0; m < f->rows; m++, gates += f->groups * f->vectors)
        for (size_t v = 0; v < f->groups * f->vectors; v++)
            vf_store(s->h[f->m0 + m] + finish_unit(f, v), vf_tanh(gates[v]));
}

INLINE void step_start(enum step_cell cell, struct tile t, const struct kernel_step *s, size_t m0, size_t group,
                       size_t lane, vf *sum)
{
    const size_t row = t.gates * KERNEL_BLOCK;
    STEP_UNROLL for (size_t m = 0; m < t.rows; m++)
    {
        const float *start = s->start[m0 + m] + group * row + lane;
        STEP_UNROLL for (size_t c = 0; c < columns_of(t); c++) sum[sum_index(t, m, c)] =
            vf_load(start + column_offset(t, row, c));
    }
    if (cell != STEP_GRU) return;
    struct tile hidden = t;
    hidden.first = 1;
    STEP_UNROLL for (size_t c = 0; c < columns_of(t); c++)
    {
        const vf bias = vf_load(s->bias_hh + group * row + lane + column_offset(t, row, c));
        const bool is_q = c / t.vectors % t.gates == 2; /* r and z have their input part already */
        STEP_UNROLL for (size_t m = 0; m < t.rows; m++)
        {
            const size_t i = sum_index(hidden, m, c);
            if (is_q)
                sum[i] = bias;
            else
                sum[i] += bias;
        }
    }
}

/* rows sequences from m0 on, `groups` groups of units from `group` on, `vectors` vectors from `lane` on. */
INLINE void step_tile(enum step_cell cell, enum kernel_format format, size_t rows, size_t groups, size_t vectors,
                      const struct kernel_step *s, size_t m0, size_t group, size_t lane, struct passing passing)
{
    const size_t gates = cell == STEP_LSTM ? 4 : cell == STEP_GRU ? 3 : 1, all = cell == STEP_GRU ? 4 : gates;
    const struct tile input = {rows, groups, vectors, all, 0, gates};
    const struct tile hidden = {rows, groups, vectors, all, cell == STEP_GRU, gates};
    vf sum[STEP_MAX_SUMS];
    step_start(cell, input, s, m0, group, lane, sum);
    if (s->input.inputs > 0) accumulate(input, format, &s->input, group, lane, passing, s->x + m0, sum);
    accumulate(hidden, format, &s->hidden, group, lane, passing, s->hidden_input + m0, sum);
    vf gate[STEP_MAX_SUMS]; /* sum is registers, this is memory */
    STEP_UNROLL for (size_t i = 0; i < rows * groups * all * vectors; i++) gate[i] = sum[i];
    const struct finish finish = {rows, groups, vectors, m0, group, lane};
    if (cell == STEP_LSTM) lstm_finish(s, &finish, gate);
    if (cell == STEP_GRU) gru_finish(s, &finish, gate);
    if (cell == STEP_RNN) rnn_finish(s, &finish, gate);
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
    vf sum[STEP_MAX_SUMS];
    STEP_UNROLL for (size_t c = 0; c < columns_of(t); c++)
    {
        const vf bias = vf_load(p->bias + group * KERNEL_BLOCK + column_offset(t, KERNEL_BLOCK, c));
        STEP_UNROLL for (size_t m = 0; m < rows; m++) sum[sum_index(t, m, c)] = bias;
    }
    accumulate(t, format, p->matrix, group, 0, alone, p->x + m0, sum);
    STEP_UNROLL for (size_t m = 0; m < rows; m++)
    {
        float *y = p->y[m0 + m] + group * KERNEL_BLOCK;
        STEP_UNROLL for (size_t c = 0; c < columns_of(t); c++)
            vf_store(y + column_offset(t, KERNEL_BLOCK, c), sum[sum_index(t, m, c)]);
    }
}

/* ------------------------------------------------------------------ all rows, all groups */

/* A tile of a height that is known at run time. */
INLINE void step_rows(enum step_cell cell, enum kernel_format format, size_t rows, size_t groups, size_t vectors,
                      const struct kernel_step *s, size_t m0, size_t group, size_t lane, struct passing passing)
{
    switch (rows) {
#if STEP_ROWS > 3
    case 6:
        step_tile(cell, format, 6, groups, vectors, s, m0, group, lane, passing);
        break;
    case 5:
        step_tile(cell, format, 5, groups, vectors, s, m0, group, lane, passing);
        break;
    case 4:
        step_tile(cell, format, 4, groups, vectors, s, m0, group, lane, passing);
        break;
#endif
    case 3:
        step_tile(cell, format, 3, groups, vectors, s, m0, group, lane, passing);
        break;
    case 2:
        step_tile(cell, format, 2, groups, vectors, s, m0, group, lane, passing);
        break;
    default:
        step_tile(cell, format, 1, groups, vectors, s, m0, group, lane, passing);
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

/* As many times `groups` groups as there are from `group` on; returns the first one that is left. Each group's weights
 * stay in a near cache while all rows pass over them. */
INLINE size_t step_groups(enum step_cell cell, enum kernel_format format, size_t groups, size_t vectors,
                          const struct kernel_step *s, size_t group)
{
    const size_t bytes = format == KERNEL_F32 ? 4 : format == KERNEL_BF16 ? 2 : 1;
    const size_t gate = bytes * (s->input.inputs + s->hidden.inputs) * KERNEL_BLOCK * s->blocks;
    const size_t tiles = (s->rows + STEP_ROWS - 1) / STEP_ROWS * (KERNEL_BLOCK / (vectors * LANES));
    for (; group + groups <= s->blocks; group += groups) {
        const size_t next = group + groups;
        struct passing passing = {0, tiles, gate >= AHEAD_SMALLEST && next < s->blocks ? next : 0};
        for (size_t m = 0, rows; m < s->rows; m += rows) {
            rows = next_rows(s->rows - m);
            for (size_t lane = 0; lane < KERNEL_BLOCK; lane += vectors * LANES, passing.index++)
                step_rows(cell, format, rows, groups, vectors, s, m, group, lane, passing);
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
    if (s->rows == 1) {
        for (; group + groups_1 <= s->blocks; group += groups_1)
            for (size_t lane = 0; lane < KERNEL_BLOCK; lane += vectors_1 * LANES)
                step_tile(cell, format, 1, groups_1, vectors_1, s, 0, group, lane, alone);
    }
    if (cell == STEP_RNN) group = step_groups(cell, format, COLUMN_GROUPS, VECTORS, s, group);
    step_groups(cell, format, 1, 1, s, group);
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
