#include "model/generate/step_internal.h"

#include <math.h>
#include <string.h>

static void hard_sigmoid(size_t n, float slope, float *values)
{
    for (size_t i = 0; i < n; i++) values[i] = fmaxf(0.0f, fminf(1.0f, values[i] * slope + 0.5f));
}

void step_activate(enum activation activation, const struct kernels *kernels, size_t n, float *values)
{
    switch (activation) {
    case ACTIVATION_TANH:
        kernels->tanh(n, values, values);
        break;
    case ACTIVATION_SIGMOID:
        kernels->sigmoid(n, values, values);
        break;
    case ACTIVATION_RELU:
        for (size_t i = 0; i < n; i++) values[i] = values[i] > 0 ? values[i] : 0;
        break;
    case ACTIVATION_HARD_SIGMOID:
        hard_sigmoid(n, 1.0f / 6.0f, values);
        break;
    case ACTIVATION_HARD_SIGMOID_KERAS2:
        hard_sigmoid(n, 0.2f, values);
        break;
    case ACTIVATION_LINEAR:
    case ACTIVATION_DEFAULT: /* a network's architecture is complete: no activation is left open */
        break;
    }
}

/* One sequence of a layer: what its elementwise part reads and writes. W: Hp, the layer's width. */
struct row {
    const struct architecture *architecture;
    const struct kernels *kernels;
    size_t W;
    const float *in; /* [G][W] input product and bias */
    float *gates;    /* [G][W] hidden product and its bias; scratch */
    const float *h_previous;
    float *h, *c;
};

static void activate(const struct row *row, size_t gate, size_t gates)
{
    step_activate(row->architecture->recurrent_activation, row->kernels, gates * row->W, row->gates + gate * row->W);
}

static void activate_cell(const struct row *row, float *values)
{
    step_activate(row->architecture->activation, row->kernels, row->W, values);
}

/* gates += in, for `gates` gates from the first on. */
static void add_input(const struct row *row, size_t gates)
{
    row->kernels->add(gates * row->W, row->in, row->gates);
}

static void lstm(const struct row *row)
{
    const size_t W = row->W;
    float *i = row->gates, *f = i + W, *g = f + W, *o = g + W;
    add_input(row, 4);
    activate(row, 0, 2);
    activate_cell(row, g);
    activate(row, 3, 1);
    for (size_t u = 0; u < W; u++) row->h[u] = row->c[u] = f[u] * row->c[u] + i[u] * g[u];
    activate_cell(row, row->h);
    for (size_t u = 0; u < W; u++) row->h[u] *= o[u];
}

/* h' = (1 - z) * n + z * h, where n has not been activated. */
static void gru_mix(const struct row *row)
{
    const float *z = row->gates + row->W;
    float *n = row->gates + 2 * row->W;
    activate_cell(row, n);
    for (size_t u = 0; u < row->W; u++) row->h[u] = z[u] * (row->h_previous[u] - n[u]) + n[u];
}

static void gru_reset_after(const struct row *row)
{
    const float *r = row->gates, *in = row->in + 2 * row->W;
    float *n = row->gates + 2 * row->W;
    add_input(row, 2);
    activate(row, 0, 2);
    for (size_t u = 0; u < row->W; u++) n[u] = in[u] + r[u] * n[u];
    gru_mix(row);
}

/* The first half: r and z, and r * h in the place of h. */
static void gru_reset(const struct row *row)
{
    add_input(row, 2);
    activate(row, 0, 2);
    for (size_t u = 0; u < row->W; u++) row->h[u] = row->gates[u] * row->h_previous[u];
}

/* The second half: gate n holds W_hh (r * h). */
static void gru_reset_before(const struct row *row)
{
    const size_t n = 2 * row->W;
    row->kernels->add(row->W, row->in + n, row->gates + n);
    gru_mix(row);
}

static void rnn(const struct row *row)
{
    add_input(row, 1);
    activate_cell(row, row->gates);
    memcpy(row->h, row->gates, row->W * sizeof(float));
}

