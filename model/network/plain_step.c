#include "model/network/plain_step.h"

#include <math.h>
#include <string.h>

static void hard_sigmoid(size_t n, float slope, float *values)
{
    for (size_t i = 0; i < n; i++) values[i] = fmaxf(0.0f, fminf(1.0f, values[i] * slope + 0.5f));
}

void plain_activate(enum activation activation, const struct kernels *kernels, size_t n, float *values)
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
    case ACTIVATION_DEFAULT: /* never: the architecture is complete and names every activation */
        break;
    }
}

/* Applies s to `gates` gates, from gate `first` on. */
static void activate_gates(const struct plain_row *row, size_t first, size_t gates)
{
    plain_activate(row->architecture->recurrent_activation, row->kernels, gates * row->W, row->gates + first * row->W);
}

/* Applies f to W values. */
static void activate_cell(const struct plain_row *row, float *values)
{
    plain_activate(row->architecture->activation, row->kernels, row->W, values);
}

/* gates += in, for `gates` gates from the first on. */
static void add_input(const struct plain_row *row, size_t gates)
{
    row->kernels->add(gates * row->W, row->in, row->gates);
}

void plain_lstm(const struct plain_row *row)
{
    const size_t W = row->W;
    float *i = row->gates, *f = i + W, *g = f + W, *o = g + W;
    add_input(row, 4);
    activate_gates(row, 0, 2);
    activate_cell(row, g);
    activate_gates(row, 3, 1);
    for (size_t u = 0; u < W; u++) row->h[u] = row->c[u] = f[u] * row->c[u] + i[u] * g[u];
    activate_cell(row, row->h);
    for (size_t u = 0; u < W; u++) row->h[u] *= o[u];
}

/* h' = (1 - z) * n + z * h; n comes without its activation. */
static void gru_mix(const struct plain_row *row)
{
    const float *z = row->gates + row->W;
    float *n = row->gates + 2 * row->W;
    activate_cell(row, n);
    for (size_t u = 0; u < row->W; u++) row->h[u] = z[u] * (row->h_previous[u] - n[u]) + n[u];
}

void plain_gru(const struct plain_row *row)
{
    const float *r = row->gates, *in = row->in + 2 * row->W;
    float *n = row->gates + 2 * row->W;
    add_input(row, 2);
    activate_gates(row, 0, 2);
    for (size_t u = 0; u < row->W; u++) n[u] = in[u] + r[u] * n[u];
    gru_mix(row);
}

void plain_gru_reset(const struct plain_row *row)
{
    add_input(row, 2);
    activate_gates(row, 0, 2);
    for (size_t u = 0; u < row->W; u++) row->h[u] = row->gates[u] * row->h_previous[u];
}

void plain_gru_after_reset(const struct plain_row *row)
{
    const size_t n = 2 * row->W;
    row->kernels->add(row->W, row->in + n, row->gates + n);
    gru_mix(row);
}

void plain_rnn(const struct plain_row *row)
{
    add_input(row, 1);
    activate_cell(row, row->gates);
    memcpy(row->h, row->gates, row->W * sizeof(float));
}
