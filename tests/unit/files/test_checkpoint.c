/* model/checkpoint: what is saved is loaded bit for bit; every directory that is not whole is refused with its reason,
 * and a save that fails leaves the older directory as it was. */
#include <errno.h>
#include <jansson.h>
#include <math.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/sha256.h"
#include "model/files/checkpoint.h"
#include "model/files/safetensors.h"
#include "tests/unit/support.h"

struct fixture {
    char *directory; /* temporary */
    char *path;      /* of the model directory in it */
    struct network network;
    struct vocabulary *vocabulary;
};

/* A vocabulary of the text's characters and, unless NULL, one label. */
static struct vocabulary *make_vocabulary(const char *text, const char *label)
{
    struct error err = {0};
    struct vocabulary_options options = {.level = TOKEN_LEVEL_CHAR};
    struct vocabulary_builder *builder = vocabulary_builder_new(&options, &err);
    assert_non_null(builder);
    assert_true(vocabulary_builder_add(builder, text, strlen(text), &err));
    if (label) assert_true(vocabulary_builder_add_label(builder, label, &err));
    struct vocabulary *vocabulary = vocabulary_builder_finish(builder, &err);
    assert_non_null(vocabulary);
    return vocabulary;
}

static void make_network(struct network *network, struct architecture architecture, uint32_t vocabulary_size)
{
    struct error err = {0};
    architecture.vocabulary_size = vocabulary_size;
    if (!network_open(network, &architecture, &err) || !network_initialise(network, 5, &err))
        fail_msg("%s", err.message);
}

static const struct architecture small = {.cell = CELL_GRU, .layers = 2, .hidden_size = 3, .embedding_size = 2};

static void save(const struct fixture *f, const json_t *training, const json_t *extra)
{
    struct error err = {0};
    if (!checkpoint_save(f->path, &f->network, f->vocabulary, training, extra, &err)) fail_msg("%s", err.message);
}

static int setup(void **state)
{
    struct fixture *f = calloc(1, sizeof *f);
    assert_non_null(f);
    f->directory = temp_dir_new();
    f->path = strdup(in_dir(f->directory, "tiny"));
    f->vocabulary = make_vocabulary("hello", NULL);
    make_network(&f->network, small, vocabulary_size(f->vocabulary));
    save(f, NULL, NULL);
    *state = f;
    return 0;
}

static int teardown(void **state)
{
    struct fixture *f = *state;
    network_close(&f->network);
    vocabulary_free(f->vocabulary);
    temp_dir_remove(f->directory);
    free(f->path);
    free(f);
    return 0;
}

static void assert_loads(const struct fixture *f)
{
    struct model model;
    struct error err = {0};
    if (!model_load(&model, f->path, &err)) fail_msg("%s", err.message);
    assert_int_equal(model.network.parameter_count, f->network.parameter_count);
    assert_memory_equal(model.network.parameters, f->network.parameters, f->network.parameter_count * sizeof(float));
    model_close(&model);
}

/* The load fails with one line that begins with the file and says the fragment; nothing is left of the model. */
static void assert_load_refused(const struct fixture *f, const char *file, const char *fragment)
{
    struct model model;
    struct error err = {0};
    assert_false(model_load(&model, f->path, &err));
    assert_null(model.name);
    assert_null(model.network.parameters);
    assert_null(model.vocabulary);
    assert_null(model.config);
    model_close(&model);
    const char *path = in_dir(f->path, file);
    if (strncmp(err.message, path, strlen(path)) != 0) fail_msg("\"%s\" does not begin with %s", err.message, path);
    if (!strstr(err.message, fragment)) fail_msg("\"%s\" does not say \"%s\"", err.message, fragment);
}

static json_t *read_json(const char *path)
{
    char *text = read_text(path);
    json_t *json = json_loads(text, JSON_REJECT_DUPLICATES, NULL);
    assert_non_null(json);
    free(text);
    return json;
}

static void write_json(const char *path, json_t *json)
{
    char *text = json_dumps(json, JSON_INDENT(2));
    assert_non_null(text);
    write_text(path, text);
    free(text);
    json_decref(json);
}

/* ---- round trips ---- */