/* The rows of a layer, and what finishes each. `units`: the padding behind them stays zero, whatever f(0) is. */
static void finish_rows(const struct stepper *stepper, size_t layer, const struct kernel_step *s, float *const *in,
                        float *const *gates, void (*finish)(const struct row *row))
{
    const size_t W = stepper->weights.layers[layer].width, units = architecture_hidden(&stepper->architecture, layer);
    for (size_t m = 0; m < s->rows; m++) {
        const struct row row = {.architecture = &stepper->architecture,
                                .kernels = stepper->kernels,
                                .W = W,
                                .in = s->input.inputs > 0 ? in[m] : s->start[m],
                                .gates = gates[m],
                                .h_previous = s->h_previous[m],
                                .h = s->h[m],
                                .c = s->c[m]};
        finish(&row);
        memset(row.h + units, 0, (W - units) * sizeof(float));
        if (stepper->architecture.cell == CELL_LSTM) memset(row.c + units, 0, (W - units) * sizeof(float));
    }
}

/* The part of a matrix, of [G][W] outputs, from output `first` on. */
static struct kernel_matrix part_of(const struct kernel_matrix *matrix, size_t first)
{
    static const size_t sizes[] = {
        [KERNEL_F32] = sizeof(float), [KERNEL_BF16] = sizeof(uint16_t), [KERNEL_INT8] = sizeof(int8_t)};
    struct kernel_matrix part = *matrix;
    part.weights = (const char *)matrix->weights + first * matrix->inputs * sizes[matrix->format];
    if (matrix->scale) part.scale = matrix->scale + first;
    return part;
}

/* n needs the product with r * h, which needs r. */
static void step_reset_before(const struct stepper *stepper, struct step_scratch *scratch, size_t layer,
                              const struct kernel_step *s)
{
    const size_t W = stepper->weights.layers[layer].width;
    const struct kernel_matrix last = part_of(&s->hidden, 2 * W);
    float **in = scratch->gate_rows[0], **gates = scratch->gate_rows[1];
    stepper->kernels->project(s->rows, 2 * W / KERNEL_BLOCK, &s->hidden, s->bias_hh, s->hidden_input, gates);
    finish_rows(stepper, layer, s, in, gates, gru_reset);
    step_prepare_inputs(stepper, s->rows, W, (const float *const *)s->h, scratch->h_integers, scratch->hidden_input);
    for (size_t m = 0; m < s->rows; m++) gates[m] += 2 * W;
    stepper->kernels->project(s->rows, W / KERNEL_BLOCK, &last, s->bias_hh, s->hidden_input, gates);
    for (size_t m = 0; m < s->rows; m++) gates[m] -= 2 * W;
    finish_rows(stepper, layer, s, in, gates, gru_reset_before);
}

void step_variant(const struct stepper *stepper, struct step_scratch *scratch, size_t layer,
                  const struct kernel_step *arguments)
{
    static void (*const finishers[])(const struct row *) = {
        [CELL_LSTM] = lstm, [CELL_GRU] = gru_reset_after, [CELL_RNN] = rnn};
    const struct kernel_step *s = arguments;
    const size_t gate_row = stepper->weights.layers[layer].gate_row, blocks = gate_row / KERNEL_BLOCK;
    for (size_t part = 0; part < 2; part++)
        for (size_t m = 0; m < s->rows; m++) scratch->gate_rows[part][m] = scratch->gates[part] + m * gate_row;
    if (s->input.inputs > 0)
        stepper->kernels->project(s->rows, blocks, &s->input, s->start[0], s->x, scratch->gate_rows[0]);
    if (stepper->architecture.reset_before) {
        step_reset_before(stepper, scratch, layer, s);
        return;
    }
    stepper->kernels->project(s->rows, blocks, &s->hidden, s->bias_hh, s->hidden_input, scratch->gate_rows[1]);
    finish_rows(stepper, layer, s, scratch->gate_rows[0], scratch->gate_rows[1], finishers[stepper->architecture.cell]);
}
