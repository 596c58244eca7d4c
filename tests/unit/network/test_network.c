/* model/network: the tensors of every architecture, their places and pointers, and their first values. */
#include <math.h>
#include <string.h>

#include "model/network/network.h"
#include "tests/unit/support.h"

static struct architecture make_architecture(enum cell_kind cell, uint32_t layers, uint32_t H, uint32_t E, uint32_t V)
{
    return (struct architecture){
        .cell = cell, .layers = layers, .hidden_size = H, .embedding_size = E, .vocabulary_size = V};
}

static void open_network(struct network *network, const struct architecture *architecture)
{
    struct error err = {0};
    if (!network_open(network, architecture, &err)) fail_msg("%s", err.message);
}

static const struct tensor *find(const struct network *network, const char *name)
{
    for (size_t i = 0; i < network->tensor_count; i++)
        if (strcmp(network->tensors[i].name, name) == 0) return &network->tensors[i];
    return NULL;
}

static void test_network_of_the_notebook_has_119892_parameters(void **state)
{
    (void)state;
    struct architecture a = make_architecture(CELL_LSTM, 1, 128, 0, 84);
    struct network network;
    open_network(&network, &a);
    assert_int_equal(network.parameter_count, 119892);
    assert_int_equal(network.tensor_count, 5);
    assert_int_equal(find(&network, "output.weight")->offset, 109056);
    assert_null(find(&network, "embedding.weight"));
    assert_null(network.embedding);
    network_close(&network);
}

static void assert_tensor(const struct network *network, const char *name, size_t rows, size_t columns, bool vector,
                          const float *pointer)
{
    const struct tensor *tensor = find(network, name);
    if (!tensor) fail_msg("no tensor %s", name);
    assert_int_equal(tensor->rows, rows);
    assert_int_equal(tensor->columns, columns);
    assert_int_equal(tensor->vector, vector);
    assert_ptr_equal(tensor->data, pointer);
    assert_ptr_equal(tensor->data, network->parameters + tensor->offset);
}

static void test_network_tensors_have_the_shapes_of_the_file_format(void **state)
{
    (void)state;
    struct architecture a = make_architecture(CELL_GRU, 2, 5, 3, 7);
    struct network n;
    open_network(&n, &a);
    assert_int_equal(n.tensor_count, 11);
    assert_tensor(&n, "embedding.weight", 7, 3, false, n.embedding);
    assert_tensor(&n, "rnn.weight_ih_l0", 15, 3, false, n.weight_ih[0]);
    assert_tensor(&n, "rnn.weight_ih_l1", 15, 5, false, n.weight_ih[1]);
    assert_tensor(&n, "rnn.weight_hh_l0", 15, 5, false, n.weight_hh[0]);
    assert_tensor(&n, "rnn.weight_hh_l1", 15, 5, false, n.weight_hh[1]);
    assert_tensor(&n, "rnn.bias_l0", 15, 1, true, n.bias[0]);
    assert_tensor(&n, "rnn.bias_l1", 15, 1, true, n.bias[1]);
    assert_tensor(&n, "rnn.bias_hh_l0", 15, 1, true, n.bias_hh[0]);
    assert_tensor(&n, "rnn.bias_hh_l1", 15, 1, true, n.bias_hh[1]);
    assert_tensor(&n, "output.weight", 7, 5, false, n.output_weight);
    assert_tensor(&n, "output.bias", 7, 1, true, n.output_bias);
    assert_null(n.weight_ih[2]);
    network_close(&n);
    assert_null(n.parameters);
}

static void test_network_with_one_hidden_unit_keeps_matrices_apart_from_vectors(void **state)
{
    (void)state;
    struct architecture a = make_architecture(CELL_RNN, 1, 1, 0, 2);
    struct network n;
    open_network(&n, &a);
    assert_tensor(&n, "rnn.weight_hh_l0", 1, 1, false, n.weight_hh[0]);
    assert_tensor(&n, "output.weight", 2, 1, false, n.output_weight);
    assert_tensor(&n, "output.bias", 2, 1, true, n.output_bias);
    assert_null(n.bias_hh[0]);
    network_close(&n);
}

