/* Compares every gradient with finite differences, for every tensor of every cell.
 *
 * Without dropout, the differences are those of the equations of network/cells.h, which this file writes down in double
 * precision. So they also check the learner's loss. With dropout, only the learner knows the masks. The differences are
 * then those of its own float32 loss at the same step (the same masks), and the tolerance is wider.
 *
 * The tests run with the best kernels of this machine, and once more with OpenBLAS for every product. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "model/kernels/blas.h"
#include "model/text/vocabulary.h"
#include "model/train/learner.h"
#include "tests/unit/support.h"

#define B           3
#define T           4
#define H           7
#define V           8
#define LAYERS      2
#define EOS         0u
#define MAX_GATES   4
#define MAX_COLUMNS V

struct setting {
    const char *name;
    struct architecture architecture;
    uint32_t reset_token;
};

#define SETTING(title, kind, embedding, tied, reset)                                                                   \
    {                                                                                                                  \
        title,                                                                                                         \
            {.cell = kind,                                                                                             \
             .layers = LAYERS,                                                                                         \
             .hidden_size = H,                                                                                         \
             .embedding_size = embedding,                                                                              \
             .vocabulary_size = V,                                                                                     \
             .tie_weights = tied},                                                                                     \
            reset                                                                                                      \
    }

static struct setting settings[] = {
    SETTING("lstm, one-hot", CELL_LSTM, 0, false, TOKEN_NONE),
    SETTING("lstm, embedding, resets", CELL_LSTM, 5, false, EOS),
    SETTING("lstm, tied, resets", CELL_LSTM, H, true, EOS),
    SETTING("gru, one-hot, resets", CELL_GRU, 0, false, EOS),
    SETTING("gru, embedding", CELL_GRU, 5, false, TOKEN_NONE),
    SETTING("gru, tied", CELL_GRU, H, true, TOKEN_NONE),
    SETTING("rnn, one-hot, resets", CELL_RNN, 0, false, EOS),
    SETTING("rnn, embedding", CELL_RNN, 5, false, TOKEN_NONE),
    SETTING("rnn, tied, resets", CELL_RNN, H, true, EOS),
};

/* Two windows; the second one starts from the first one's state. Resets at both ends, inside, and twice in a row. */
static const uint32_t tokens[2 * T + 1][B] = {{0, 3, 7}, {1, 0, 2}, {5, 4, 0}, {2, 7, 6}, {6, 0, 1},
                                              {3, 0, 5}, {0, 2, 4}, {7, 1, 0}, {4, 6, 3}};
static const uint32_t *const inputs[2] = {tokens[0], tokens[T]};
static const uint32_t *const targets[2] = {tokens[1], tokens[T + 1]};

/* ------------------------------------------------------------------ the equations */

struct reference {
    const struct network *layout; /* offset of each tensor */
    double *w;                    /* all parameters */
    double h[LAYERS][B][H], c[LAYERS][B][H];
    uint32_t reset_token;
};

/* The reference's copy of a tensor. */
static const double *weights(const struct reference *reference, const float *tensor)
{
    return reference->w + (tensor - reference->layout->parameters);
}

static double sigmoid(double x)
{
    return 1 / (1 + exp(-x));
}

static double row_product(const double *row, const double *x, size_t n)
{
    double sum = 0;
    for (size_t i = 0; i < n; i++) sum += row[i] * x[i];
    return sum;
}

/* New h and c of one unit from the gates' input parts x and hidden parts y. */
static void cell_unit(enum cell_kind cell, const double *x, const double *y, double *h, double *c)
{
    if (cell == CELL_LSTM) {
        *c = sigmoid(x[1] + y[1]) * *c + sigmoid(x[0] + y[0]) * tanh(x[2] + y[2]);
        *h = sigmoid(x[3] + y[3]) * tanh(*c);
    } else if (cell == CELL_GRU) {
        const double z = sigmoid(x[1] + y[1]);
        *h = (1 - z) * tanh(x[2] + sigmoid(x[0] + y[0]) * y[2]) + z * *h;
    } else {
        *h = tanh(x[0] + y[0]);
    }
}

static void layer_step(struct reference *reference, size_t layer, size_t b, const double *x)
{
    const struct network *n = reference->layout;
    const size_t G = architecture_gates(&n->architecture), I = architecture_input(&n->architecture, layer);
    const double *w_ih = weights(reference, n->weight_ih[layer]), *w_hh = weights(reference, n->weight_hh[layer]);
    const double *bias = weights(reference, n->bias[layer]);
    double before[H];
    memcpy(before, reference->h[layer][b], sizeof before);
    for (size_t u = 0; u < H; u++) {
        double in[MAX_GATES], hidden[MAX_GATES];
        for (size_t g = 0; g < G; g++) {
            const size_t row = g * H + u;
            in[g] = bias[row] + row_product(w_ih + row * I, x, I);
            hidden[g] = row_product(w_hh + row * H, before, H);
            if (n->bias_hh[layer]) hidden[g] += weights(reference, n->bias_hh[layer])[row];
        }
        cell_unit(n->architecture.cell, in, hidden, &reference->h[layer][b][u], &reference->c[layer][b][u]);
    }
}