static void test_checkpoint_loads_back_the_same_bits(void **state)
{
    const struct fixture *f = *state;
    struct model model;
    struct error err = {0};
    assert_true(model_load(&model, f->path, &err));
    assert_string_equal(model.name, "tiny");
    assert_int_equal(model.network.architecture.cell, CELL_GRU);
    assert_int_equal(model.network.architecture.layers, 2);
    assert_int_equal(model.network.architecture.hidden_size, 3);
    assert_int_equal(model.network.architecture.embedding_size, 2);
    assert_false(model.network.architecture.tie_weights);
    assert_int_equal(vocabulary_size(model.vocabulary), 5);
    model_close(&model);
    assert_loads(f);
}

static void test_checkpoint_round_trips_every_cell_tied_and_labelled(void **state)
{
    struct fixture *f = *state;
    for (int cell = CELL_LSTM; cell <= CELL_RNN; cell++)
        for (int tied = 0; tied < 2; tied++) {
            network_close(&f->network);
            vocabulary_free(f->vocabulary);
            f->vocabulary = make_vocabulary("hello", tied ? "World" : NULL);
            struct architecture a = {.cell = (enum cell_kind)cell, .layers = 1, .hidden_size = 4};
            a.embedding_size = tied ? 4 : 0;
            a.tie_weights = tied;
            make_network(&f->network, a, vocabulary_size(f->vocabulary));
            save(f, NULL, NULL);
            assert_loads(f);
        }
}

static void test_checkpoint_round_trips_a_variant(void **state)
{
    struct fixture *f = *state;
    const struct architecture variant = {.cell = CELL_GRU,
                                         .layers = 2,
                                         .hidden_size = 3,
                                         .hidden_sizes = {5, 3},
                                         .activation = ACTIVATION_RELU,
                                         .recurrent_activation = ACTIVATION_HARD_SIGMOID_KERAS2,
                                         .reset_before = true,
                                         .dense_layers = 2,
                                         .dense = {{7, ACTIVATION_RELU}, {4, ACTIVATION_DEFAULT}},
                                         .window = {.size = 9, .masked = true}};
    network_close(&f->network);
    make_network(&f->network, variant, vocabulary_size(f->vocabulary));
    save(f, NULL, NULL);
    assert_loads(f);
    struct model model;
    struct error err = {0};
    if (!model_load(&model, f->path, &err)) fail_msg("%s", err.message);
    const struct architecture *a = &model.network.architecture;
    assert_memory_equal(a->hidden_sizes, variant.hidden_sizes, sizeof variant.hidden_sizes);
    assert_int_equal(a->activation, ACTIVATION_RELU);
    assert_int_equal(a->recurrent_activation, ACTIVATION_HARD_SIGMOID_KERAS2);
    assert_true(a->reset_before);
    assert_int_equal(a->dense_layers, 2);
    assert_int_equal(a->dense[0].size, 7);
    assert_int_equal(a->dense[0].activation, ACTIVATION_RELU);
    assert_int_equal(a->dense[1].activation, ACTIVATION_LINEAR);
    assert_int_equal(a->window.size, 9);
    assert_true(a->window.masked);
    json_t *description = model_describe(&model, &err);
    assert_string_equal(json_string_value(json_object_get(description, "activation")), "relu");
    assert_int_equal(json_array_size(json_object_get(description, "dense")), 2);
    assert_int_equal(json_integer_value(json_object_get(description, "output_parameters")), 28 + 32 + 25);
    json_decref(description);
    model_close(&model);
}

static void test_checkpoint_same_arguments_give_the_same_bytes(void **state)
{
    const struct fixture *f = *state;
    static const char *const files[] = {"config.json", "vocabulary.json", "model.safetensors"};
    char *before[3], *after[3];
    for (size_t i = 0; i < 3; i++) before[i] = read_text(in_dir(f->path, files[i]));
    save(f, NULL, NULL);
    assert_int_equal(count_entries(f->path), 3);
    struct stat info;
    assert_int_equal(stat(in_dir(f->path, files[2]), &info), 0);
    for (size_t i = 0; i < 3; i++) after[i] = read_text(in_dir(f->path, files[i]));
    assert_string_equal(before[0], after[0]);
    assert_string_equal(before[1], after[1]);
    assert_memory_equal(before[2], after[2], (size_t)info.st_size);
    for (size_t i = 0; i < 3; i++) free(before[i]), free(after[i]);
}

