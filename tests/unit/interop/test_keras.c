/* model/interop/keras.h: tests/golden/make_keras.py writes models in several forms and computes their probabilities.
 * Each form must give these probabilities. If a model would compute something else, the import refuses it and names the
 * layer and its class. */
#include <jansson.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/file.h"
#include "base/size.h"
#include "model/generate/step.h"
#include "model/interop/keras.h"
#include "model/interop/tfjs.h"
#include "tests/unit/support.h"

#define DIRECTORY "tests/golden/data/keras"
#define TOLERANCE 1e-5
#define MAX_V     64

static void import(struct foreign *foreign, const char *path)
{
    struct error err = {0};
    *foreign = (struct foreign){0};
    if (!interop_keras_read(path, foreign, &err)) fail_msg("%s", err.message);
}

/* The probabilities of the token after `ids`, fed from the zero state. */
static void predict(const struct network *network, const json_t *ids, double *probabilities)
{
    struct stepper stepper;
    struct step_scratch scratch;
    assert_true(stepper_open(&stepper, network, kernels_select("auto"), NULL));
    assert_true(step_scratch_open(&scratch, &stepper, 1, NULL));
    float *state = aligned_alloc(64, size_round_up((stepper.state_size + 1) * sizeof *state, 64));
    float *logits = aligned_alloc(64, size_round_up(stepper.logits_size * sizeof *logits, 64));
    assert_non_null(state);
    assert_non_null(logits);
    memset(state, 0, stepper.state_size * sizeof *state);
    for (size_t i = 0; i < json_array_size(ids); i++) {
        uint32_t token = (uint32_t)json_integer_value(json_array_get(ids, i));
        step(&stepper, &scratch, 1, &token, &state, &logits);
    }
    double sum = 0;
    for (size_t v = 0; v < network->architecture.vocabulary_size; v++) sum += probabilities[v] = exp((double)logits[v]);
    for (size_t v = 0; v < network->architecture.vocabulary_size; v++) probabilities[v] /= sum;
    free(state);
    free(logits);
    step_scratch_close(&scratch);
    stepper_close(&stepper);
}

static void check_prompt(const char *name, const struct network *network, const json_t *prompt)
{
    double probabilities[MAX_V];
    const json_t *expected = json_object_get(prompt, "probs");
    assert_int_equal(json_array_size(expected), network->architecture.vocabulary_size);
    predict(network, json_object_get(prompt, "ids"), probabilities);
    for (size_t v = 0; v < json_array_size(expected); v++) {
        double difference = fabs(probabilities[v] - json_real_value(json_array_get(expected, v)));
        if (!(difference < TOLERANCE)) fail_msg("%s: token %zu: off by %g", name, v, difference);
    }
}

/* The prompt with the likeliest tokens after it, token by token. */
static void check_greedy(const char *name, const struct network *network, const json_t *prompt)
{
    double probabilities[MAX_V];
    const json_t *greedy = json_object_get(prompt, "greedy"), *token;
    json_t *ids = json_copy(json_object_get(prompt, "ids"));
    size_t i;
    assert_true(json_array_size(greedy) >= 10);
    json_array_foreach(greedy, i, token)
    {
        size_t best = 0;
        predict(network, ids, probabilities);
        for (size_t v = 1; v < network->architecture.vocabulary_size; v++)
            if (probabilities[v] > probabilities[best]) best = v;
        if ((json_int_t)best != json_integer_value(token)) fail_msg("%s: greedy token %zu is %zu", name, i, best);
        json_array_append(ids, (json_t *)token);
    }
    json_decref(ids);
}

static json_t *load_expected(void)
{
    json_t *expected = json_load_file(DIRECTORY "/expected.json", 0, NULL);
    assert_non_null(expected);
    return expected;
}