static void test_network_tied_output_is_the_embedding(void **state)
{
    (void)state;
    struct architecture a = make_architecture(CELL_LSTM, 1, 4, 4, 9);
    a.tie_weights = true;
    struct network n;
    open_network(&n, &a);
    assert_null(find(&n, "output.weight"));
    assert_ptr_equal(n.output_weight, n.embedding);
    assert_int_equal(n.parameter_count, 9 * 4 + 16 * 4 + 16 * 4 + 16 + 9);
    network_close(&n);
}

/* Every architecture: tensors follow one another without gaps, and there are exactly as many as fit the list. */
static void test_network_tensors_tile_the_parameter_block(void **state)
{
    (void)state;
    for (int cell = CELL_LSTM; cell <= CELL_RNN; cell++)
        for (uint32_t layers = 1; layers <= NETWORK_MAX_LAYERS; layers++) {
            struct architecture a = make_architecture((enum cell_kind)cell, layers, 3, layers % 2 * 2, 5);
            struct network n;
            open_network(&n, &a);
            assert_true(n.tensor_count <= NETWORK_MAX_TENSORS);
            size_t offset = 0;
            for (size_t i = 0; i < n.tensor_count; i++) {
                assert_int_equal(n.tensors[i].offset, offset);
                offset += n.tensors[i].rows * n.tensors[i].columns;
            }
            assert_int_equal(offset, n.parameter_count);
            network_close(&n);
        }
}

static void test_network_layers_of_different_sizes_and_dense_layers_chain(void **state)
{
    (void)state;
    struct architecture a = make_architecture(CELL_GRU, 3, 5, 0, 7);
    struct network n;
    a.hidden_sizes[0] = 8;
    a.hidden_sizes[1] = 6;
    a.reset_before = true;
    a.dense_layers = 2;
    a.dense[0].size = 9;
    a.dense[1] = (struct dense_layer){4, ACTIVATION_RELU};
    open_network(&n, &a);
    assert_int_equal(n.tensor_count, 15);
    assert_tensor(&n, "rnn.weight_ih_l0", 24, 7, false, n.weight_ih[0]);
    assert_tensor(&n, "rnn.weight_ih_l1", 18, 8, false, n.weight_ih[1]);
    assert_tensor(&n, "rnn.weight_ih_l2", 15, 6, false, n.weight_ih[2]);
    assert_tensor(&n, "rnn.weight_hh_l1", 18, 6, false, n.weight_hh[1]);
    assert_tensor(&n, "rnn.bias_l2", 15, 1, true, n.bias[2]);
    assert_null(find(&n, "rnn.bias_hh_l0"));
    assert_tensor(&n, "dense.weight_l0", 9, 5, false, n.dense_weight[0]);
    assert_tensor(&n, "dense.bias_l0", 9, 1, true, n.dense_bias[0]);
    assert_tensor(&n, "dense.weight_l1", 4, 9, false, n.dense_weight[1]);
    assert_tensor(&n, "output.weight", 7, 4, false, n.output_weight);
    network_close(&n);
}

static void test_network_completes_its_architecture(void **state)
{
    (void)state;
    struct architecture a = make_architecture(CELL_LSTM, 2, 5, 0, 7);
    struct network n;
    a.hidden_sizes[0] = a.hidden_sizes[1] = 4;
    a.reset_before = true;
    a.window.masked = true;
    a.dense_layers = 1;
    a.dense[0].size = 3;
    assert_true(network_layout(&n, &a, NULL));
    assert_int_equal(n.architecture.hidden_size, 4);
    assert_int_equal(n.architecture.hidden_sizes[0], 0);
    assert_int_equal(n.architecture.activation, ACTIVATION_TANH);
    assert_int_equal(n.architecture.recurrent_activation, ACTIVATION_SIGMOID);
    assert_int_equal(n.architecture.dense[0].activation, ACTIVATION_LINEAR);
    assert_false(n.architecture.reset_before);
    assert_false(n.architecture.window.masked);
    assert_true(network_layout(&n, &n.architecture, NULL)); /* its own is complete already */
    assert_int_equal(find(&n, "dense.weight_l0")->columns, 4);
}

