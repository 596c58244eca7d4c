#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "model/network/quantize.h"
#include "tests/unit/generate/step_machine.h"
#include "tests/unit/support.h"

static bool is_bounded(size_t i)
{
    return has_format(i, KERNEL_INT8);
}

static void compare_with_reference(const struct architecture *architecture, const char *kernels)
{
    struct machine machine;
    struct reference reference;
    char what[100];
    machine_open(&machine, architecture, kernels);
    reference_open(&reference, &machine.network);
    for (size_t t = 0; t < STEPS; t++) {
        const uint32_t token = token_at(architecture, 0, t);
        step(&machine.stepper, &machine.scratch, 1, &token, machine.states, machine.logits);
        reference_step(&reference, token);
        snprintf(what, sizeof what, "%s %s x%u H=%u E=%u V=%u t=%zu", kernels, cell_name(architecture->cell),
                 architecture->layers, architecture->hidden_size, architecture->embedding_size,
                 architecture->vocabulary_size, t);
        assert_near_reference(&reference, machine.logits[0], what);
    }
    reference_close(&reference);
    machine_close(&machine);
}

static void test_step_matches_the_equations_in_double_precision(void **state)
{
    (void)state;
    for (size_t i = 0; i < ARCHITECTURES; i++)
        for (size_t k = 0; k < KERNELS; k++) compare_with_reference(&architectures[i], kernel_names[k]);
}

/* Returns the bits of sequence b, run alone, after STEPS steps. */
static void run_alone(struct machine *machine, size_t b)
{
    const struct architecture *architecture = &machine->stepper.architecture;
    memset(machine->states[b], 0, machine->stepper.state_size * sizeof(float));
    for (size_t t = 0; t < STEPS; t++) {
        const uint32_t token = token_at(architecture, b, t);
        step(&machine->stepper, &machine->scratch, 1, &token, &machine->states[b], &machine->logits[b]);
    }
}

static void run_together(struct machine *machine, size_t batch)
{
    const struct architecture *architecture = &machine->stepper.architecture;
    uint32_t tokens[MAX_BATCH];
    for (size_t b = 0; b < batch; b++) memset(machine->states[b], 0, machine->stepper.state_size * sizeof(float));
    for (size_t t = 0; t < STEPS; t++) {
        for (size_t b = 0; b < batch; b++) tokens[b] = token_at(architecture, b, t);
        step(&machine->stepper, &machine->scratch, batch, tokens, machine->states, machine->logits);
    }
}

static void assert_same_bits(const struct machine *a, const struct machine *b, size_t sequence)
{
    const size_t V = a->stepper.architecture.vocabulary_size;
    assert_memory_equal(a->states[sequence], b->states[sequence], a->stepper.state_size * sizeof(float));
    assert_memory_equal(a->logits[sequence], b->logits[sequence], V * sizeof(float));
}

static void test_step_gives_a_sequence_the_same_bits_alone_and_in_any_batch(void **state)
{
    (void)state;
    for (size_t i = 0; i < ARCHITECTURES; i++) {
        for (size_t k = 0; k < KERNELS * FORMATS; k++) {
            struct machine alone, together;
            const enum kernel_format format = (enum kernel_format)(k / KERNELS);
            if (!has_format(i, format)) continue;
            machine_open_as(&alone, &architectures[i], kernel_names[k % KERNELS], format);
            machine_open_as(&together, &architectures[i], kernel_names[k % KERNELS], format);
            for (size_t b = 0; b < MAX_BATCH; b++) run_alone(&alone, b);
            for (size_t batch = 2; batch <= MAX_BATCH; batch++) {
                run_together(&together, batch);
                for (size_t b = 0; b < batch; b++) assert_same_bits(&alone, &together, b);
            }
            machine_close(&alone);
            machine_close(&together);
        }
    }
}