static void test_every_variant_gives_its_probabilities_and_continuations(void **state)
{
    (void)state;
    const char *name;
    json_t *expected = load_expected(), *file, *prompt;
    size_t i;
    assert_true(json_object_size(expected) >= 20);
    json_object_foreach(expected, name, file)
    {
        struct foreign foreign;
        char path[300];
        (void)snprintf(path, sizeof path, DIRECTORY "/%s", name);
        import(&foreign, path);
        assert_int_equal(foreign.window, json_integer_value(json_object_get(file, "window")));
        assert_int_equal(foreign.pad, json_is_true(json_object_get(file, "masked")));
        assert_ptr_equal(strstr(foreign.format, "Keras "), foreign.format);
        json_array_foreach(json_object_get(file, "prompts"), i, prompt)
        {
            check_prompt(name, &foreign.network, prompt);
            check_greedy(name, &foreign.network, prompt);
        }
        foreign_close(&foreign);
    }
    json_decref(expected);
}

static void test_a_file_tells_what_it_is(void **state)
{
    (void)state;
    struct foreign foreign;
    import(&foreign, DIRECTORY "/k224_masking_lstm_distributed.h5");
    assert_string_equal(foreign.format, "Keras 2.2.4 HDF5");
    assert_int_equal(json_array_size(foreign.notes), 1);
    assert_non_null(strstr(json_string_value(json_array_get(foreign.notes, 0)), "Masking layer is left out"));
    foreign_close(&foreign);
    import(&foreign, DIRECTORY "/k240_embedding_two_sizes.h5");
    assert_int_equal(foreign.network.architecture.embedding_size, 3);
    assert_int_equal(architecture_hidden(&foreign.network.architecture, 0), 5);
    assert_int_equal(architecture_hidden(&foreign.network.architecture, 1), 3);
    foreign_close(&foreign);
}

/* --- Configurations --- */

#define LAYERS(layers)     "{\"class_name\":\"Sequential\",\"config\":{\"layers\":[" layers "]}}"
#define LAYER(kind, more)  "{\"class_name\":\"" kind "\",\"config\":{\"name\":\"the " kind "\"" more "}}"
#define ACTIVATIONS        ",\"activation\":\"tanh\",\"recurrent_activation\":\"sigmoid\""
#define LSTM(more)         LAYER("LSTM", ",\"units\":3" more)
#define TANH_LSTM          LSTM(ACTIVATIONS ",\"return_sequences\":true")
#define DENSE(units, more) LAYER("Dense", ",\"units\":" units more)
#define SOFTMAX            ",\"activation\":\"softmax\""
#define NODE(name, inbound)                                                                                            \
    "{\"class_name\":\"Dropout\",\"name\":\"" name "\",\"config\":{\"name\":\"" name "\"},\"inbound_nodes\":[" inbound \
    "]}"
#define MODEL(layers) "{\"class_name\":\"Functional\",\"config\":{\"layers\":[" layers "]}}"
#define OF(name)      "[[\"" name "\",0,0,{}]]"
#define CONNECTED(kind, name, more, inbound)                                                                           \
    "{\"class_name\":\"" kind "\",\"name\":\"" name "\",\"config\":{\"name\":\"" name "\"" more                        \
    "},\"inbound_nodes\":[" inbound "]}"
#define TEXTGENRNN_LSTM ",\"units\":3,\"return_sequences\":true" ACTIVATIONS

