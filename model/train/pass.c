#include "model/train/pass.h"

#include <math.h>
#include <string.h>

#include "base/size.h"
#include "model/train/cell.h"
#include "model/train/dropout.h"

#define BLOCK        KERNEL_BLOCK
#define CHUNK_FLOATS ((size_t)1 << 20) /* of logits kept at once: 4 MiB */

/* ------------------------------------------------------------------ memory */

/* Counts, or takes, the memory: one description of both. */
struct taker {
    struct arena *arena; /* NULL: only count */
    size_t floats;
    bool overflow;
    struct error *err;
    bool failed;
};

static float *take_floats(struct taker *taker, size_t rows, size_t columns)
{
    size_t count;
    if (!size_multiply(rows, columns, &count) || !size_add(taker->floats, count + ARENA_ALIGNMENT, &taker->floats))
        taker->overflow = true;
    if (!taker->arena || taker->overflow || taker->failed) return NULL;
    float *memory = arena_alloc(taker->arena, count, sizeof(float), "the training window", taker->err);
    if (!memory) taker->failed = true;
    return memory;
}

static void take_layer(struct pass_layer *layer, const struct packed_network *packed, size_t rows, struct taker *taker)
{
    const struct cell *cell = &cell_table[packed->architecture.cell];
    layer->gates_x = take_floats(taker, rows, packed->gate_row);
    if (cell->apart) layer->gates_h = take_floats(taker, rows, packed->gate_row);
    layer->h = take_floats(taker, rows, packed->hidden);
    layer->h_previous = take_floats(taker, rows, packed->hidden);
    if (cell->states == 1) return;
    layer->c = take_floats(taker, rows, packed->hidden);
    layer->c_previous = take_floats(taker, rows, packed->hidden);
}

static void take_all(struct pass *pass, const struct packed_network *packed, struct taker *taker)
{
    const struct architecture *a = &packed->architecture;
    const size_t rows = pass->options.streams * pass->options.window, Hp = packed->hidden;
    const size_t widest = Hp > packed->embedding_width ? Hp : packed->embedding_width;

    for (size_t k = 0; k < a->layers; k++) take_layer(&pass->layers[k], packed, rows, taker);
    for (size_t k = 0; k <= a->layers; k++) {
        struct pass_input *input = &pass->inputs[k];
        input->width = k > 0 ? Hp : packed->embedding_width;
        const bool dropped = pass->options.dropout > 0 && input->width > 0;
        if (dropped || (k == 0 && input->width > 0)) input->values = take_floats(taker, rows, input->width);
        if (dropped) input->mask = take_floats(taker, rows, input->width);
    }
    pass->gradient = take_floats(taker, rows, widest);
    pass->gradient_below = take_floats(taker, rows, widest);
    pass->dh = take_floats(taker, pass->options.streams, Hp);
    pass->dc = take_floats(taker, pass->options.streams, Hp);
    pass->chunk = CHUNK_FLOATS / packed->vocabulary;
    if (pass->chunk < 1) pass->chunk = 1;
    if (pass->chunk > rows) pass->chunk = rows;
    pass->logits = take_floats(taker, pass->chunk, packed->vocabulary);
    pass->scratch = take_floats(taker, 1, KERNEL_SCRATCH(widest / BLOCK));
}

bool pass_open(struct pass *pass, const struct packed_network *packed, const struct kernels *kernels,
               const struct pass_options *options, struct arena *arena, struct error *err)
{
    *pass = (struct pass){.packed = packed, .kernels = kernels, .options = *options};
    struct taker taker = {.arena = arena, .err = err};
    take_all(pass, packed, &taker);
    if (taker.overflow)
        return error_set(err, ERROR_TOO_LARGE, "%zu streams of %zu steps are too many", options->streams,
                         options->window);
    return !taker.failed && gradients_open(&pass->gradients, packed, arena, err);
}