static void test_checkpoint_config_has_the_documented_fields_in_order(void **state)
{
    const struct fixture *f = *state;
    json_t *training = json_pack("{s:s, s:f}", "corpus", "titles", "loss", 0.1);
    json_t *extra = json_pack("{s:s, s:s, s:{s:i}}", "cell", "ignored", "author", "x", "nested", "a", 1);
    save(f, training, extra);
    char *text = read_text(in_dir(f->path, "config.json")), *vocabulary = read_text(in_dir(f->path, "vocabulary.json"));
    char hash[SHA256_TEXT_SIZE], expected[2048];
    sha256_text(vocabulary, strlen(vocabulary), hash);
    snprintf(expected, sizeof expected,
             "{\n  \"format\": \"lstmd/1\",\n  \"cell\": \"gru\",\n  \"layers\": 2,\n  \"hidden_size\": 3,\n"
             "  \"embedding_size\": 2,\n  \"vocabulary_size\": 5,\n  \"token_level\": \"char\",\n"
             "  \"tie_weights\": false,\n  \"reset_after\": true,\n  \"vocabulary_sha256\": \"%s\",\n"
             "  \"training\": {\n    \"corpus\": \"titles\",\n    \"loss\": 0.1\n  },\n"
             "  \"author\": \"x\",\n  \"nested\": {\n    \"a\": 1\n  }\n}\n",
             hash);
    assert_string_equal(text, expected);
    free(text);
    free(vocabulary);
    json_decref(training);
    json_decref(extra);
}

static void test_checkpoint_keeps_unknown_keys_on_re_export(void **state)
{
    const struct fixture *f = *state;
    json_t *config = read_json(in_dir(f->path, "config.json"));
    json_object_set_new(config, "licence", json_string("MIT"));
    json_object_set_new(config, "training", json_pack("{s:i}", "epochs", 3));
    write_json(in_dir(f->path, "config.json"), config);
    struct model model;
    struct error err = {0};
    assert_true(model_load(&model, f->path, &err));
    assert_true(checkpoint_save(f->path, &model.network, model.vocabulary, json_object_get(model.config, "training"),
                                model.config, &err));
    model_close(&model);
    assert_true(model_load(&model, f->path, &err));
    assert_string_equal(json_string_value(json_object_get(model.config, "licence")), "MIT");
    assert_int_equal(json_integer_value(json_object_get(json_object_get(model.config, "training"), "epochs")), 3);
    model_close(&model);
}

static void test_model_name_is_the_last_component_of_the_path(void **state)
{
    const struct fixture *f = *state;
    char real[4096], here[4096];
    assert_non_null(getcwd(here, sizeof here));
    snprintf(real, sizeof real, "%s///", f->path);
    const char *const paths[] = {real, in_dir(f->path, "."), in_dir(f->path, "../tiny/")};
    for (size_t i = 0; i < sizeof paths / sizeof paths[0]; i++) {
        struct model model;
        struct error err = {0};
        if (!model_load(&model, paths[i], &err)) fail_msg("%s", err.message);
        assert_string_equal(model.name, "tiny");
        model_close(&model);
    }
}

/* ---- refusals ---- */

