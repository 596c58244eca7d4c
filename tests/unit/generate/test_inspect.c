/* model/generate/inspect: the figures of some logits, and gates that reproduce the state after the step. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/rng.h"
#include "model/generate/inspect.h"
#include "model/generate/reading.h"
#include "model/network/plain_step.h"
#include "model/network/quantize.h"
#include "tests/unit/network/reference.h"
#include "tests/unit/support.h"

#define V      30
#define TOKENS 9

/* Fused cells and others, one-hot and embedded inputs, several layers, widths that are not whole blocks. */
static const struct architecture architectures[] = {
    {.cell = CELL_LSTM, .layers = 2, .hidden_size = 19, .vocabulary_size = V},
    {.cell = CELL_LSTM, .layers = 3, .hidden_size = 33, .embedding_size = 7, .vocabulary_size = V},
    {.cell = CELL_LSTM, .layers = 1, .hidden_size = 16, .embedding_size = 40, .vocabulary_size = V},
    {.cell = CELL_LSTM, .layers = 2, .hidden_size = 12, .hidden_sizes = {36, 12}, .vocabulary_size = V},
    {.cell = CELL_LSTM,
     .layers = 2,
     .hidden_size = 17,
     .vocabulary_size = V,
     .recurrent_activation = ACTIVATION_HARD_SIGMOID},
    {.cell = CELL_GRU, .layers = 2, .hidden_size = 21, .vocabulary_size = V},
    {.cell = CELL_GRU, .layers = 2, .hidden_size = 17, .embedding_size = 18, .vocabulary_size = V},
    {.cell = CELL_GRU, .layers = 2, .hidden_size = 23, .vocabulary_size = V, .reset_before = true},
    {.cell = CELL_GRU,
     .layers = 2,
     .hidden_size = 35,
     .hidden_sizes = {18, 35},
     .embedding_size = 20,
     .vocabulary_size = V,
     .reset_before = true},
};
#define ARCHITECTURES (sizeof architectures / sizeof *architectures)

struct fixture {
    struct network network;
    struct stepper stepper;
    uint32_t ids[TOKENS];
    struct reading reading;
    float *before, *gates; /* [state_size]; [G][H] */
};

static void fixture_open(struct fixture *f, const struct architecture *architecture, const char *kernels,
                         enum kernel_format format)
{
    struct error err = {0};
    reference_random_network(&f->network, architecture, 5, 0.4);
    for (size_t i = 0; i < TOKENS; i++) f->ids[i] = (uint32_t)(i * 7 % V);
    if (!stepper_open_as(&f->stepper, &f->network, kernels_select(kernels), format, &err) ||
        !reading_open(&f->reading, &f->stepper,
                      &(struct reading_options){
                          .ids = f->ids, .count = TOKENS, .pad = UINT32_MAX, .each_state = true, .keep_gates = true},
                      &err))
        fail_msg("%s", err.message);
    f->before = calloc(f->stepper.state_size, sizeof *f->before);
    f->gates = calloc(architecture_gates(architecture) * f->stepper.weights.largest_width, sizeof *f->gates);
    assert_true(f->before && f->gates);
}

static void fixture_close(struct fixture *f)
{
    free(f->before);
    free(f->gates);
    reading_close(&f->reading);
    stepper_close(&f->stepper);
    network_close(&f->network);
}

static double applied(enum activation activation, double x)
{
    switch (activation) {
    case ACTIVATION_TANH:
        return tanh(x);
    case ACTIVATION_SIGMOID:
        return 1 / (1 + exp(-x));
    default:
        fail_msg("no test of this activation");
        return 0;
    }
}

static void assert_near(double value, double expected, const char *what, size_t unit)
{
    if (!(fabs(value - expected) < 3e-6)) fail_msg("%s, unit %zu: %.9g, not %.9g", what, unit, value, expected);
}

/* The state after the step follows from the state before it and the gates, by the equations of cells.h. */
static void assert_gates_give_the_state(const struct fixture *f, size_t layer, const char *what)
{
    const struct architecture *a = &f->stepper.architecture;
    const size_t W = f->stepper.weights.layers[layer].width, first = f->stepper.first_state[layer];
    const size_t H = architecture_hidden(a, layer);
    const float *before = f->before + first, *after = f->reading.state + first, *gates = f->gates;
    for (size_t u = 0; u < H; u++) {
        const double one = (double)gates[u], two = architecture_gates(a) > 1 ? (double)gates[H + u] : 0;
        if (a->cell == CELL_LSTM) {
            const double c = two * (double)before[W + u] + one * (double)gates[2 * H + u];
            assert_near(c, (double)after[W + u], what, u);
            assert_near((double)gates[3 * H + u] * applied(a->activation, c), (double)after[u], what, u);
        } else if (a->cell == CELL_GRU) {
            assert_near((1 - two) * (double)gates[2 * H + u] + two * (double)before[u], (double)after[u], what, u);
            assert_true(one >= 0 && one <= 1);
        }
    }
}