/* The network whose weights are what a format makes of another's. */
static void round_weights(struct network *network, enum kernel_format format)
{
    for (size_t i = 0; i < network->tensor_count; i++) {
        const struct tensor *tensor = &network->tensors[i];
        if (!quantize_applies(&network->architecture, tensor)) continue;
        for (size_t row = 0; row < tensor->rows; row++) {
            float *values = tensor->data + row * tensor->columns;
            int8_t q[64];
            const float scale = quantize_int8(tensor->columns, values, q);
            for (size_t c = 0; c < tensor->columns; c++) {
                const uint32_t bits = (uint32_t)quantize_bf16(values[c]) << 16;
                if (format == KERNEL_BF16) memcpy(&values[c], &bits, sizeof bits);
                if (format == KERNEL_INT8) values[c] = (float)q[c] * scale;
            }
        }
    }
}

/* Rounding the weights is all that a format costs, but for int8's inputs of 15 or 16 bits (whose error a random
 * recurrent network amplifies from step to step): against the equations with
 * rounded weights, and with the same bits as the rounded network in that format. */
static void check_format(const struct architecture *architecture, const char *kernels, enum kernel_format format)
{
    struct machine machine, rounded;
    struct reference reference;
    machine_open_as(&machine, architecture, kernels, format);
    reference_random_network(&rounded.network, architecture, 5, 0.4);
    round_weights(&rounded.network, format);
    machine_start(&rounded, kernels, format);
    reference_open(&reference, &rounded.network);
    for (size_t t = 0; t < STEPS; t++) {
        const uint32_t token = token_at(architecture, 0, t);
        step(&machine.stepper, &machine.scratch, 1, &token, machine.states, machine.logits);
        step(&rounded.stepper, &rounded.scratch, 1, &token, rounded.states, rounded.logits);
        if (!architecture->tie_weights) assert_same_bits(&machine, &rounded, 0); /* tied: the embedding is rounded */
        reference_step(&reference, token);
        for (size_t v = 0; v < architecture->vocabulary_size; v++) {
            const double error = fabs((double)rounded.logits[0][v] - reference.logits[v]);
            if (!(error < (format == KERNEL_INT8 ? 1e-2 : 5e-5)))
                fail_msg("%s %s %s H=%u: error %g", kernels, kernel_format_name(format), cell_name(architecture->cell),
                         architecture->hidden_size, error);
        }
    }
    reference_close(&reference);
    machine_close(&machine);
    machine_close(&rounded);
}

static void test_step_in_fewer_bits_is_the_network_of_rounded_weights(void **state)
{
    (void)state;
    for (size_t i = 0; i < ARCHITECTURES; i++) {
        for (size_t k = 0; k < KERNELS; k++) {
            check_format(&architectures[i], kernel_names[k], KERNEL_BF16);
            if (is_bounded(i)) check_format(&architectures[i], kernel_names[k], KERNEL_INT8);
        }
    }
}

static void test_step_writes_logits_only_where_they_are_wanted(void **state)
{
    (void)state;
    for (size_t i = 0; i < ARCHITECTURES; i++) {
        for (unsigned mask = 0; mask < 1u << 5; mask++) {
            struct machine all, some;
            float *wanted[5];
            uint32_t tokens[5];
            machine_open(&all, &architectures[i], "auto");
            machine_open(&some, &architectures[i], "auto");
            for (size_t b = 0; b < 5; b++) {
                tokens[b] = token_at(&architectures[i], b, 0);
                wanted[b] = mask >> b & 1 ? some.logits[b] : NULL;
            }
            step(&all.stepper, &all.scratch, 5, tokens, all.states, all.logits);
            step(&some.stepper, &some.scratch, 5, tokens, some.states, wanted);
            for (size_t b = 0; b < 5; b++) {
                if (wanted[b] == NULL) memset(all.logits[b], 0, all.stepper.logits_size * sizeof(float));
                assert_same_bits(&all, &some, b);
            }
            machine_close(&all);
            machine_close(&some);
        }
    }
}