static const struct {
    const char *config, *fragment;
} refused[] = {
    {"", "not valid JSON"},
    {"{\"class_name\":", "not valid JSON"},
    {"[]", "the model is of class that it does not name"},
    {"{\"class_name\":\"MyModel\",\"config\":{}}", "the model is of class MyModel"},
    {"{\"class_name\":\"Sequential\"}", "the model is of class Sequential"},
    {LAYERS(""), "it has no layers"},
    {LAYERS("7"), "a layer has no class_name or config"},
    {LAYERS("{\"class_name\":\"LSTM\",\"config\":{}}"), "a layer has no name"},
    {LAYERS("{\"class_name\":\"TimeDistributed\",\"config\":{\"name\":\"t\"}}"), "no inner layer"},
    {LAYERS(LAYER("Bidirectional", "")),
     "layer \"the Bidirectional\" (Bidirectional): layers of this class are not imported"},
    {LAYERS(TANH_LSTM "," LAYER("AttentionWeightedAverage", "")), "layer \"the AttentionWeightedAverage\""},
    {LAYERS(TANH_LSTM "," LAYER("Flatten", "")), "(Flatten): layers of this class are not imported: a chain of"},
    {LAYERS(LAYER("LSTM", ACTIVATIONS)), "layer \"the LSTM\" (LSTM): units is not a positive integer"},
    {LAYERS(LAYER("LSTM", ",\"units\":0" ACTIVATIONS)), "units is not a positive integer"},
    {LAYERS(LAYER("LSTM", ",\"units\":99999999999999" ACTIVATIONS)), "units is not a positive integer"},
    {LAYERS(LAYER("LSTM", ",\"units\":4000000000" ACTIVATIONS) "," DENSE("5", SOFTMAX)), "must be from 1 to 16384"},
    {LAYERS(TANH_LSTM "," DENSE("4000000000", SOFTMAX)), "vocabulary_size"},
    {LAYERS(LSTM(ACTIVATIONS ",\"go_backwards\":true")), "go_backwards is not imported"},
    {LAYERS(LSTM(ACTIVATIONS ",\"use_bias\":1")), "use_bias is neither true nor false"},
    {LAYERS(LSTM(",\"activation\":\"selu\",\"recurrent_activation\":\"sigmoid\"")),
     "activation selu is not one of tanh, sigmoid, relu, linear, hard_sigmoid"},
    {LAYERS(LSTM(",\"activation\":\"softmax\",\"recurrent_activation\":\"sigmoid\"")),
     "activation softmax is not one of"},
    {LAYERS(LSTM(",\"activation\":\"hard_sigmoid_keras2\",\"recurrent_activation\":\"sigmoid\"")), "is not one of"},
    {LAYERS(LSTM(",\"activation\":{\"class_name\":\"ReLU\",\"config\":{}}")), "activation is not a name"},
    {LAYERS(LSTM(ACTIVATIONS) "," TANH_LSTM "," DENSE("5", SOFTMAX)), "\"the LSTM\", has return_sequences false"},
    {LAYERS(TANH_LSTM "," LAYER("GRU", ",\"units\":3" ACTIVATIONS) "," DENSE("5", SOFTMAX)),
     "layer \"the GRU\" (GRU): it differs from layer \"the LSTM\" (LSTM)"},
    {LAYERS(TANH_LSTM "," LSTM(",\"activation\":\"relu\",\"recurrent_activation\":\"sigmoid\"")),
     "it differs from layer"},
    {LAYERS(DENSE("5", "") "," TANH_LSTM), "a Dense layer before the first recurrent one"},
    {LAYERS(TANH_LSTM "," DENSE("5", "") "," TANH_LSTM "," DENSE("5", "")), "a Dense layer before a recurrent one"},
    {LAYERS(TANH_LSTM), "the model has no Dense layer after a recurrent one"},
    {LAYERS(TANH_LSTM "," DENSE("5", ",\"activation\":\"sigmoid\"")), "the last Dense layer's activation is sigmoid"},
    {LAYERS(TANH_LSTM "," DENSE("5", SOFTMAX) "," DENSE("5", SOFTMAX)), "a layer after the softmax is not imported"},
    {LAYERS(TANH_LSTM "," DENSE("5", SOFTMAX) "," LAYER("Activation", SOFTMAX)), "a layer after the softmax"},
    {LAYERS(TANH_LSTM "," LAYER("Activation", ",\"activation\":\"relu\"") "," DENSE("5", "")),
     "only after a Dense layer"},
    {LAYERS(TANH_LSTM "," DENSE("5", "") "," LAYER("Softmax", ",\"axis\":1")), "its axis is not the last one"},
    {LAYERS(LAYER("Embedding", ",\"input_dim\":7,\"output_dim\":2") "," TANH_LSTM "," DENSE("5", "")),
     "it predicts 5 tokens, but the Embedding reads 7"},
    {LAYERS(TANH_LSTM "," LAYER("Embedding", ",\"input_dim\":7,\"output_dim\":2")),
     "it is not the first layer with weights"},
    {LAYERS(TANH_LSTM "," LAYER("InputLayer", "")), "it is not the first layer"},
    {LAYERS("{\"class_name\":\"TimeDistributed\",\"config\":{\"name\":\"t\",\"layer\":" TANH_LSTM "}}"),
     "within TimeDistributed it is not imported"},
    {LAYERS(TANH_LSTM "," DENSE("5", "") "," DENSE("5", "") "," DENSE("5", "") "," DENSE("5", "") "," DENSE("5", "")),
     "more than 4 Dense"},
    {LAYERS(TANH_LSTM "," TANH_LSTM "," TANH_LSTM "," TANH_LSTM "," TANH_LSTM "," TANH_LSTM "," TANH_LSTM "," TANH_LSTM
                      "," TANH_LSTM),
     "more than 8 recurrent layers"},
    {MODEL(NODE("a", "") "," NODE("b", OF("a")) "," NODE("c", OF("a"))),
     "layer \"c\" (Dropout): the model branches here"},
    {MODEL(NODE("a", "") "," NODE("b", "")), "layer \"b\" (Dropout): the model branches here"},
    {MODEL(NODE("a", "") "," NODE("b", "[[\"a\",0,0,{}],[\"a\",0,0,{}]]")), "it computes on several inputs"},
    {MODEL(NODE("a", "") "," NODE("b", OF("a") "," OF("a"))),
     "it computes on several inputs or is used more than once"},
    {MODEL(NODE("a", "") "," NODE("b", "[[\"a\",0,1,{}]]")), "it computes on several inputs"},
    {MODEL(NODE("a", "") "," NODE("b", "[[\"a\",0,0,{\"initial_state\":[]}]]")), "it computes on several inputs"},
    {MODEL(NODE("a", "") "," NODE("b", "{\"args\":[1,2]}")), "it computes on several inputs"},
    {MODEL(NODE("a", OF("b")) "," NODE("b", OF("a"))), "its layers are not one chain"},
    {MODEL(NODE("a", "") "," NODE("b", OF("x"))), "its layers are not one chain"},
    /* textgenrnn */
    {MODEL(CONNECTED("InputLayer", "input", "", "") "," CONNECTED("Embedding", "embedding", ",\"input_dim\":9,\"output_dim\":2", OF("input")) "," CONNECTED(
         "LSTM", "rnn_1", TEXTGENRNN_LSTM,
         OF("embedding")) "," CONNECTED("LSTM", "rnn_2", TEXTGENRNN_LSTM,
                                        OF("rnn_1")) "," CONNECTED("Concatenate", "rnn_concat", ",\"axis\":-1",
                                                                   "[[\"embedding\",0,0,{}],[\"rnn_1\",0,0,{}],[\"rnn_"
                                                                   "2\",0,0,{}]]") "," CONNECTED("AttentionWeightedAver"
                                                                                                 "age",
                                                                                                 "attention", "",
                                                                                                 OF("rnn_concat")) "," CONNECTED("Dense",
                                                                                                                                 "output",
                                                                                                                                 ",\"units\":9" SOFTMAX,
                                                                                                                                 OF("attention"))),
     "layer \"rnn_concat\" (Concatenate): it computes on several inputs"},
    {LAYERS(TANH_LSTM "," TANH_LSTM "," DENSE("5", SOFTMAX)), "two layers are named \"the LSTM\""},
    {MODEL(NODE("a", "") "," NODE("a", OF("a"))), "the model branches here"},
};

