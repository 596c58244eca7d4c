/* Small networks of every kind that stepping distinguishes, and what steps them, for the tests of step.h and
 * step_piece.h. */
#ifndef LSTMD_TESTS_UNIT_GENERATE_STEP_MACHINE_H
#define LSTMD_TESTS_UNIT_GENERATE_STEP_MACHINE_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <math.h>
#include <stdlib.h>

#include "model/generate/step.h"
#include "model/network/quantize.h"
#include "tests/unit/network/reference.h"

#define STEPS     12
#define MAX_BATCH 13

/* Every kind of network that stepping distinguishes; sizes that are not whole blocks. */
static const struct architecture architectures[] = {
    {.cell = CELL_LSTM, .layers = 1, .hidden_size = 16, .vocabulary_size = 17},
    {.cell = CELL_LSTM, .layers = 2, .hidden_size = 19, .vocabulary_size = 84},
    {.cell = CELL_LSTM, .layers = 3, .hidden_size = 33, .embedding_size = 7, .vocabulary_size = 5},
    {.cell = CELL_LSTM, .layers = 1, .hidden_size = 1, .embedding_size = 1, .vocabulary_size = 2, .tie_weights = true},
    {.cell = CELL_LSTM,
     .layers = 2,
     .hidden_size = 24,
     .embedding_size = 24,
     .vocabulary_size = 31,
     .tie_weights = true},
    {.cell = CELL_LSTM, .layers = 1, .hidden_size = 20, .vocabulary_size = 1037},
    {.cell = CELL_GRU, .layers = 1, .hidden_size = 16, .vocabulary_size = 16},
    {.cell = CELL_GRU, .layers = 2, .hidden_size = 21, .vocabulary_size = 33},
    {.cell = CELL_GRU, .layers = 3, .hidden_size = 35, .embedding_size = 18, .vocabulary_size = 65},
    {.cell = CELL_GRU,
     .layers = 2,
     .hidden_size = 17,
     .embedding_size = 17,
     .vocabulary_size = 40,
     .tie_weights = true},
    {.cell = CELL_GRU, .layers = 1, .hidden_size = 40, .embedding_size = 33, .vocabulary_size = 600},
    {.cell = CELL_RNN, .layers = 1, .hidden_size = 5, .vocabulary_size = 3},
    {.cell = CELL_RNN, .layers = 2, .hidden_size = 48, .vocabulary_size = 50},
    {.cell = CELL_RNN, .layers = 3, .hidden_size = 31, .embedding_size = 9, .vocabulary_size = 29},
    {.cell = CELL_RNN,
     .layers = 2,
     .hidden_size = 30,
     .embedding_size = 30,
     .vocabulary_size = 70,
     .tie_weights = true},
    /* Variants; the first three have standard cells. */
    {.cell = CELL_LSTM, .layers = 3, .hidden_size = 17, .hidden_sizes = {40, 5, 17}, .vocabulary_size = 20},
    {.cell = CELL_GRU,
     .layers = 2,
     .hidden_size = 21,
     .hidden_sizes = {16, 21},
     .embedding_size = 30,
     .vocabulary_size = 33,
     .dense_layers = 3,
     .dense = {{50, ACTIVATION_RELU}, {7, ACTIVATION_TANH}, {30, ACTIVATION_LINEAR}},
     .tie_weights = true},
    {.cell = CELL_RNN,
     .layers = 1,
     .hidden_size = 18,
     .vocabulary_size = 23,
     .dense_layers = 1,
     .dense = {{33, ACTIVATION_SIGMOID}},
     .window = {.size = 5}},
    {.cell = CELL_LSTM, .layers = 2, .hidden_size = 19, .vocabulary_size = 84, .activation = ACTIVATION_SIGMOID},
    {.cell = CELL_LSTM,
     .layers = 1,
     .hidden_size = 33,
     .embedding_size = 18,
     .vocabulary_size = 21,
     .recurrent_activation = ACTIVATION_HARD_SIGMOID_KERAS2},
    {.cell = CELL_LSTM,
     .layers = 2,
     .hidden_size = 12,
     .hidden_sizes = {36, 12},
     .vocabulary_size = 40,
     .activation = ACTIVATION_RELU,
     .recurrent_activation = ACTIVATION_HARD_SIGMOID},
    {.cell = CELL_GRU, .layers = 2, .hidden_size = 23, .vocabulary_size = 50, .reset_before = true},
    {.cell = CELL_GRU,
     .layers = 2,
     .hidden_size = 35,
     .hidden_sizes = {18, 35},
     .embedding_size = 20,
     .vocabulary_size = 65,
     .reset_before = true,
     .recurrent_activation = ACTIVATION_HARD_SIGMOID_KERAS2},
    {.cell = CELL_GRU,
     .layers = 2,
     .hidden_size = 19,
     .vocabulary_size = 31,
     .activation = ACTIVATION_HARD_SIGMOID,
     .recurrent_activation = ACTIVATION_HARD_SIGMOID},
    {.cell = CELL_RNN, .layers = 2, .hidden_size = 20, .vocabulary_size = 31, .activation = ACTIVATION_SIGMOID},
    {.cell = CELL_RNN,
     .layers = 1,
     .hidden_size = 9,
     .embedding_size = 7,
     .vocabulary_size = 30,
     .activation = ACTIVATION_RELU,
     .dense_layers = 1,
     .dense = {{12, ACTIVATION_RELU}}},
    {.cell = CELL_RNN, .layers = 1, .hidden_size = 6, .vocabulary_size = 12, .activation = ACTIVATION_LINEAR},
};
#define ARCHITECTURES (sizeof architectures / sizeof architectures[0])