bool pass_bytes(const struct architecture *architecture, const struct pass_options *options, size_t *bytes)
{
    struct packed_network packed;
    packed_layout(&packed, architecture);
    struct pass pass = {.options = *options};
    struct taker taker = {.arena = NULL};
    size_t rows;
    if (!size_multiply(options->streams, options->window, &rows)) return false;
    take_all(&pass, &packed, &taker);
    return !taker.overflow && size_multiply(taker.floats, sizeof(float), bytes);
}

/* ------------------------------------------------------------------ forward */

static void apply_mask(size_t n, const float *mask, float *values)
{
    for (size_t i = 0; i < n; i++) values[i] *= mask[i];
}

/* Copies `below` (NULL: the values are there already) to the input's own memory, with dropout. */
static void drop_input(struct pass *pass, size_t place, const struct pass_window *window, const float *below)
{
    struct pass_input *input = &pass->inputs[place];
    const struct pass_options *options = &pass->options;
    const size_t n = options->streams, width = input->width;
    const struct dropout dropout = {.probability = options->dropout, .seed = options->seed, .step = window->step};
    for (size_t t = 0; t < window->T; t++) {
        for (size_t b = 0; b < n; b++) {
            const size_t at = (t * n + b) * width;
            if (below) memcpy(input->values + at, below + at, width * sizeof(float));
            const uint64_t row = (options->first_stream + b) * (uint64_t)options->window + t;
            dropout_draw(&dropout, (unsigned)place, row, width, input->mask + at);
            apply_mask(width, input->mask + at, input->values + at);
        }
    }
}

/* What the reader at `place` reads, after prepare_input(): [rows][width]. */
static const float *input_values(const struct pass *pass, size_t place, bool dropped)
{
    const struct pass_input *input = &pass->inputs[place];
    if (place > 0 && !dropped) return pass->layers[place - 1].h;
    return input->values;
}

static const float *prepare_input(struct pass *pass, size_t place, const struct pass_window *window)
{
    const struct packed_network *packed = pass->packed;
    const size_t E = packed->embedding_width, rows = window->T * pass->options.streams;
    const bool dropped = window->train && pass->inputs[place].mask;
    if (place == 0) {
        for (size_t r = 0; r < rows; r++)
            memcpy(pass->inputs[0].values + r * E, packed->embedding + window->inputs[r] * E, E * sizeof(float));
    }
    if (dropped) drop_input(pass, place, window, place > 0 ? pass->layers[place - 1].h : NULL);
    return input_values(pass, place, dropped);
}

/* y = bias + x * W for many rows. K inputs, N outputs, both in whole blocks. */
struct product {
    size_t rows, inputs, outputs;
    const float *x;       /* [rows][K] */
    const float *weights; /* packed [N/16][K][16] */
    const float *bias;    /* [N] */
    float *y;             /* [rows][N] */
};

static size_t rows_at_once(const struct kernels *kernels, size_t rows)
{
    return rows < kernels->window_rows ? rows : kernels->window_rows;
}

static void multiply_rows(const struct kernels *kernels, const struct product *product)
{
    const size_t K = product->inputs, N = product->outputs;
    for (size_t r = 0, m; r < product->rows; r += m) {
        m = rows_at_once(kernels, product->rows - r);
        float *y = product->y + r * N;
        for (size_t i = 0; i < m; i++) memcpy(y + i * N, product->bias, N * sizeof(float));
        kernels->product_of_window(&(struct kernel_product){.M = m,
                                                            .blocks = N / BLOCK,
                                                            .K = K,
                                                            .x = product->x + r * K,
                                                            .ldx = K,
                                                            .packed = product->weights,
                                                            .stride = K * BLOCK,
                                                            .y = y,
                                                            .ldy = N,
                                                            .accumulate = true});
    }
}

/* Rows of the state before step t: the carried ones or those after step t - 1, zero where the step resets. */
static void previous_state(const struct pass *pass, size_t t, const uint32_t *inputs, const float *carried,
                           const float *after, float *before)
{
    const size_t n = pass->options.streams, Hp = pass->packed->hidden;
    const float *from = t == 0 ? carried : after + (t - 1) * n * Hp;
    float *to = before + t * n * Hp;
    for (size_t b = 0; b < n; b++) {
        if (inputs[t * n + b] == pass->options.reset_token) {
            memset(to + b * Hp, 0, Hp * sizeof(float));
        } else {
            memcpy(to + b * Hp, from + b * Hp, Hp * sizeof(float));
        }
    }
}