static void test_other_models_are_refused_by_layer(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof refused / sizeof refused[0]; i++) {
        struct error err = {0};
        struct keras_model model;
        bool ok = keras_model_parse(&model, refused[i].config, strlen(refused[i].config), 2, "dir/x.h5", &err);
        if (ok) fail_msg("not refused: %s", refused[i].config);
        if (!strstr(err.message, refused[i].fragment))
            fail_msg("\"%s\" does not say \"%s\"", err.message, refused[i].fragment);
        assert_ptr_equal(strstr(err.message, "dir/x.h5: "), err.message);
        assert_true(err.code == ERROR_INVALID || err.code == ERROR_CORRUPT);
        keras_model_close(&model);
    }
}

static struct keras_model parse(const char *config, unsigned major)
{
    struct error err = {0};
    struct keras_model model;
    if (!keras_model_parse(&model, config, strlen(config), major, "x", &err)) fail_msg("%s", err.message);
    return model;
}

static void test_hard_sigmoid_is_that_of_the_version(void **state)
{
    (void)state;
    const char *config =
        LAYERS(LSTM(",\"activation\":{\"class_name\":\"function\",\"config\":\"tanh\"},"
                    "\"recurrent_activation\":\"hard_sigmoid\"") "," DENSE("5", ",\"activation\":null"));
    struct keras_model model = parse(config, 2);
    assert_int_equal(model.architecture.activation, ACTIVATION_TANH);
    assert_int_equal(model.architecture.recurrent_activation, ACTIVATION_HARD_SIGMOID_KERAS2);
    keras_model_close(&model);
    model = parse(config, 3);
    assert_int_equal(model.architecture.recurrent_activation, ACTIVATION_HARD_SIGMOID);
    keras_model_close(&model);
}