/* -log p(target) of one stream's next token; its state advances. */
static double token_loss(struct reference *reference, size_t b, uint32_t input, uint32_t target)
{
    const struct network *n = reference->layout;
    const size_t E = n->architecture.embedding_size;
    double x[MAX_COLUMNS] = {0}, logits[V], sum = 0;
    if (E > 0)
        memcpy(x, weights(reference, n->embedding) + input * E, E * sizeof *x);
    else
        x[input] = 1;
    for (size_t layer = 0; layer < LAYERS; layer++) {
        if (input == reference->reset_token) {
            memset(reference->h[layer][b], 0, sizeof reference->h[layer][b]);
            memset(reference->c[layer][b], 0, sizeof reference->c[layer][b]);
        }
        layer_step(reference, layer, b, x);
        memcpy(x, reference->h[layer][b], sizeof reference->h[layer][b]);
    }
    for (size_t v = 0; v < V; v++) {
        logits[v] =
            weights(reference, n->output_bias)[v] + row_product(weights(reference, n->output_weight) + v * H, x, H);
        sum += exp(logits[v]);
    }
    return log(sum) - logits[target];
}

static double window_loss(struct reference *reference, size_t window)
{
    double loss = 0;
    for (size_t i = 0; i < T * B; i++) loss += token_loss(reference, i % B, inputs[window][i], targets[window][i]);
    return loss / (T * B);
}

/* ------------------------------------------------------------------ setting up */

static const struct kernels *kernels; /* of all learners here; NULL: the best */

struct fixture {
    struct network network, gradient;
    struct learner *learner;
};

static void fixture_open(struct fixture *fixture, const struct setting *setting, size_t threads, double dropout)
{
    const struct learner_options options = {.batch = B,
                                            .window = T,
                                            .threads = threads,
                                            .dropout = dropout,
                                            .weight_drop = dropout,
                                            .seed = 5,
                                            .reset_token = setting->reset_token,
                                            .kernels = kernels,
                                            .optimizer = {.kind = OPTIMIZER_SGD}};
    struct error err = {0};
    struct rng rng;
    assert_true(network_open(&fixture->network, &setting->architecture, &err));
    assert_true(network_open(&fixture->gradient, &setting->architecture, &err));
    rng_seed(&rng, 11, 0);
    for (size_t i = 0; i < fixture->network.parameter_count; i++)
        fixture->network.parameters[i] = (float)(0.5 * rng_normal(&rng));
    fixture->learner = learner_new(&fixture->network, &options, &err);
    if (!fixture->learner) fail_msg("%s", err.message);
}

static void fixture_close(struct fixture *fixture)
{
    learner_free(fixture->learner);
    network_close(&fixture->gradient);
    network_close(&fixture->network);
}

static double gradient_of(struct fixture *fixture, size_t window, struct network *gradient)
{
    struct learner_result result;
    learner_gradient(fixture->learner, T, inputs[window], targets[window], gradient, &result);
    assert_true(result.finite);
    return result.loss;
}

static void assert_tensor_close(const struct setting *setting, const struct tensor *tensor, const double *truth,
                                double tolerance)
{
    double difference = 0, scale = 0;
    for (size_t i = 0; i < tensor->rows * tensor->columns; i++) {
        difference = fmax(difference, fabs((double)tensor->data[i] - truth[i]));
        scale = fmax(scale, fabs(truth[i]));
    }
    assert_true(scale > 1e-4); /* a tensor without gradient would pass with any learner */
    if (!(difference <= tolerance * scale))
        fail_msg("%s: gradient of %s is off by %.2g of %.2g", setting->name, tensor->name, difference, scale);
}

/* ------------------------------------------------------------------ tests */

/* Central differences of the reference loss by the parameters of one tensor. */
static void difference_tensor(const struct reference *start, const struct tensor *tensor, size_t window, double *out)
{
    const double step = 1e-5;
    for (size_t i = 0; i < tensor->rows * tensor->columns; i++) {
        double *parameter = start->w + tensor->offset + i, kept = *parameter, loss[2];
        for (int side = 0; side < 2; side++) {
            struct reference moved = *start;
            *parameter = side == 0 ? kept - step : kept + step;
            loss[side] = window_loss(&moved, window);
        }
        *parameter = kept;
        out[i] = (loss[1] - loss[0]) / (2 * step);
    }
}

static void test_gradient_matches_differences_of_the_equations(void **state)
{
    const struct setting *setting = *state;
    struct fixture fixture;
    fixture_open(&fixture, setting, 2, 0);
    const size_t count = fixture.network.parameter_count;
    double *truth = malloc(count * sizeof *truth);
    struct reference reference = {
        .layout = &fixture.network, .w = malloc(count * sizeof *reference.w), .reset_token = setting->reset_token};
    for (size_t i = 0; i < count; i++) reference.w[i] = (double)fixture.network.parameters[i];

    for (size_t window = 0; window < 2; window++) {
        const double ours = gradient_of(&fixture, window, &fixture.gradient);
        for (size_t i = 0; i < fixture.gradient.tensor_count; i++) {
            const struct tensor *tensor = &fixture.gradient.tensors[i];
            difference_tensor(&reference, tensor, window, truth);
            assert_tensor_close(setting, tensor, truth, 1e-4);
        }
        assert_true(fabs(ours - window_loss(&reference, window)) < 1e-5);
    }
    free(reference.w);
    free(truth);
    fixture_close(&fixture);
}