static struct cell_rows rows_at(const struct pass *pass, size_t k, size_t t)
{
    const struct pass_layer *layer = &pass->layers[k];
    const size_t n = pass->options.streams, G = pass->packed->gate_row, at = t * n * pass->packed->hidden;
    return (struct cell_rows){
        .n = n,
        .gates_x = layer->gates_x + t * n * G,
        .gates_h = layer->gates_h ? layer->gates_h + t * n * G : NULL,
        .h_previous = layer->h_previous + at,
        .c_previous = layer->c_previous ? layer->c_previous + at : NULL,
        .h = layer->h + at,
        .c = layer->c ? layer->c + at : NULL,
    };
}

/* The input products of all rows at once, into gates_x; a one-hot input's are looked up step by step. */
static void forward_input(struct pass *pass, size_t k, const struct pass_window *window)
{
    const struct packed_layer *weights = &pass->packed->layers[k];
    const struct product product = {.rows = window->T * pass->options.streams,
                                    .inputs = weights->input,
                                    .outputs = pass->packed->gate_row,
                                    .x = prepare_input(pass, k, window),
                                    .weights = weights->weight_ih,
                                    .bias = weights->bias,
                                    .y = pass->layers[k].gates_x};
    multiply_rows(pass->kernels, &product);
}

static void forward_layer(struct pass *pass, size_t k, const struct pass_window *window, struct pass_state state)
{
    const struct packed_network *packed = pass->packed;
    const struct packed_layer *weights = &packed->layers[k];
    struct pass_layer *layer = &pass->layers[k];
    const uint32_t *inputs = window->inputs;
    const size_t T = window->T, n = pass->options.streams, G = packed->gate_row, Hp = packed->hidden;
    float *h = state.values + k * cell_table[packed->architecture.cell].states * state.stride, *c = h + state.stride;

    if (!weights->table) forward_input(pass, k, window);
    for (size_t t = 0; t < T; t++) {
        for (size_t b = 0; weights->table && b < n; b++) {
            const size_t row = t * n + b;
            memcpy(layer->gates_x + row * G, weights->table + inputs[row] * G, G * sizeof(float));
        }
        previous_state(pass, t, inputs, h, layer->h, layer->h_previous);
        if (layer->c) previous_state(pass, t, inputs, c, layer->c, layer->c_previous);
        const struct cell_rows rows = rows_at(pass, k, t);
        cell_forward(packed, pass->kernels, k, &rows);
    }
    memcpy(h, layer->h + (T - 1) * n * Hp, n * Hp * sizeof(float));
    if (layer->c) memcpy(c, layer->c + (T - 1) * n * Hp, n * Hp * sizeof(float));
}

void pass_forward(struct pass *pass, const struct pass_window *window, struct pass_state state)
{
    const size_t layers = pass->packed->architecture.layers;
    for (size_t k = 0; k < layers; k++) forward_layer(pass, k, window, state);
    prepare_input(pass, layers, window);
}

/* ------------------------------------------------------------------ loss */

/* Gradients of the output layer from the logits' gradients of rows [r, r + m). */
static void output_gradients(struct pass *pass, const float *x, size_t r, size_t m)
{
    const struct packed_network *packed = pass->packed;
    const size_t V = packed->architecture.vocabulary_size, Vp = packed->vocabulary, Hp = packed->hidden;
    const bool first = r == 0;
    pass->kernels->product_over_rows(&(struct kernel_product_over_rows){.M = V,
                                                                        .blocks = Hp / BLOCK,
                                                                        .K = m,
                                                                        .a = pass->logits,
                                                                        .lda = Vp,
                                                                        .b = x + r * Hp,
                                                                        .ldb = Hp,
                                                                        .c = pass->gradients.output,
                                                                        .ldc = Hp,
                                                                        .accumulate = !first,
                                                                        .scratch = pass->scratch});
    if (first) memset(pass->gradients.output_bias, 0, Vp * sizeof(float));
    for (size_t i = 0; i < m; i++) pass->kernels->add(Vp, pass->logits + i * Vp, pass->gradients.output_bias);
    for (size_t i = 0, rows; i < m; i += rows) {
        rows = rows_at_once(pass->kernels, m - i);
        pass->kernels->product_of_window(&(struct kernel_product){.M = rows,
                                                                  .blocks = Hp / BLOCK,
                                                                  .K = Vp,
                                                                  .x = pass->logits + i * Vp,
                                                                  .ldx = Vp,
                                                                  .packed = packed->output_t,
                                                                  .stride = Vp * BLOCK,
                                                                  .y = pass->gradient + (r + i) * Hp,
                                                                  .ldy = Hp});
    }
}