static void test_architecture_is_standard_where_every_default_is_kept_or_named(void **state)
{
    (void)state;
    const struct architecture plain = make_architecture(CELL_GRU, 2, 5, 0, 7);
    struct architecture a = plain;
    a.activation = ACTIVATION_TANH;
    a.recurrent_activation = ACTIVATION_SIGMOID;
    a.hidden_sizes[1] = 5;
    assert_true(architecture_is_standard(&plain));
    assert_true(architecture_is_standard(&a));
    struct architecture variants[6];
    for (size_t i = 0; i < 6; i++) variants[i] = plain;
    variants[0].activation = ACTIVATION_RELU;
    variants[1].recurrent_activation = ACTIVATION_HARD_SIGMOID;
    variants[2].reset_before = true;
    variants[3].hidden_sizes[0] = 6;
    variants[4].dense_layers = 1;
    variants[4].dense[0].size = 3;
    variants[5].window.size = 1;
    for (size_t i = 0; i < 6; i++) {
        assert_true(architecture_validate(&variants[i], NULL));
        assert_false(architecture_is_standard(&variants[i]));
        assert_int_equal(architecture_cell_is_standard(&variants[i]), i > 2);
    }
}

static void test_activation_names_round_trip(void **state)
{
    (void)state;
    enum activation activation;
    for (int i = ACTIVATION_TANH; i <= ACTIVATION_HARD_SIGMOID_KERAS2; i++) {
        assert_true(activation_parse(activation_name((enum activation)i), &activation));
        assert_int_equal(activation, i);
    }
    assert_false(activation_parse("", &activation));
    assert_false(activation_parse("ReLU", &activation));
}

static void test_network_layout_takes_no_memory(void **state)
{
    (void)state;
    struct architecture a = make_architecture(CELL_LSTM, 8, NETWORK_MAX_HIDDEN, NETWORK_MAX_EMBEDDING, 1000000);
    struct network n;
    assert_true(network_layout(&n, &a, NULL));
    assert_null(n.parameters);
    assert_int_equal(n.arena.total, 0);
    assert_int_equal(find(&n, "rnn.weight_hh_l7")->rows, 4 * NETWORK_MAX_HIDDEN);
}

static void assert_invalid(struct architecture a, const char *fragment)
{
    struct error err = {0};
    struct network network;
    assert_false(architecture_validate(&a, &err));
    assert_int_equal(err.code, ERROR_INVALID);
    if (!strstr(err.message, fragment)) fail_msg("\"%s\" does not say \"%s\"", err.message, fragment);
    assert_false(network_open(&network, &a, NULL));
    network_close(&network);
}

static void test_architecture_refuses_each_field_out_of_range_by_name(void **state)
{
    (void)state;
    struct architecture a = make_architecture(CELL_LSTM, 1, 4, 0, 5);
    assert_true(architecture_validate(&a, NULL));
    assert_invalid(make_architecture(CELL_COUNT, 1, 4, 0, 5), "cell must be " CELL_NAMES);
    assert_invalid(make_architecture(CELL_LSTM, 0, 4, 0, 5), "layers is 0, but must be from 1 to 8");
    assert_invalid(make_architecture(CELL_LSTM, 9, 4, 0, 5), "layers is 9");
    assert_invalid(make_architecture(CELL_LSTM, 1, 0, 0, 5), "hidden_size is 0");
    assert_invalid(make_architecture(CELL_LSTM, 1, 16385, 0, 5), "hidden_size is 16385");
    assert_invalid(make_architecture(CELL_LSTM, 1, 4, 16385, 5), "embedding_size is 16385");
    assert_invalid(make_architecture(CELL_LSTM, 1, 4, 0, 0), "vocabulary_size is 0");
    assert_invalid(make_architecture(CELL_LSTM, 1, 4, 0, 1000001), "vocabulary_size is 1000001");
    a.tie_weights = true;
    assert_invalid(a, "tie_weights needs embedding_size equal to hidden_size, but they are 0 and 4");
    a.embedding_size = 4;
    assert_true(architecture_validate(&a, NULL));
    a.dense_layers = 1;
    assert_invalid(a, "dense[0].size is 0, but must be from 1 to 16384");
    a.dense[0].size = 6;
    assert_invalid(a, "tie_weights needs embedding_size equal to the last dense layer's size, but they are 4 and 6");
    a = make_architecture(CELL_GRU, 2, 4, 0, 5);
    a.hidden_sizes[1] = 16385;
    assert_invalid(a, "hidden_sizes[1] is 16385, but must be from 1 to 16384");
    a.hidden_sizes[1] = 0;
    a.dense_layers = 5;
    assert_invalid(a, "dense_layers is 5, but must be from 0 to 4");
    a.dense_layers = 0;
    a.window.size = 4097;
    assert_invalid(a, "window is 4097, but must be from 0 to 4096");
    a.window.size = 0;
    a.activation = (enum activation)7;
    assert_invalid(a, "activation must be tanh, sigmoid, relu, linear, hard_sigmoid or hard_sigmoid_keras2");
}