static void test_step_without_logits_moves_the_state_alone(void **state)
{
    (void)state;
    struct machine with, without;
    machine_open(&with, &architectures[1], "auto");
    machine_open(&without, &architectures[1], "auto");
    const uint32_t tokens[3] = {4, 0, 83};
    step(&with.stepper, &with.scratch, 3, tokens, with.states, with.logits);
    step(&without.stepper, &without.scratch, 3, tokens, without.states, NULL);
    for (size_t b = 0; b < 3; b++) {
        assert_memory_equal(with.states[b], without.states[b], with.stepper.state_size * sizeof(float));
        for (size_t v = 0; v < without.stepper.logits_size; v++) assert_true(without.logits[b][v] == 0);
    }
    machine_close(&with);
    machine_close(&without);
}

static void test_step_keeps_the_padding_of_states_zero(void **state)
{
    (void)state;
    for (size_t i = 0; i < ARCHITECTURES; i++) {
        struct machine machine;
        const struct architecture *a = &architectures[i];
        machine_open(&machine, a, "auto");
        run_together(&machine, 3);
        for (size_t k = 0; k < a->layers; k++) {
            const size_t width = machine.stepper.weights.layers[k].width, first = machine.stepper.first_state[k];
            const size_t end = k + 1 < a->layers ? machine.stepper.first_state[k + 1] : machine.stepper.state_size;
            for (size_t at = first; at < end; at++)
                if ((at - first) % width >= architecture_hidden(a, k)) assert_true(machine.states[2][at] == 0);
        }
        machine_close(&machine);
    }
}

static void test_step_refuses_int8_where_layers_are_unbounded(void **state)
{
    (void)state;
    struct architecture a = {.cell = CELL_GRU, .layers = 1, .hidden_size = 4, .vocabulary_size = 3};
    assert_true(quantize_check(&a, KERNEL_INT8, NULL));
    const struct {
        enum activation cell, gates, dense, named;
    } cases[] = {{ACTIVATION_RELU, ACTIVATION_DEFAULT, ACTIVATION_TANH, ACTIVATION_RELU},
                 {ACTIVATION_DEFAULT, ACTIVATION_LINEAR, ACTIVATION_TANH, ACTIVATION_LINEAR},
                 {ACTIVATION_DEFAULT, ACTIVATION_TANH, ACTIVATION_TANH, ACTIVATION_TANH},
                 {ACTIVATION_DEFAULT, ACTIVATION_DEFAULT, ACTIVATION_DEFAULT, ACTIVATION_LINEAR}};
    a.dense_layers = 1;
    a.dense[0].size = 5;
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct network network;
        struct stepper stepper;
        struct error err = {0};
        a.activation = cases[i].cell;
        a.recurrent_activation = cases[i].gates;
        a.dense[0].activation = cases[i].dense;
        reference_random_network(&network, &a, 1, 0.1);
        assert_false(stepper_open_as(&stepper, &network, kernels_select("auto"), KERNEL_INT8, &err));
        stepper_close(&stepper);
        assert_int_equal(err.code, ERROR_INVALID);
        assert_non_null(strstr(err.message, activation_name(cases[i].named)));
        assert_true(stepper_open_as(&stepper, &network, kernels_select("auto"), KERNEL_BF16, &err));
        stepper_close(&stepper);
        network_close(&network);
    }
}

static void test_step_states_hold_h_and_c_of_every_layer(void **state)
{
    (void)state;
    struct machine machine;
    machine_open(&machine,
                 &(struct architecture){.cell = CELL_LSTM, .layers = 3, .hidden_size = 33, .vocabulary_size = 9},
                 "auto");
    assert_int_equal(machine.stepper.state_size, 3 * 2 * 48);
    assert_int_equal(machine.stepper.logits_size, 16);
    machine_close(&machine);
    machine_open(&machine,
                 &(struct architecture){.cell = CELL_GRU, .layers = 2, .hidden_size = 16, .vocabulary_size = 17},
                 "auto");
    assert_int_equal(machine.stepper.state_size, 2 * 16);
    assert_int_equal(machine.stepper.logits_size, 32);
    machine_close(&machine);
}