static const char *const kernel_names[] = {"ref", "portable", "auto"};
#define KERNELS (sizeof kernel_names / sizeof kernel_names[0])
#define FORMATS 3

/* Not every network can be kept in int8. */
static bool has_format(size_t i, enum kernel_format format)
{
    return quantize_check(&architectures[i], format, NULL);
}

struct machine {
    struct network network;
    struct stepper stepper;
    struct step_scratch scratch;
    float *states[MAX_BATCH], *logits[MAX_BATCH];
};

/* A machine for the network that `machine` holds already. */
static void machine_start(struct machine *machine, const char *kernels, enum kernel_format format)
{
    assert_true(stepper_open_as(&machine->stepper, &machine->network, kernels_select(kernels), format, NULL));
    assert_true(step_scratch_open(&machine->scratch, &machine->stepper, MAX_BATCH, NULL));
    for (size_t b = 0; b < MAX_BATCH; b++) {
        machine->states[b] = calloc(machine->stepper.state_size, sizeof(float));
        machine->logits[b] = calloc(machine->stepper.logits_size, sizeof(float));
        assert_non_null(machine->states[b]);
        assert_non_null(machine->logits[b]);
    }
}

static void machine_open_as(struct machine *machine, const struct architecture *architecture, const char *kernels,
                            enum kernel_format format)
{
    reference_random_network(&machine->network, architecture, 5, 0.4);
    machine_start(machine, kernels, format);
}

static void machine_open(struct machine *machine, const struct architecture *architecture, const char *kernels)
{
    machine_open_as(machine, architecture, kernels, KERNEL_F32);
}

static void machine_close(struct machine *machine)
{
    for (size_t b = 0; b < MAX_BATCH; b++) {
        free(machine->states[b]);
        free(machine->logits[b]);
    }
    step_scratch_close(&machine->scratch);
    stepper_close(&machine->stepper);
    network_close(&machine->network);
}

/* The token that sequence b reads at time t. */
static uint32_t token_at(const struct architecture *architecture, size_t b, size_t t)
{
    struct rng rng;
    rng_seed(&rng, b, t);
    return (uint32_t)rng_below(&rng, architecture->vocabulary_size);
}

static void assert_near_reference(const struct reference *reference, const float *logits, const char *what)
{
    const size_t V = reference->network->architecture.vocabulary_size;
    double error = 0, size = 0;
    for (size_t v = 0; v < V; v++) {
        error = fmax(error, fabs((double)logits[v] - reference->logits[v]));
        size = fmax(size, fabs(reference->logits[v]));
    }
    if (!(error <= 2e-5 * fmax(1, size))) fail_msg("%s: error %g of %g", what, error, size);
}

#endif