/* Sets a field of config.json to the JSON text (NULL: takes it away), or rewrites the whole file where key is NULL. */
static const struct {
    const char *key, *value, *fragment;
} config_damage[] = {
    {NULL, "", "not JSON"},
    {NULL, "{", "config.json:1:1: not JSON"},
    {NULL, "[]", "not a JSON object"},
    {NULL, "{\"format\":\"lstmd/1\",\"format\":\"lstmd/1\"}", "duplicate"},
    {NULL, "{} {}", "not JSON"},
    {"format", NULL, "format is missing"},
    {"format", "\"lstmd/2\"", "format is \"lstmd/2\", but \"lstmd/1\" is what this program reads"},
    {"format", "1", "format is missing or not a string"},
    {"cell", NULL, "cell is missing"},
    {"cell", "\"transformer\"", "cell is \"transformer\", but must be lstm, gru or rnn"},
    {"layers", NULL, "layers is missing or not an integer"},
    {"layers", "9", "layers is 9, but must be from 1 to 8"},
    {"layers", "2.0", "layers is missing or not an integer"},
    {"hidden_size", NULL, "hidden_size is missing"},
    {"hidden_size", "1000000000", "hidden_size is 1000000000, but must be from 1 to 16384"},
    {"hidden_size", "4294967299", "hidden_size is 4294967299, which is out of range"},
    {"hidden_size", "-1", "hidden_size is -1, which is out of range"},
    {"hidden_size", "16384", "shape is [9, 2], but config.json asks for [49152, 2]"},
    {"embedding_size", "\"2\"", "embedding_size is missing or not an integer"},
    {"embedding_size", "0", "tensor \"rnn.weight_ih_l0\": shape is [9, 2], but config.json asks for [9, 5]"},
    {"vocabulary_size", "0", "vocabulary_size is 0"},
    {"vocabulary_size", "6", "5 tokens, but vocabulary_size in config.json is 6"},
    {"token_level", "\"syllable\"", "token_level is \"syllable\", but must be char, word or byte"},
    {"token_level", "\"word\"", "level is char, but token_level in config.json is word"},
    {"tie_weights", NULL, "tie_weights is missing, or not true or false"},
    {"tie_weights", "true", "tie_weights needs embedding_size equal to hidden_size"},
    {"vocabulary_sha256", NULL, "vocabulary_sha256 is missing"},
    {"vocabulary_sha256", "\"12\"", "vocabulary_sha256 must be 64 lower-case hexadecimal digits"},
    {"vocabulary_sha256", "\"0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef\"",
     "does not belong to these weights: its SHA-256 is"},
    {"labels", "[\"World\"]", "its 0 labels are not those of config.json"},
    {"labels", "1", "its 0 labels are not those of config.json"},
    {"training", "1", "training is not an object"},
    {"activation", "\"swish\"", "activation is \"swish\", but must be tanh, sigmoid, relu, linear, hard_sigmoid or"},
    {"activation", "\"\"", "activation is \"\", but must be tanh"},
    {"recurrent_activation", "1", "recurrent_activation is missing or not a string"},
    {"reset_after", "false", "tensor \"rnn.bias_hh_l0\" does not belong to this network"},
    {"hidden_sizes", "[3]", "hidden_sizes is not an array with a size for each of 2 layers"},
    {"hidden_sizes", "3", "hidden_sizes is not an array"},
    {"hidden_sizes", "[0, 3]", "hidden_sizes[0] is not an integer from 1 to 16384"},
    {"hidden_sizes", "[3, 4294967299]", "hidden_sizes[1] is not an integer"},
    {"hidden_sizes", "[3, 4]", "hidden_sizes ends with 4, but hidden_size, the top layer's, is 3"},
    {"hidden_sizes", "[4, 3]", "tensor \"rnn.weight_ih_l0\": shape is [9, 2], but config.json asks for [12, 2]"},
    {"dense", "{}", "dense is not an array of at most 4 layers"},
    {"dense", "[1, 1, 1, 1, 1]", "dense is not an array of at most 4 layers"},
    {"dense", "[1]", "dense[0]: size is missing or not an integer"},
    {"dense", "[{\"size\": 4}, {\"size\": 4, \"activation\": \"gelu\"}]", "dense[1]: activation is \"gelu\""},
    {"dense", "[{\"size\": 0}]", "dense[0].size is 0, but must be from 1 to 16384"},
    {"dense", "[{\"size\": 4}]", "tensor \"dense.weight_l0\" is missing"},
    {"window", "8", "window: size is missing or not an integer"},
    {"window", "{\"size\": 8}", "window: masked is missing, or not true or false"},
    {"window", "{\"size\": 0, \"masked\": true}", "window: size is 0, but must be at least 1"},
    {"window", "{\"size\": 4097, \"masked\": true}", "window is 4097, but must be from 0 to 4096"},
    {"reset_after", "1", "reset_after is missing, or not true or false"},
};

static void damage_config(const char *path, const char *key, const char *value)
{
    if (!key) {
        write_text(path, value);
        return;
    }
    json_t *config = read_json(path);
    if (value)
        assert_int_equal(json_object_set_new(config, key, json_loads(value, JSON_DECODE_ANY, NULL)), 0);
    else
        assert_int_equal(json_object_del(config, key), 0);
    write_json(path, config);
}

static void test_checkpoint_refuses_each_bad_field_of_config_by_name(void **state)
{
    const struct fixture *f = *state;
    for (size_t i = 0; i < sizeof config_damage / sizeof config_damage[0]; i++) {
        save(f, NULL, NULL);
        damage_config(in_dir(f->path, "config.json"), config_damage[i].key, config_damage[i].value);
        assert_load_refused(f, "", config_damage[i].fragment);
    }
}