static void test_step_does_not_need_the_network_any_more(void **state)
{
    (void)state;
    struct machine machine, other;
    machine_open(&machine, &architectures[8], "auto");
    machine_open(&other, &architectures[8], "auto");
    memset(machine.network.parameters, 0xFF, machine.network.parameter_count * sizeof(float));
    run_alone(&machine, 0);
    run_alone(&other, 0);
    assert_same_bits(&machine, &other, 0);
    machine_close(&machine);
    machine_close(&other);
}

static void test_step_scratch_refuses_a_batch_beyond_memory(void **state)
{
    (void)state;
    struct machine machine;
    struct step_scratch scratch;
    struct error err = {0};
    machine_open(&machine, &architectures[0], "auto");
    assert_false(step_scratch_open(&scratch, &machine.stepper, SIZE_MAX / 8, &err));
    assert_int_equal(err.code, ERROR_TOO_LARGE);
    step_scratch_close(&scratch);
    machine_close(&machine);
}

static void test_step_never_allocates(void **state)
{
    (void)state;
    for (size_t i = 0; i < ARCHITECTURES; i++) {
        struct machine machine;
        machine_open(&machine, &architectures[i], "auto");
        fail_allocation(1);
        run_together(&machine, 1);
        run_together(&machine, MAX_BATCH);
        assert_false(fail_allocation_done());
        machine_close(&machine);
    }
}

static bool open_and_close(void *context, struct error *err)
{
    struct stepper stepper;
    struct step_scratch scratch;
    bool done = stepper_open(&stepper, context, kernels_select("auto"), err);
    if (done) {
        done = step_scratch_open(&scratch, &stepper, MAX_BATCH, err);
        step_scratch_close(&scratch);
    }
    stepper_close(&stepper);
    return done;
}

static void test_step_survives_failing_allocations(void **state)
{
    (void)state;
    for (size_t i = 0; i < ARCHITECTURES; i++) {
        struct network network;
        reference_random_network(&network, &architectures[i], 1, 0.1);
        assert_survives_failing_allocations(open_and_close, &network);
        network_close(&network);
    }
}

static void test_step_survives_extreme_weights(void **state)
{
    (void)state;
    for (size_t i = 0; i < ARCHITECTURES; i++) {
        struct machine machine;
        if (!is_bounded(i)) continue;
        machine_open(&machine, &architectures[i], "auto");
        stepper_close(&machine.stepper);
        for (size_t p = 0; p < machine.network.parameter_count; p++) machine.network.parameters[p] *= 1e4f;
        assert_true(stepper_open(&machine.stepper, &machine.network, kernels_select("auto"), NULL));
        run_together(&machine, 3);
        for (size_t at = 0; at < machine.stepper.state_size; at++) assert_true(isfinite(machine.states[1][at]));
        machine_close(&machine);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_step_matches_the_equations_in_double_precision),
        cmocka_unit_test(test_step_gives_a_sequence_the_same_bits_alone_and_in_any_batch),
        cmocka_unit_test(test_step_in_fewer_bits_is_the_network_of_rounded_weights),
        cmocka_unit_test(test_step_writes_logits_only_where_they_are_wanted),
        cmocka_unit_test(test_step_without_logits_moves_the_state_alone),
        cmocka_unit_test(test_step_keeps_the_padding_of_states_zero),
        cmocka_unit_test(test_step_refuses_int8_where_layers_are_unbounded),
        cmocka_unit_test(test_step_states_hold_h_and_c_of_every_layer),
        cmocka_unit_test(test_step_does_not_need_the_network_any_more),
        cmocka_unit_test(test_step_scratch_refuses_a_batch_beyond_memory),
        cmocka_unit_test(test_step_never_allocates),
        cmocka_unit_test(test_step_survives_failing_allocations),
        cmocka_unit_test(test_step_survives_extreme_weights),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
