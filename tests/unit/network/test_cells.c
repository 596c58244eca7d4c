/* The table of cells: its rows agree with each other, and with the places of the gates. */
#include <string.h>

#include "model/kernels/kernels.h"
#include "model/network/cells.h"
#include "model/network/gates.h"
#include "tests/unit/support.h"

static void test_cell_names_are_all_in_the_messages(void **state)
{
    (void)state;
    for (size_t i = 0; i < CELL_COUNT; i++) {
        assert_non_null(strstr(CELL_NAMES, cell_table[i].name));
        for (size_t k = 0; k < i; k++) assert_string_not_equal(cell_table[i].name, cell_table[k].name);
    }
}

/* An option's number of a cell is its kind: cells that train come first. */
static void test_cell_trained_names_are_those_of_rows_with_training_kernels(void **state)
{
    (void)state;
    size_t trained = 0;
    for (; cell_trained_names[trained]; trained++) {
        assert_true(trained < CELL_COUNT);
        assert_string_equal(cell_trained_names[trained], cell_table[trained].name);
        assert_true(cell_table[trained].forward && cell_table[trained].backward && cell_table[trained].step);
    }
    for (size_t i = trained; i < CELL_COUNT; i++) assert_true(!cell_table[i].forward && !cell_table[i].backward);
}

static bool is_permutation(const unsigned char *order, size_t n)
{
    unsigned seen = 0;
    for (size_t i = 0; i < n; i++) seen |= 1u << order[i];
    return seen == (1u << n) - 1;
}

static void test_cell_orders_are_permutations_of_the_gates(void **state)
{
    (void)state;
    for (size_t i = 0; i < CELL_COUNT; i++) {
        const struct cell *cell = &cell_table[i];
        assert_in_range(cell->gates, 1, CELL_MAX_GATES);
        assert_in_range(cell->states, 1, 2);
        assert_true(cell->forget_gate < (int)cell->gates);
        if (cell->step) assert_true(is_permutation(cell->input_order, cell->gates));
        if (!cell->keras.class) continue;
        assert_true(is_permutation(cell->keras.order, cell->gates));
        assert_true(is_permutation(cell->keras.order_of_keras1, cell->gates));
    }
}

static void test_cell_can_step_plainly(void **state)
{
    (void)state;
    for (size_t i = 0; i < CELL_COUNT; i++) {
        const struct cell *cell = &cell_table[i];
        assert_true(cell->plain.last);
        assert_int_equal(cell->may_reset_before, cell->plain_reset_before.last != NULL);
        assert_int_equal(cell->plain.first_gates > 0, cell->plain.first != NULL);
        assert_true(cell->plain.first_gates < cell->gates);
        assert_true(cell->plain_reset_before.first_gates < cell->gates);
    }
}

/* Every row of the file has a place of its own, and the place leads back to it. */
static void test_gates_index_is_the_inverse_of_gates_place(void **state)
{
    (void)state;
    const size_t H = 37, blocks = 3;
    for (size_t i = 0; i < CELL_COUNT; i++) {
        if (!cell_table[i].step) continue;
        for (size_t row = 0; row < cell_table[i].gates * H; row++) {
            for (int hidden = 0; hidden < 2; hidden++) {
                const size_t at = gates_index((enum cell_kind)i, H, hidden, row);
                assert_true(at < cell_table[i].gates * blocks * KERNEL_BLOCK);
                const struct gates_place place = gates_place((enum cell_kind)i, hidden, at / KERNEL_BLOCK);
                assert_int_equal(place.gate * H + place.unit + at % KERNEL_BLOCK, row);
            }
        }
    }
}

static void test_gates_of_a_gru_have_the_orders_of_the_kernels(void **state)
{
    (void)state;
    const size_t n_r_z[] = {2, 0, 1};
    for (size_t block = 0; block < 6; block++) {
        assert_int_equal(gates_place(CELL_GRU, false, block).gate, n_r_z[block % 3]);
        assert_int_equal(gates_place(CELL_GRU, true, block).gate, block % 3);
        assert_int_equal(gates_place(CELL_GRU, true, block).unit, block / 3 * KERNEL_BLOCK);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_cell_names_are_all_in_the_messages),
        cmocka_unit_test(test_cell_trained_names_are_those_of_rows_with_training_kernels),
        cmocka_unit_test(test_cell_orders_are_permutations_of_the_gates),
        cmocka_unit_test(test_cell_can_step_plainly),
        cmocka_unit_test(test_gates_index_is_the_inverse_of_gates_place),
        cmocka_unit_test(test_gates_of_a_gru_have_the_orders_of_the_kernels),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
