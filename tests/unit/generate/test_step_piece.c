/* Pieces of a text: with our own kernels they have the bits of steps, with OpenBLAS the numbers of the equations. */
#include <string.h>

#include "model/generate/step_piece.h"
#include "model/kernels/blas.h"
#include "tests/unit/generate/step_machine.h"
#include "tests/unit/support.h"

/* Reads STEPS tokens of sequence 0 in pieces that end at `cut`, and compares each token with a step. */
static void compare_piece(struct machine *machine, size_t cut)
{
    const struct architecture *architecture = &machine->stepper.architecture;
    const size_t V = architecture->vocabulary_size, size = machine->stepper.logits_size;
    struct step_piece piece;
    uint32_t tokens[STEPS];
    for (size_t b = 0; b < 2; b++) memset(machine->states[b], 0, machine->stepper.state_size * sizeof(float));
    for (size_t t = 0; t < STEPS; t++) tokens[t] = token_at(architecture, 0, t);
    assert_true(step_piece_open(&piece, &machine->stepper, STEPS, false, true, NULL));
    for (size_t first = 0; first < STEPS; first = first < cut ? cut : STEPS) {
        const size_t n = (first < cut ? cut : STEPS) - first, wanted = first < cut ? 0 : 1;
        step_piece(&piece, n, tokens + first, machine->states[0], wanted);
        for (size_t t = 0; t < n; t++) {
            step(&machine->stepper, &machine->scratch, 1, &tokens[first + t], &machine->states[1], &machine->logits[1]);
            if (t >= wanted) assert_memory_equal(piece.logits + t * size, machine->logits[1], V * sizeof(float));
        }
        assert_memory_equal(machine->states[0], machine->states[1], machine->stepper.state_size * sizeof(float));
    }
    step_piece_close(&piece);
}

static void test_step_piece_has_the_bits_of_steps_wherever_a_text_is_cut(void **state)
{
    (void)state;
    for (size_t i = 0; i < ARCHITECTURES; i++) {
        for (size_t k = 0; k < KERNELS * FORMATS; k++) {
            struct machine machine;
            const enum kernel_format format = (enum kernel_format)(k / KERNELS);
            if (!has_format(i, format)) continue;
            machine_open_as(&machine, &architectures[i], kernel_names[k % KERNELS], format);
            for (size_t cut = 1; cut <= STEPS; cut++) compare_piece(&machine, cut);
            machine_close(&machine);
        }
    }
}

/* The library's numbers are those of the equations, and it is called where it is named. */
static void test_step_piece_by_openblas_matches_the_equations(void **state)
{
    (void)state;
    assert_true(blas_load(NULL));
    for (size_t i = 0; i < ARCHITECTURES; i++) {
        struct machine machine;
        struct reference reference;
        struct step_piece piece;
        uint32_t tokens[STEPS];
        machine_open(&machine, &architectures[i], "portable");
        machine.stepper.library = true;
        reference_open(&reference, &machine.network);
        for (size_t t = 0; t < STEPS; t++) tokens[t] = token_at(&architectures[i], 0, t);
        assert_true(step_piece_open(&piece, &machine.stepper, STEPS, true, true, NULL));
        const uint64_t calls = blas_calls();
        step_piece(&piece, STEPS, tokens, machine.states[0], 0);
        assert_int_equal(piece.library, architecture_cell_is_standard(&architectures[i]));
        assert_int_equal(blas_calls() > calls, piece.library);
        machine.stepper.weights.format = KERNEL_BF16;
        assert_false(step_piece_has_library(&machine.stepper));
        for (size_t t = 0; t < STEPS; t++) {
            reference_step(&reference, tokens[t]);
            assert_near_reference(&reference, piece.logits + t * machine.stepper.logits_size, "openblas");
        }
        step_piece_close(&piece);
        reference_close(&reference);
        machine_close(&machine);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_step_piece_has_the_bits_of_steps_wherever_a_text_is_cut),
        cmocka_unit_test(test_step_piece_by_openblas_matches_the_equations),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