/* The logits of rows [r, r + m), x [rows][Hp] being the output layer's input. */
static void forward_output(struct pass *pass, const float *x, size_t r, size_t m)
{
    const struct packed_network *packed = pass->packed;
    const size_t Hp = packed->hidden;
    const struct product product = {.rows = m,
                                    .inputs = Hp,
                                    .outputs = packed->vocabulary,
                                    .x = x + r * Hp,
                                    .weights = packed->output,
                                    .bias = packed->output_bias,
                                    .y = pass->logits};
    multiply_rows(pass->kernels, &product);
}

double pass_loss(struct pass *pass, const struct pass_window *window, float scale, const struct pass_logits *logits)
{
    const struct architecture *a = &pass->packed->architecture;
    const size_t V = a->vocabulary_size, Vp = pass->packed->vocabulary, n = pass->options.streams;
    const size_t rows = window->T * n;
    const float *x = input_values(pass, a->layers, window->train && pass->inputs[a->layers].mask);
    double loss = 0;
    for (size_t r = 0; r < rows; r += pass->chunk) {
        const size_t m = rows - r < pass->chunk ? rows - r : pass->chunk;
        forward_output(pass, x, r, m);
        for (size_t i = 0; i < m; i++) {
            float *row = pass->logits + i * Vp;
            const size_t t = (r + i) / n, b = (r + i) % n;
            if (logits) memcpy(logits->values + t * logits->stride + b * V, row, V * sizeof(float));
            loss += pass->kernels->cross_entropy(V, row, window->targets[r + i], scale, window->train ? row : NULL);
        }
        if (window->train) output_gradients(pass, x, r, m);
    }
    return loss;
}

/* ------------------------------------------------------------------ backward */

/* Zeroes the rows of streams that reset at step t. */
static void cut_resets(const struct pass *pass, size_t t, const uint32_t *inputs, float *rows)
{
    const size_t n = pass->options.streams, Hp = pass->packed->hidden;
    for (size_t b = 0; b < n; b++)
        if (inputs[t * n + b] == pass->options.reset_token) memset(rows + b * Hp, 0, Hp * sizeof(float));
}

/* Back through time: pass->gradient holds the gradient of the layer's output, gates become their gradients. */
static void backward_time(struct pass *pass, size_t k, const struct pass_window *window)
{
    const size_t n = pass->options.streams, Hp = pass->packed->hidden;
    memset(pass->dh, 0, n * Hp * sizeof(float));
    memset(pass->dc, 0, n * Hp * sizeof(float));
    for (size_t t = window->T; t-- > 0;) {
        const struct cell_rows rows = rows_at(pass, k, t);
        float *dh = pass->gradient + t * n * Hp;
        pass->kernels->add(n * Hp, pass->dh, dh);
        const struct cell_gradients gradients = {.dh = dh, .dc = pass->dc, .dh_previous = t > 0 ? pass->dh : NULL};
        cell_backward(pass->packed, pass->kernels, k, &rows, &gradients);
        if (t == 0) break;
        cut_resets(pass, t, window->inputs, pass->dh);
        cut_resets(pass, t, window->inputs, pass->dc);
    }
}

static void add_up_rows(const struct pass *pass, size_t rows, size_t width, const float *x, float *sum)
{
    memset(sum, 0, width * sizeof(float));
    for (size_t r = 0; r < rows; r++) pass->kernels->add(width, x + r * width, sum);
}