static void test_versions(void **state)
{
    (void)state;
    unsigned major;
    assert_true(keras_version_parse("2.2.4-tf", &major, "x", NULL));
    assert_int_equal(major, 2);
    assert_true(keras_version_parse("3.12.0", &major, "x", NULL));
    assert_int_equal(major, 3);
    const char *const others[] = {"", "0.3.3", "x", "2", "-3.1", "100.1", "99999999999999999999.1"};
    for (size_t i = 0; i < sizeof others / sizeof others[0]; i++)
        assert_false(keras_version_parse(others[i], &major, "x", NULL));
}

/* --- Damage --- */

/* If a file has only weights, the architecture is in a file of the same name with another ending. */
static bool read_one(void *path, struct error *err)
{
    char architecture[300];
    struct foreign foreign = {0};
    if (strstr(path, "weights_only")) {
        (void)snprintf(architecture, sizeof architecture, "%.*s.architecture.json", (int)strlen(path) - 3,
                       (char *)path);
        foreign.architecture_file = architecture;
    }
    const bool tfjs = strstr(path, "tfjs_model");
    if (tfjs) foreign.weights_file = "tests/golden/data/import/tfjs_weights.bin";
    bool ok = tfjs ? interop_tfjs_read(path, &foreign, err) : interop_keras_read(path, &foreign, err);
    foreign_close(&foreign);
    return ok;
}

static void test_failing_allocations(void **state)
{
    (void)state;
    char h5[] = DIRECTORY "/k224_masking_lstm_distributed.h5", archive[] = DIRECTORY "/k213_two_lstm.keras";
    char keras1[] = "tests/golden/data/import/keras1.h5", alone[] = "tests/golden/data/import/weights_only_keras2.h5";
    assert_survives_failing_allocations(read_one, h5);
    assert_survives_failing_allocations(read_one, keras1);
    assert_survives_failing_allocations(read_one, alone);
    char tfjs[] = "tests/golden/data/import/tfjs_model.json";
    assert_survives_failing_allocations(read_one, tfjs);
    assert_survives_failing_allocations(read_one, archive);
}

static void test_files_truncated_anywhere_are_refused(void **state)
{
    (void)state;
    const char *const names[] = {DIRECTORY "/k240_gru_reset_after.h5", DIRECTORY "/k392_linear_rnn.keras"};
    char *directory = temp_dir_new();
    for (size_t i = 0; i < 2; i++) {
        struct error err = {0};
        char *bytes, *path = strdup(in_dir(directory, "part"));
        size_t size;
        assert_non_null(path);
        assert_true(file_read(names[i], 1 << 20, &bytes, &size, NULL));
        write_file(path, bytes, size);
        for (size_t n = size; n-- > 0;) {
            assert_int_equal(truncate(path, (off_t)n), 0);
            assert_false(read_one(path, &err));
            assert_ptr_equal(strstr(err.message, path), err.message);
            error_clear(&err);
        }
        free(bytes);
        free(path);
    }
    temp_dir_remove(directory);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_every_variant_gives_its_probabilities_and_continuations),
        cmocka_unit_test(test_a_file_tells_what_it_is),
        cmocka_unit_test(test_other_models_are_refused_by_layer),
        cmocka_unit_test(test_hard_sigmoid_is_that_of_the_version),
        cmocka_unit_test(test_versions),
        cmocka_unit_test(test_failing_allocations),
        cmocka_unit_test(test_files_truncated_anywhere_are_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