static void test_cell_names_round_trip(void **state)
{
    (void)state;
    for (int i = 0; i < CELL_COUNT; i++) {
        enum cell_kind cell;
        assert_true(cell_parse(cell_name((enum cell_kind)i), &cell));
        assert_int_equal(cell, i);
    }
    enum cell_kind cell;
    assert_false(cell_parse("LSTM", &cell));
    assert_false(cell_parse("", &cell));
}

static void test_initialise_same_seed_same_bits(void **state)
{
    (void)state;
    struct architecture a = make_architecture(CELL_GRU, 2, 9, 6, 11);
    struct network one, two;
    open_network(&one, &a);
    open_network(&two, &a);
    assert_true(network_initialise(&one, 7, NULL));
    memset(two.parameters, 0xAA, two.parameter_count * sizeof(float));
    assert_true(network_initialise(&two, 7, NULL));
    assert_memory_equal(one.parameters, two.parameters, one.parameter_count * sizeof(float));
    assert_true(network_initialise(&two, 8, NULL));
    assert_memory_not_equal(one.parameters, two.parameters, one.parameter_count * sizeof(float));
    network_close(&one);
    network_close(&two);
}

/* Sizes on both sides of the panels that the orthogonalisation works in. */
static void test_initialise_recurrent_blocks_are_orthogonal(void **state)
{
    (void)state;
    static const uint32_t sizes[] = {1, 2, 7, 16, 17, 100};
    for (size_t s = 0; s < sizeof sizes / sizeof sizes[0]; s++) {
        size_t H = sizes[s];
        struct architecture a = make_architecture(CELL_LSTM, 1, (uint32_t)H, 0, 3);
        struct network n;
        open_network(&n, &a);
        assert_true(network_initialise(&n, s, NULL));
        for (size_t row = 0; row < 4 * H; row++)
            for (size_t other = row / H * H; other <= row; other++) {
                double product = 0;
                for (size_t i = 0; i < H; i++)
                    product += (double)n.weight_hh[0][row * H + i] * (double)n.weight_hh[0][other * H + i];
                assert_true(fabs(product - (row == other ? 1 : 0)) < 1e-6);
            }
        if (H > 1) assert_memory_not_equal(n.weight_hh[0], n.weight_hh[0] + H * H, H * H * sizeof(float));
        network_close(&n);
    }
}

static void measure(const float *values, size_t count, double *mean, double *deviation, double *largest)
{
    double sum = 0, squares = 0;
    *largest = 0;
    for (size_t i = 0; i < count; i++) {
        sum += (double)values[i];
        squares += (double)values[i] * (double)values[i];
        *largest = fmax(*largest, fabs((double)values[i]));
    }
    *mean = sum / (double)count;
    *deviation = sqrt(squares / (double)count - *mean * *mean);
}