/* The gradient of weights [G][width]: the sum over rows of the gates' gradients [rows][G] times x [rows][width]. */
static void weight_gradient(struct pass *pass, size_t rows, const float *gates, const float *x, size_t width,
                            float *sum)
{
    const size_t G = pass->packed->gate_row;
    pass->kernels->product_over_rows(&(struct kernel_product_over_rows){.M = G,
                                                                        .blocks = width / BLOCK,
                                                                        .K = rows,
                                                                        .a = gates,
                                                                        .lda = G,
                                                                        .b = x,
                                                                        .ldb = width,
                                                                        .c = sum,
                                                                        .ldc = width,
                                                                        .scratch = pass->scratch});
}

static void layer_gradients(struct pass *pass, size_t k, size_t rows, const uint32_t *inputs)
{
    const struct packed_network *packed = pass->packed;
    const size_t G = packed->gate_row, Hp = packed->hidden, width = packed->layers[k].input;
    const struct pass_layer *layer = &pass->layers[k];
    struct layer_gradients *gradients = &pass->gradients.layers[k];
    const struct cell_rows first = rows_at(pass, k, 0);
    const float *hidden = cell_hidden_gradient(packed, &first);

    weight_gradient(pass, rows, hidden, layer->h_previous, Hp, gradients->weight_hh);
    if (gradients->bias_hh) add_up_rows(pass, rows, G, hidden, gradients->bias_hh);
    if (gradients->table) {
        memset(gradients->table, 0, packed->architecture.vocabulary_size * G * sizeof(float));
        for (size_t r = 0; r < rows; r++)
            pass->kernels->add(G, layer->gates_x + r * G, gradients->table + inputs[r] * G);
        return;
    }
    const float *x = input_values(pass, k, pass->inputs[k].mask);
    weight_gradient(pass, rows, layer->gates_x, x, width, gradients->weight_ih);
    add_up_rows(pass, rows, G, layer->gates_x, gradients->bias);
}

/* pass->gradient becomes the gradient of what lies below layer k. */
static void input_gradient(struct pass *pass, size_t k, size_t rows)
{
    const struct packed_network *packed = pass->packed;
    const size_t G = packed->gate_row, width = packed->layers[k].input;
    for (size_t r = 0, m; r < rows; r += m) {
        m = rows_at_once(pass->kernels, rows - r);
        pass->kernels->product_of_window(&(struct kernel_product){.M = m,
                                                                  .blocks = width / BLOCK,
                                                                  .K = G,
                                                                  .x = pass->layers[k].gates_x + r * G,
                                                                  .ldx = G,
                                                                  .packed = packed->layers[k].weight_ih_t,
                                                                  .stride = G * BLOCK,
                                                                  .y = pass->gradient_below + r * width,
                                                                  .ldy = width});
    }
    float *above = pass->gradient;
    pass->gradient = pass->gradient_below;
    pass->gradient_below = above;
}

void pass_backward(struct pass *pass, const struct pass_window *window)
{
    const struct packed_network *packed = pass->packed;
    const uint32_t *inputs = window->inputs;
    const size_t rows = window->T * pass->options.streams, E = packed->embedding_width;
    for (size_t k = packed->architecture.layers + 1; k-- > 0;) {
        /* Here pass->gradient is that of the input at place k + 1, or of the output layer's. */
        if (k < packed->architecture.layers) {
            backward_time(pass, k, window);
            layer_gradients(pass, k, rows, inputs);
            if (pass->inputs[k].width == 0) return;
            input_gradient(pass, k, rows);
        }
        if (pass->inputs[k].mask) apply_mask(rows * pass->inputs[k].width, pass->inputs[k].mask, pass->gradient);
    }
    memset(pass->gradients.embedding, 0, packed->architecture.vocabulary_size * E * sizeof(float));
    for (size_t r = 0; r < rows; r++)
        pass->kernels->add(E, pass->gradient + r * E, pass->gradients.embedding + inputs[r] * E);
}