static void test_checkpoint_names_the_file_of_a_bad_field(void **state)
{
    const struct fixture *f = *state;
    damage_config(in_dir(f->path, "config.json"), "layers", "0");
    assert_load_refused(f, "config.json", ": layers is 0");
}

static void test_checkpoint_accepts_functions_that_are_computed(void **state)
{
    const struct fixture *f = *state;
    damage_config(in_dir(f->path, "config.json"), "activation", "\"tanh\"");
    damage_config(in_dir(f->path, "config.json"), "recurrent_activation", "\"sigmoid\"");
    damage_config(in_dir(f->path, "config.json"), "reset_after", NULL);
    assert_loads(f);
}

static void test_checkpoint_refuses_labels_that_config_does_not_list(void **state)
{
    struct fixture *f = *state;
    network_close(&f->network);
    vocabulary_free(f->vocabulary);
    f->vocabulary = make_vocabulary("hello", "World");
    make_network(&f->network, small, vocabulary_size(f->vocabulary));
    static const char *const labels[] = {NULL, "[]", "[\"Sports\"]", "[\"World\",\"World\"]", "[1]"};
    for (size_t i = 0; i < sizeof labels / sizeof labels[0]; i++) {
        save(f, NULL, NULL);
        damage_config(in_dir(f->path, "config.json"), "labels", labels[i]);
        assert_load_refused(f, "vocabulary.json", "its 1 labels are not those of config.json");
    }
}

static void test_checkpoint_refuses_a_missing_file_by_name(void **state)
{
    const struct fixture *f = *state;
    static const char *const files[] = {"config.json", "vocabulary.json", "model.safetensors"};
    for (size_t i = 0; i < 3; i++) {
        save(f, NULL, NULL);
        assert_int_equal(unlink(in_dir(f->path, files[i])), 0);
        assert_load_refused(f, files[i], "No such file");
    }
    struct model model;
    struct error err = {0};
    assert_false(model_load(&model, in_dir(f->directory, "nowhere"), &err));
    assert_int_equal(err.code, ERROR_NOT_FOUND);
}

static void test_checkpoint_refuses_a_vocabulary_that_was_edited(void **state)
{
    const struct fixture *f = *state;
    const char *path = in_dir(f->path, "vocabulary.json");
    char *text = read_text(path), *letter = strchr(text, 'h');
    assert_non_null(letter);
    *letter = 'H';
    write_text(path, text);
    free(text);
    assert_load_refused(f, "vocabulary.json", "does not belong to these weights");
}

/* Tensors that are saved in place of those of the architecture. */
static void write_weights(const struct fixture *f, const struct network *layout, const char *skipped,
                          const struct safetensors_entry *added)
{
    struct safetensors_entry entries[NETWORK_MAX_TENSORS + 1];
    size_t count = 0, size;
    for (size_t i = 0; i < layout->tensor_count; i++) {
        const struct tensor *t = &layout->tensors[i];
        if (skipped && strcmp(t->name, skipped) == 0) continue;
        entries[count++] = (struct safetensors_entry){.name = t->name,
                                                      .rank = t->vector ? 1 : 2,
                                                      .shape = {t->rows, t->columns},
                                                      .count = t->rows * t->columns,
                                                      .data = (const unsigned char *)t->data};
    }
    if (added) entries[count++] = *added;
    unsigned char *data;
    struct error err = {0};
    assert_true(safetensors_serialise(entries, count, NULL, &data, &size, &err));
    write_file(in_dir(f->path, "model.safetensors"), data, size);
    free(data);
}

static void test_checkpoint_refuses_tensors_that_are_not_the_architectures(void **state)
{
    const struct fixture *f = *state;
    const int64_t number = 1;
    struct safetensors_entry added = {"extra", SAFETENSORS_I64, 1, {1}, 1, (const unsigned char *)&number};
    write_weights(f, &f->network, NULL, NULL);
    assert_loads(f);
    write_weights(f, &f->network, "rnn.bias_hh_l1", NULL);
    assert_load_refused(f, "model.safetensors", "tensor \"rnn.bias_hh_l1\" is missing");
    write_weights(f, &f->network, NULL, &added);
    assert_load_refused(f, "model.safetensors", "tensor \"extra\" does not belong to this network");
    added =
        (struct safetensors_entry){"output.bias", SAFETENSORS_I64, 1, {5}, 5, (const unsigned char *)(int64_t[5]){0}};
    write_weights(f, &f->network, "output.bias", &added);
    assert_load_refused(f, "model.safetensors", "tensor \"output.bias\": dtype is I64");
}