static void test_gates_give_the_state_that_the_step_left(void **state)
{
    (void)state;
    static const char *const kernels[] = {"ref", "auto"};
    for (size_t i = 0; i < 2 * 3 * ARCHITECTURES; i++) {
        const struct architecture *a = &architectures[i / 6];
        const enum kernel_format format = (enum kernel_format)(i % 3);
        struct fixture f;
        char what[60];
        if (!quantize_check(a, format, NULL)) continue;
        fixture_open(&f, a, kernels[i / 3 % 2], format);
        for (size_t t = 0; t < TOKENS; t++) {
            memcpy(f.before, f.reading.state, f.stepper.state_size * sizeof *f.before);
            reading_feed(&f.reading, t);
            for (size_t layer = 0; layer < a->layers; layer++) {
                snprintf(what, sizeof what, "architecture %zu, format %zu, token %zu, layer %zu", i / 6, i % 3, t,
                         layer);
                step_gates(&f.stepper, &f.reading.piece.scratch, layer, f.gates);
                assert_gates_give_the_state(&f, layer, what);
            }
        }
        fixture_close(&f);
    }
}

static void test_figures_are_those_of_the_softmax(void **state)
{
    (void)state;
    float logits[V];
    struct rng rng;
    rng_seed(&rng, 2, 0);
    for (size_t v = 0; v < V; v++) logits[v] = (float)(3 * rng_normal(&rng));
    logits[9] = logits[3] = 20; /* equals: the lower id first */
    double sum = 0, entropy = 0;
    for (size_t v = 0; v < V; v++) sum += exp((double)logits[v]);
    for (size_t v = 0; v < V; v++) {
        const double p = exp((double)logits[v]) / sum;
        entropy -= p * log(p);
    }
    struct inspect_token top[V];
    const struct inspect_figures figures = inspect_logits(logits, V, 5, V, top);
    assert_true(fabs(figures.entropy - entropy) < 1e-9);
    assert_true(fabs(figures.logprob - ((double)logits[5] - log(sum))) < 1e-6);
    assert_true(top[0].id == 3 && top[1].id == 9);
    double total = 0;
    for (size_t i = 0; i < V; i++) {
        total += exp(top[i].logprob);
        assert_true(i == 0 || logits[top[i].id] <= logits[top[i - 1].id]);
    }
    assert_true(fabs(total - 1) < 1e-6);
    struct inspect_token few[3];
    inspect_logits(logits, V, 0, 3, few);
    for (size_t i = 0; i < 3; i++) assert_true(few[i].id == top[i].id && few[i].logprob == top[i].logprob);
    assert_true(inspect_logits(logits, V, 3, 0, NULL).logprob == top[0].logprob);
}

static void test_certain_token_has_no_entropy(void **state)
{
    (void)state;
    float logits[V] = {[4] = 1e6f};
    const struct inspect_figures figures = inspect_logits(logits, V, 4, 0, NULL);
    assert_true(figures.entropy == 0 && figures.logprob == 0);
}

static bool open_reading(void *context, struct error *err)
{
    struct reading reading;
    const uint32_t id = 0;
    const struct reading_options options = {
        .ids = &id, .count = 1, .pad = UINT32_MAX, .each_state = true, .keep_gates = true};
    const bool opened = reading_open(&reading, context, &options, err);
    reading_close(&reading);
    return opened;
}

static void test_inspecting_without_memory(void **state)
{
    (void)state;
    struct fixture f;
    fixture_open(&f, &architectures[0], "ref", KERNEL_INT8);
    assert_survives_failing_allocations(open_reading, &f.stepper);
    fixture_close(&f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_gates_give_the_state_that_the_step_left),
        cmocka_unit_test(test_figures_are_those_of_the_softmax),
        cmocka_unit_test(test_certain_token_has_no_entropy),
        cmocka_unit_test(test_inspecting_without_memory),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