/* The learner's own loss of window 1 with the state, the weights and the masks of the given moment. */
static double loss_at(struct fixture *fixture, const float *state, struct network *gradient)
{
    learner_set_step_count(fixture->learner, 3);
    learner_refresh(fixture->learner);
    memcpy(learner_state(fixture->learner), state, learner_state_size(fixture->learner) * sizeof *state);
    return gradient_of(fixture, 1, gradient);
}

static void test_gradient_with_dropout_matches_differences_of_the_loss(void **state)
{
    const struct setting *setting = *state;
    const float step = 0x1p-7f;
    struct fixture fixture;
    struct network ignored;
    fixture_open(&fixture, setting, 1, 0.4);
    assert_true(network_open(&ignored, &setting->architecture, NULL));
    gradient_of(&fixture, 0, &ignored);
    const size_t size = learner_state_size(fixture.learner) * sizeof(float);
    float *start = malloc(size);
    double *truth = malloc(fixture.network.parameter_count * sizeof *truth);
    memcpy(start, learner_state(fixture.learner), size);

    loss_at(&fixture, start, &fixture.gradient);
    for (size_t i = 0; i < fixture.gradient.tensor_count; i++) {
        const struct tensor *tensor = &fixture.gradient.tensors[i];
        for (size_t j = 0; j < tensor->rows * tensor->columns; j++) {
            float *parameter = fixture.network.parameters + tensor->offset + j, kept = *parameter;
            *parameter = kept - step;
            const double below = loss_at(&fixture, start, &ignored), low = (double)*parameter;
            *parameter = kept + step;
            const double above = loss_at(&fixture, start, &ignored), high = (double)*parameter;
            *parameter = kept;
            truth[j] = (above - below) / (high - low);
        }
        assert_tensor_close(setting, tensor, truth, 1e-2);
    }
    free(truth);
    free(start);
    network_close(&ignored);
    fixture_close(&fixture);
}

static void test_gradient_with_dropout_does_not_depend_on_threads(void **state)
{
    const struct setting *setting = *state;
    double truth[4096];
    for (size_t threads = 1; threads <= 3; threads++) {
        struct fixture fixture;
        fixture_open(&fixture, setting, threads, 0.4);
        gradient_of(&fixture, 0, &fixture.gradient);
        for (size_t i = 0; i < fixture.gradient.tensor_count; i++) {
            const struct tensor *tensor = &fixture.gradient.tensors[i];
            for (size_t j = 0; threads == 1 && j < tensor->rows * tensor->columns; j++)
                truth[tensor->offset + j] = (double)tensor->data[j];
            assert_tensor_close(setting, tensor, truth + tensor->offset, 1e-5);
        }
        fixture_close(&fixture);
    }
}

static void test_dropout_draws_new_masks_at_each_step(void **state)
{
    const struct setting *setting = *state;
    struct fixture fixture;
    double loss[2];
    fixture_open(&fixture, setting, 1, 0.4);
    for (uint64_t step = 0; step < 2; step++) {
        learner_reset_state(fixture.learner);
        learner_set_step_count(fixture.learner, step);
        loss[step] = gradient_of(&fixture, 0, &fixture.gradient);
    }
    assert_true(fabs(loss[0] - loss[1]) > 1e-3);
    fixture_close(&fixture);
}

#define COUNT (sizeof settings / sizeof settings[0])

static struct CMUnitTest tests[4 * COUNT];
static char names[4 * COUNT][128];
static size_t test_count;

static void add(const char *name, CMUnitTestFunction function, struct setting *setting)
{
    snprintf(names[test_count], sizeof names[0], "%s (%s)", name, setting->name);
    tests[test_count] = (struct CMUnitTest){.name = names[test_count], .test_func = function, .initial_state = setting};
    test_count++;
}
#define ADD(function, setting) add(#function, function, setting)

int main(void)
{
    for (size_t i = 0; i < COUNT; i++) {
        ADD(test_gradient_matches_differences_of_the_equations, &settings[i]);
        ADD(test_gradient_with_dropout_matches_differences_of_the_loss, &settings[i]);
        ADD(test_gradient_with_dropout_does_not_depend_on_threads, &settings[i]);
        ADD(test_dropout_draws_new_masks_at_each_step, &settings[i]);
    }
    struct kernels with_library;
    struct error err = {0};
    int failed = cmocka_run_group_tests(tests, NULL, NULL);
    if (!blas_load(&err)) {
        fprintf(stderr, "%s\n", err.message);
        return 1;
    }
    blas_kernels(kernels_select("portable"), PRODUCTS_STREAMS, &with_library);
    kernels = &with_library;
    failed += cmocka_run_group_tests(tests, NULL, NULL);
    return failed;
}