static void test_checkpoint_refuses_a_wrong_shape_and_prints_both(void **state)
{
    const struct fixture *f = *state;
    float zeros[45] = {0};
    struct safetensors_entry wrong = {"output.weight", SAFETENSORS_F32, 2, {3, 5}, 15, (const unsigned char *)zeros};
    write_weights(f, &f->network, "output.weight", &wrong);
    assert_load_refused(f, "model.safetensors",
                        "tensor \"output.weight\": shape is [3, 5], but config.json asks for [5, 3]");
    wrong = (struct safetensors_entry){"output.bias", SAFETENSORS_F32, 2, {5, 1}, 5, (const unsigned char *)zeros};
    write_weights(f, &f->network, "output.bias", &wrong);
    assert_load_refused(f, "model.safetensors",
                        "tensor \"output.bias\": shape is [5, 1], but config.json asks for [5]");
}

static void test_checkpoint_refuses_weights_that_are_not_finite(void **state)
{
    struct fixture *f = *state;
    f->network.weight_hh[1][4] = NAN;
    write_weights(f, &f->network, NULL, NULL);
    assert_load_refused(f, "model.safetensors", "tensor \"rnn.weight_hh_l1\": element 4 is NaN");
    f->network.weight_hh[1][4] = -INFINITY;
    write_weights(f, &f->network, NULL, NULL);
    assert_load_refused(f, "model.safetensors", "tensor \"rnn.weight_hh_l1\": element 4 is infinite");
}

static void test_checkpoint_refuses_every_truncation_of_the_weights(void **state)
{
    const struct fixture *f = *state;
    const char *path = in_dir(f->path, "model.safetensors");
    struct stat info;
    assert_int_equal(stat(path, &info), 0);
    for (off_t size = info.st_size - 1; size >= 0; size -= size > 64 ? 13 : 1) {
        assert_int_equal(truncate(path, size), 0);
        assert_load_refused(f, "model.safetensors", ": ");
    }
}

/* ---- saves that fail ---- */

static bool save_again(void *context, struct error *err)
{
    const struct fixture *f = context;
    json_t *training = json_pack("{s:i}", "epochs", 3);
    bool ok = training ? checkpoint_save(f->path, &f->network, f->vocabulary, training, training, err)
                       : error_set_no_memory(err, 0, "the test");
    json_decref(training);
    return ok;
}

static void test_checkpoint_disk_full_leaves_the_older_directory(void **state)
{
    struct fixture *f = *state;
    struct rlimit before, little;
    assert_int_equal(getrlimit(RLIMIT_FSIZE, &before), 0);
    void (*old)(int) = signal(SIGXFSZ, SIG_IGN);
    char *config = read_text(in_dir(f->path, "config.json"));
    for (rlim_t limit = 0; limit < 900; limit += 300) {
        struct error err = {0};
        little = (struct rlimit){limit, before.rlim_max};
        assert_int_equal(setrlimit(RLIMIT_FSIZE, &little), 0);
        bool saved = save_again(f, &err);
        assert_int_equal(setrlimit(RLIMIT_FSIZE, &before), 0);
        assert_false(saved);
        assert_int_equal(err.code, ERROR_NO_SPACE);
        assert_non_null(strstr(err.message, f->directory));
        char *now = read_text(in_dir(f->path, "config.json"));
        assert_string_equal(config, now);
        free(now);
        assert_int_equal(count_entries(f->directory), 1);
        assert_loads(f);
    }
    signal(SIGXFSZ, old);
    free(config);
}

static void test_checkpoint_failing_sync_leaves_the_older_directory(void **state)
{
    struct fixture *f = *state;
    struct error err = {0};
    fail_fsync_with = EIO;
    bool saved = save_again(f, &err);
    fail_fsync_with = 0;
    assert_false(saved);
    assert_int_equal(err.code, ERROR_IO);
    assert_int_equal(count_entries(f->directory), 1);
    assert_loads(f);
}

