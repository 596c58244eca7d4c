/* model/interop/export.h: refusals and failing allocations. tests/cli/test_export.py tests the content of the files. */
#include <stdlib.h>
#include <string.h>

#include "model/interop/export.h"
#include "tests/unit/network/reference.h"
#include "tests/unit/support.h"

static const struct architecture rich = {.cell = CELL_GRU,
                                         .layers = 2,
                                         .hidden_size = 5,
                                         .hidden_sizes = {7, 5},
                                         .embedding_size = 3,
                                         .vocabulary_size = 4,
                                         .recurrent_activation = ACTIVATION_HARD_SIGMOID,
                                         .dense_layers = 1,
                                         .dense = {{6, ACTIVATION_RELU}}};
static const struct architecture plain = {
    .cell = CELL_LSTM, .layers = 2, .hidden_size = 5, .embedding_size = 3, .vocabulary_size = 4};

static bool write_keras(void *context, struct error *err)
{
    unsigned char *data;
    size_t size;
    const bool done = export_keras(context, &data, &size, err);
    if (done) free(data);
    return done;
}

static bool write_torch(void *context, struct error *err)
{
    unsigned char *data;
    size_t size;
    const bool done = export_torch(context, &data, &size, err);
    if (done) free(data);
    return done;
}

static void test_export_survives_failing_allocations(void **state)
{
    (void)state;
    struct network network;
    reference_random_network(&network, &rich, 1, 0.5);
    assert_survives_failing_allocations(write_keras, &network);
    network_close(&network);
    reference_random_network(&network, &plain, 1, 0.5);
    assert_survives_failing_allocations(write_keras, &network);
    assert_survives_failing_allocations(write_torch, &network);
    network_close(&network);
}

static void test_export_of_the_same_network_is_the_same_bytes(void **state)
{
    (void)state;
    struct network network;
    unsigned char *data[4];
    size_t size[4];
    reference_random_network(&network, &plain, 1, 0.5);
    for (size_t i = 0; i < 2; i++) {
        assert_true(export_keras(&network, &data[i], &size[i], NULL));
        assert_true(export_torch(&network, &data[2 + i], &size[2 + i], NULL));
    }
    for (size_t i = 0; i < 4; i += 2) {
        assert_int_equal(size[i], size[i + 1]);
        assert_memory_equal(data[i], data[i + 1], size[i]);
        free(data[i]);
        free(data[i + 1]);
    }
    network_close(&network);
}

static void test_export_refuses_what_the_format_cannot_express(void **state)
{
    (void)state;
    struct architecture a = plain;
    struct network network;
    struct error err = {0};
    a.activation = ACTIVATION_HARD_SIGMOID;
    a.recurrent_activation = ACTIVATION_HARD_SIGMOID_KERAS2;
    reference_random_network(&network, &a, 1, 0.5);
    assert_false(write_keras(&network, &err));
    assert_int_equal(err.code, ERROR_INVALID);
    error_clear(&err);
    assert_false(write_torch(&network, &err));
    assert_int_equal(err.code, ERROR_INVALID);
    network_close(&network);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_export_survives_failing_allocations),
        cmocka_unit_test(test_export_of_the_same_network_is_the_same_bytes),
        cmocka_unit_test(test_export_refuses_what_the_format_cannot_express),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