static void test_initialise_scales_follow_their_formulas(void **state)
{
    (void)state;
    struct architecture a = make_architecture(CELL_LSTM, 1, 64, 32, 200);
    struct network n;
    open_network(&n, &a);
    assert_true(network_initialise(&n, 3, NULL));
    double mean, deviation, largest;
    measure(n.embedding, 200 * 32, &mean, &deviation, &largest);
    assert_true(fabs(mean) < 0.005 && fabs(deviation - 0.1) < 0.005);
    double limit = sqrt(6.0 / (32 + 64)); /* the fans of one gate, not of the four stacked */
    measure(n.weight_ih[0], 256 * 32, &mean, &deviation, &largest);
    assert_true(fabs(mean) < 0.01 && largest <= limit && largest > 0.99 * limit);
    assert_true(fabs(deviation - limit / sqrt(3)) < 0.01);
    limit = sqrt(6.0 / (64 + 200));
    measure(n.output_weight, 200 * 64, &mean, &deviation, &largest);
    assert_true(largest <= limit && largest > 0.99 * limit);
    network_close(&n);
}

static void test_initialise_opens_the_forget_gate_alone(void **state)
{
    (void)state;
    for (int cell = CELL_LSTM; cell <= CELL_RNN; cell++) {
        struct architecture a = make_architecture((enum cell_kind)cell, 1, 4, 0, 3);
        struct network n;
        open_network(&n, &a);
        assert_true(network_initialise(&n, 1, NULL));
        for (size_t i = 0; i < 4 * architecture_gates(&a); i++)
            assert_true(n.bias[0][i] == (cell == CELL_LSTM && i / 4 == 1 ? 1.0f : 0.0f));
        for (size_t i = 0; i < 3; i++) assert_true(n.output_bias[i] == 0);
        network_close(&n);
    }
}

static void test_network_finds_the_first_value_that_is_not_finite(void **state)
{
    (void)state;
    struct architecture a = make_architecture(CELL_LSTM, 1, 4, 0, 3);
    struct network n;
    open_network(&n, &a);
    size_t index;
    assert_null(network_find_not_finite(&n, &index));
    n.output_bias[2] = INFINITY;
    assert_string_equal(network_find_not_finite(&n, &index)->name, "output.bias");
    assert_int_equal(index, 2);
    n.weight_hh[0][13] = NAN;
    assert_string_equal(network_find_not_finite(&n, &index)->name, "rnn.weight_hh_l0");
    assert_int_equal(index, 13);
    network_close(&n);
}

static bool open_and_initialise(void *context, struct error *err)
{
    struct network n;
    bool ok = network_open(&n, context, err) && network_initialise(&n, 1, err);
    network_close(&n);
    return ok;
}

static void test_network_survives_each_failing_allocation(void **state)
{
    (void)state;
    struct architecture a = make_architecture(CELL_LSTM, 2, 4, 0, 3);
    assert_survives_failing_allocations(open_and_initialise, &a);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_network_of_the_notebook_has_119892_parameters),
        cmocka_unit_test(test_network_tensors_have_the_shapes_of_the_file_format),
        cmocka_unit_test(test_network_with_one_hidden_unit_keeps_matrices_apart_from_vectors),
        cmocka_unit_test(test_network_tied_output_is_the_embedding),
        cmocka_unit_test(test_network_tensors_tile_the_parameter_block),
        cmocka_unit_test(test_network_layers_of_different_sizes_and_dense_layers_chain),
        cmocka_unit_test(test_network_completes_its_architecture),
        cmocka_unit_test(test_architecture_is_standard_where_every_default_is_kept_or_named),
        cmocka_unit_test(test_activation_names_round_trip),
        cmocka_unit_test(test_network_layout_takes_no_memory),
        cmocka_unit_test(test_architecture_refuses_each_field_out_of_range_by_name),
        cmocka_unit_test(test_cell_names_round_trip),
        cmocka_unit_test(test_initialise_same_seed_same_bits),
        cmocka_unit_test(test_initialise_recurrent_blocks_are_orthogonal),
        cmocka_unit_test(test_initialise_scales_follow_their_formulas),
        cmocka_unit_test(test_initialise_opens_the_forget_gate_alone),
        cmocka_unit_test(test_network_finds_the_first_value_that_is_not_finite),
        cmocka_unit_test(test_network_survives_each_failing_allocation),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