static void test_checkpoint_does_not_save_what_it_would_refuse(void **state)
{
    struct fixture *f = *state;
    struct error err = {0};
    float kept = f->network.output_bias[1];
    f->network.output_bias[1] = NAN;
    assert_false(checkpoint_save(f->path, &f->network, f->vocabulary, NULL, NULL, &err));
    assert_int_equal(err.code, ERROR_NUMERIC);
    assert_non_null(strstr(err.message, "tensor \"output.bias\": element 1 is NaN"));
    f->network.output_bias[1] = kept;
    assert_loads(f);
    struct vocabulary *other = make_vocabulary("hello world", NULL);
    error_clear(&err);
    assert_false(checkpoint_save(f->path, &f->network, other, NULL, NULL, &err));
    assert_int_equal(err.code, ERROR_INVALID);
    assert_non_null(strstr(err.message, "a vocabulary of 9 tokens does not fit a network of 5"));
    vocabulary_free(other);
    assert_loads(f);
}

static bool load_and_describe(void *context, struct error *err)
{
    const struct fixture *f = context;
    struct model model;
    if (!model_load(&model, f->path, err)) return false;
    json_t *json = model_describe(&model, err);
    model_close(&model);
    json_decref(json);
    return json != NULL;
}

static void test_checkpoint_survives_each_failing_allocation(void **state)
{
    assert_survives_failing_allocations(load_and_describe, *state);
    assert_survives_failing_allocations(save_again, *state);
    assert_loads(*state);
}

struct loaded {
    const struct fixture *fixture;
    struct model model;
};

static bool describe_and_save(void *context, struct error *err)
{
    struct loaded *loaded = context;
    json_t *json = model_describe(&loaded->model, err);
    bool ok = json && checkpoint_save(loaded->fixture->path, &loaded->model.network, loaded->model.vocabulary,
                                      loaded->model.config, loaded->model.config, err);
    json_decref(json);
    return ok;
}

/* Building and printing JSON; jansson 2.14's parser does not survive this itself. */
static void test_checkpoint_survives_failing_allocations_inside_jansson(void **state)
{
    struct loaded loaded = {.fixture = *state};
    struct error err = {0};
    assert_true(model_load(&loaded.model, loaded.fixture->path, &err));
    json_malloc_t allocate;
    json_free_t release;
    json_get_alloc_funcs(&allocate, &release);
    json_set_alloc_funcs(malloc, free); /* those of this program, which can be made to fail */
    assert_survives_failing_allocations(describe_and_save, &loaded);
    json_set_alloc_funcs(allocate, release);
    model_close(&loaded.model);
    assert_loads(*state);
}

/* ---- replaced while it is read ---- */

struct publisher {
    const struct fixture *f;
    atomic_bool end;
};

/* Publishes networks of another size, and of the fixture's, in turns. */
static void *publish_in_turns(void *argument)
{
    struct publisher *publisher = argument;
    const struct fixture *f = publisher->f;
    struct network other;
    struct architecture larger = small;
    larger.hidden_size = 5;
    make_network(&other, larger, vocabulary_size(f->vocabulary));
    for (int i = 0; !atomic_load(&publisher->end); i++)
        checkpoint_save(f->path, i % 2 ? &f->network : &other, f->vocabulary, NULL, NULL, NULL);
    network_close(&other);
    return NULL;
}

static void test_model_load_never_mixes_two_directories(void **state)
{
    struct publisher publisher = {.f = *state};
    pthread_t thread;
    size_t seen[6] = {0};
    skip_fsync = true;
    assert_int_equal(pthread_create(&thread, NULL, publish_in_turns, &publisher), 0);
    struct error err = {0};
    while (!err.code && (seen[3] < 100 || seen[5] < 100)) {
        struct model model;
        if (model_load(&model, publisher.f->path, &err)) seen[model.network.architecture.hidden_size]++;
        model_close(&model);
    }
    atomic_store(&publisher.end, true);
    pthread_join(thread, NULL);
    skip_fsync = false;
    if (err.code) fail_msg("%s", err.message);
}

/* ---- describing ---- */

