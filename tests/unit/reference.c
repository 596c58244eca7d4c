#include "tests/unit/reference.h"

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
    reference->h = calloc((size_t)a->layers * a->hidden_size, sizeof(double));
    reference->c = calloc((size_t)a->layers * a->hidden_size, sizeof(double));
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
    memset(reference->h, 0, (size_t)a->layers * a->hidden_size * sizeof(double));
    memset(reference->c, 0, (size_t)a->layers * a->hidden_size * sizeof(double));
}

static double sigmoid(double x)
{
    return 1 / (1 + exp(-x));
}

static double dot(const float *row, const double *x, size_t n)
{
    double sum = 0;
    for (size_t i = 0; i < n; i++) sum += (double)row[i] * x[i];
    return sum;
}

/* in[r] = W_ih x + b and hidden[r] = W_hh h (+ b_hh) of all G * H rows of a layer. */
static void products(const struct network *network, size_t layer, const double *x, const double *h, double *in,
                     double *hidden)
{
    const struct architecture *a = &network->architecture;
    const size_t H = a->hidden_size, I = architecture_input(a, layer), rows = architecture_gates(a) * H;
    for (size_t r = 0; r < rows; r++) {
        in[r] = dot(network->weight_ih[layer] + r * I, x, I) + (double)network->bias[layer][r];
        hidden[r] = dot(network->weight_hh[layer] + r * H, h, H);
        if (a->cell == CELL_GRU) hidden[r] += (double)network->bias_hh[layer][r];
    }
}

static void unit(enum cell_kind cell, size_t H, size_t u, const double *in, const double *hidden, double *h, double *c)
{
    if (cell == CELL_LSTM) {
        const double i = sigmoid(in[u] + hidden[u]), f = sigmoid(in[H + u] + hidden[H + u]);
        const double g = tanh(in[2 * H + u] + hidden[2 * H + u]), o = sigmoid(in[3 * H + u] + hidden[3 * H + u]);
        c[u] = f * c[u] + i * g;
        h[u] = o * tanh(c[u]);
    } else if (cell == CELL_GRU) {
        const double r = sigmoid(in[u] + hidden[u]), z = sigmoid(in[H + u] + hidden[H + u]);
        const double n = tanh(in[2 * H + u] + r * hidden[2 * H + u]);
        h[u] = (1 - z) * n + z * h[u];
    } else {
        h[u] = tanh(in[u] + hidden[u]);
    }
}

static void input_vector(const struct network *network, uint32_t token, double *x)
{
    const struct architecture *a = &network->architecture;
    for (size_t i = 0; i < architecture_input(a, 0); i++)
        x[i] = a->embedding_size > 0 ? (double)network->embedding[token * a->embedding_size + i] : i == token;
}

void reference_step(struct reference *reference, uint32_t token)
{
    const struct network *network = reference->network;
    const struct architecture *a = &network->architecture;
    const size_t H = a->hidden_size, rows = architecture_gates(a) * H;
    double *memory = calloc(architecture_input(a, 0) + 2 * rows, sizeof(double));
    assert(memory != NULL);
    double *in = memory + architecture_input(a, 0), *hidden = in + rows;
    const double *x = memory;

    input_vector(network, token, memory);
    for (size_t layer = 0; layer < a->layers; layer++) {
        double *h = reference->h + layer * H, *c = reference->c + layer * H;
        products(network, layer, x, h, in, hidden);
        for (size_t u = 0; u < H; u++) unit(a->cell, H, u, in, hidden, h, c);
        x = h;
    }
    for (size_t v = 0; v < a->vocabulary_size; v++)
        reference->logits[v] = dot(network->output_weight + v * H, x, H) + (double)network->output_bias[v];
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
