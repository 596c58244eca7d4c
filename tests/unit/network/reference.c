#include "tests/unit/network/reference.h"

#include <assert.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

void reference_random_network(struct network *network, const struct architecture *architecture, uint64_t seed,
                              double scale)
{
    struct rng rng;
    const bool opened = network_open(network, architecture, NULL);
    assert(opened);
    (void)opened;
    rng_seed(&rng, seed, 0);
    for (size_t i = 0; i < network->parameter_count; i++) network->parameters[i] = (float)(scale * rng_normal(&rng));
}

void reference_open(struct reference *reference, const struct network *network)
{
    const struct architecture *a = &network->architecture;
    reference->network = network;
    reference->h = calloc((size_t)a->layers * NETWORK_MAX_HIDDEN, sizeof(double));
    reference->c = calloc((size_t)a->layers * NETWORK_MAX_HIDDEN, sizeof(double));
    reference->logits = calloc(a->vocabulary_size, sizeof(double));
    assert(reference->h != NULL && reference->c != NULL && reference->logits != NULL);
}

void reference_close(struct reference *reference)
{
    free(reference->h);
    free(reference->c);
    free(reference->logits);
}

void reference_reset(struct reference *reference)
{
    const struct architecture *a = &reference->network->architecture;
    memset(reference->h, 0, (size_t)a->layers * NETWORK_MAX_HIDDEN * sizeof(double));
    memset(reference->c, 0, (size_t)a->layers * NETWORK_MAX_HIDDEN * sizeof(double));
}

static double activate(enum activation activation, double x)
{
    switch (activation) {
    case ACTIVATION_TANH:
        return tanh(x);
    case ACTIVATION_SIGMOID:
        return 1 / (1 + exp(-x));
    case ACTIVATION_RELU:
        return fmax(0, x);
    case ACTIVATION_HARD_SIGMOID:
        return x <= -3 ? 0 : x >= 3 ? 1 : x / 6 + 0.5;
    case ACTIVATION_HARD_SIGMOID_KERAS2:
        return x <= -2.5 ? 0 : x >= 2.5 ? 1 : 0.2 * x + 0.5;
    case ACTIVATION_LINEAR:
    case ACTIVATION_DEFAULT:
        break;
    }
    return x;
}

static double dot(const float *row, const double *x, size_t n)
{
    double sum = 0;
    for (size_t i = 0; i < n; i++) sum += (double)row[i] * x[i];
    return sum;
}

/* out[r] = W[r] x + bias[r] (NULL: none) */
static void product(size_t rows, size_t columns, const float *weights, const float *bias, const double *x, double *out)
{
    for (size_t r = 0; r < rows; r++)
        out[r] = dot(weights + r * columns, x, columns) + (bias != NULL ? (double)bias[r] : 0);
}

/* W_hh of gate n times r * h, for the GRU that resets before the product. */
static void reset_before(const struct network *network, size_t layer, const double *in, const double *h, double *hidden)
{
    const struct architecture *a = &network->architecture;
    const size_t H = architecture_hidden(a, layer);
    double *reset = calloc(H, sizeof(double));
    assert(reset != NULL);
    for (size_t u = 0; u < H; u++) reset[u] = activate(a->recurrent_activation, in[u] + hidden[u]) * h[u];
    product(H, H, network->weight_hh[layer] + 2 * H * H, NULL, reset, hidden + 2 * H);
    free(reset);
}

static void unit(const struct architecture *a, size_t H, size_t u, const double *in, const double *hidden, double *h,
                 double *c)
{
    const enum activation s = a->recurrent_activation, f = a->activation;
    if (a->cell == CELL_LSTM) {
        const double i = activate(s, in[u] + hidden[u]), forget = activate(s, in[H + u] + hidden[H + u]);
        const double g = activate(f, in[2 * H + u] + hidden[2 * H + u]);
        c[u] = forget * c[u] + i * g;
        h[u] = activate(s, in[3 * H + u] + hidden[3 * H + u]) * activate(f, c[u]);
    } else if (a->cell == CELL_GRU) {
        const double r = a->reset_before ? 1 : activate(s, in[u] + hidden[u]);
        const double z = activate(s, in[H + u] + hidden[H + u]);
        const double n = activate(f, in[2 * H + u] + r * hidden[2 * H + u]);
        h[u] = (1 - z) * n + z * h[u];
    } else {
        h[u] = activate(f, in[u] + hidden[u]);
    }
}

static void input_vector(const struct network *network, uint32_t token, double *x)
{
    const struct architecture *a = &network->architecture;
    for (size_t i = 0; i < architecture_input(a, 0); i++)
        x[i] = a->embedding_size > 0 ? (double)network->embedding[token * a->embedding_size + i] : i == token;
}

static void step_layer(const struct network *network, size_t layer, const double *x, double *h, double *c)
{
    const struct architecture *a = &network->architecture;
    const size_t H = architecture_hidden(a, layer), rows = architecture_gates(a) * H;
    double *in = calloc(2 * rows, sizeof(double)), *hidden = in + rows;
    assert(in != NULL);
    product(rows, architecture_input(a, layer), network->weight_ih[layer], network->bias[layer], x, in);
    product(rows, H, network->weight_hh[layer], network->bias_hh[layer], h, hidden);
    if (a->reset_before) reset_before(network, layer, in, h, hidden);
    for (size_t u = 0; u < H; u++) unit(a, H, u, in, hidden, h, c);
    free(in);
}

void reference_step(struct reference *reference, uint32_t token)
{
    const struct network *network = reference->network;
    const struct architecture *a = &network->architecture;
    double *memory = calloc(architecture_input(a, 0) + (size_t)a->dense_layers * NETWORK_MAX_HIDDEN, sizeof(double));
    double *dense = memory + architecture_input(a, 0);
    const double *x = memory;
    assert(memory != NULL);
    input_vector(network, token, memory);
    for (size_t layer = 0; layer < a->layers; layer++) {
        double *h = reference->h + layer * NETWORK_MAX_HIDDEN;
        step_layer(network, layer, x, h, reference->c + layer * NETWORK_MAX_HIDDEN);
        x = h;
    }
    for (size_t d = 0; d < a->dense_layers; d++, dense += NETWORK_MAX_HIDDEN) {
        product(a->dense[d].size, architecture_dense_input(a, d), network->dense_weight[d], network->dense_bias[d], x,
                dense);
        for (size_t u = 0; u < a->dense[d].size; u++) dense[u] = activate(a->dense[d].activation, dense[u]);
        x = dense;
    }
    product(a->vocabulary_size, architecture_top(a), network->output_weight, network->output_bias, x,
            reference->logits);
    free(memory);
}

double reference_loss(const struct reference *reference, uint32_t target)
{
    const size_t V = reference->network->architecture.vocabulary_size;
    double largest = -INFINITY, sum = 0;
    for (size_t v = 0; v < V; v++) largest = fmax(largest, reference->logits[v]);
    for (size_t v = 0; v < V; v++) sum += exp(reference->logits[v] - largest);
    return log(sum) + largest - reference->logits[target];
}