static void test_model_load_config_describes_without_weights(void **state)
{
    struct fixture *f = *state;
    struct model whole, light;
    struct error err = {0};
    assert_true(model_load(&whole, f->path, &err));
    assert_int_equal(unlink(in_dir(f->path, "model.safetensors")), 0);
    assert_int_equal(unlink(in_dir(f->path, "vocabulary.json")), 0);
    if (!model_load_config(&light, f->path, &err)) fail_msg("%s", err.message);
    json_t *of_whole = model_describe(&whole, &err), *of_light = model_describe(&light, &err);
    assert_non_null(of_whole);
    assert_true(json_equal(of_whole, of_light));
    json_decref(of_whole);
    json_decref(of_light);
    model_close(&whole);
    model_close(&light);
    assert_int_equal(unlink(in_dir(f->path, "config.json")), 0);
    assert_false(model_load_config(&light, f->path, &err));
    assert_int_equal(err.code, ERROR_NOT_FOUND);
    model_close(&light);
}

static void test_model_describe_counts_the_notebooks_parameters(void **state)
{
    struct fixture *f = *state;
    char text[256] = "";
    for (int i = 0; i < 83; i++) snprintf(text + strlen(text), sizeof text - strlen(text), "%c", i + ' ' + (i > 94));
    network_close(&f->network);
    vocabulary_free(f->vocabulary);
    f->vocabulary = make_vocabulary(text, NULL);
    make_network(&f->network, (struct architecture){.cell = CELL_LSTM, .layers = 1, .hidden_size = 128},
                 vocabulary_size(f->vocabulary));
    save(f, NULL, NULL);
    struct model model;
    struct error err = {0};
    assert_true(model_load(&model, f->path, &err));
    json_t *json = model_describe(&model, &err);
    model_close(&model);
    assert_int_equal(json_integer_value(json_object_get(json, "vocabulary_size")), 84);
    assert_int_equal(json_integer_value(json_object_get(json, "parameters")), 119892);
    assert_int_equal(json_integer_value(json_object_get(json, "recurrent_parameters")), 109056);
    assert_int_equal(json_integer_value(json_object_get(json, "embedding_parameters")), 0);
    assert_int_equal(json_integer_value(json_object_get(json, "output_parameters")), 10836);
    assert_string_equal(json_string_value(json_object_get(json, "token_level")), "char");
    assert_true(json_is_null(json_object_get(json, "training")));
    json_t *tensor = json_array_get(json_object_get(json, "tensors"), 0);
    json_t *expected =
        json_pack("{s:s, s:[i, i], s:i}", "name", "rnn.weight_ih_l0", "shape", 512, 84, "parameters", 512 * 84);
    assert_true(json_equal(tensor, expected));
    json_decref(expected);
    json_decref(json);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_checkpoint_loads_back_the_same_bits),
        TEST(test_checkpoint_round_trips_every_cell_tied_and_labelled),
        TEST(test_checkpoint_round_trips_a_variant),
        TEST(test_checkpoint_same_arguments_give_the_same_bytes),
        TEST(test_checkpoint_config_has_the_documented_fields_in_order),
        TEST(test_checkpoint_keeps_unknown_keys_on_re_export),
        TEST(test_model_name_is_the_last_component_of_the_path),
        TEST(test_checkpoint_refuses_each_bad_field_of_config_by_name),
        TEST(test_checkpoint_names_the_file_of_a_bad_field),
        TEST(test_checkpoint_accepts_functions_that_are_computed),
        TEST(test_checkpoint_refuses_labels_that_config_does_not_list),
        TEST(test_checkpoint_refuses_a_missing_file_by_name),
        TEST(test_checkpoint_refuses_a_vocabulary_that_was_edited),
        TEST(test_checkpoint_refuses_tensors_that_are_not_the_architectures),
        TEST(test_checkpoint_refuses_a_wrong_shape_and_prints_both),
        TEST(test_checkpoint_refuses_weights_that_are_not_finite),
        TEST(test_checkpoint_refuses_every_truncation_of_the_weights),
        TEST(test_checkpoint_disk_full_leaves_the_older_directory),
        TEST(test_checkpoint_failing_sync_leaves_the_older_directory),
        TEST(test_checkpoint_does_not_save_what_it_would_refuse),
        TEST(test_checkpoint_survives_each_failing_allocation),
        TEST(test_checkpoint_survives_failing_allocations_inside_jansson),
        TEST(test_model_load_never_mixes_two_directories),
        TEST(test_model_load_config_describes_without_weights),
        TEST(test_model_describe_counts_the_notebooks_parameters),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
