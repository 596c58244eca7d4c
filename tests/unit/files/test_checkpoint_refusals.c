/* model/files/checkpoint.h: a load refuses an incomplete directory and says why. */
#include "tests/unit/files/checkpoint_support.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "model/files/safetensors.h"
#include "tests/unit/support.h"

/* The load fails with one line that begins with the file and contains the fragment. Nothing is left of the model. */
static void assert_load_refused(const struct checkpoint_fixture *f, const char *file, const char *fragment)
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

/* Sets a field of config.json to the JSON text (value NULL: removes it), or replaces the whole file (key NULL). */
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
    {"cell", "\"transformer\"", "cell is \"transformer\", but must be " CELL_NAMES},
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
    json_t *config = read_json_file(path);
    if (value)
        assert_int_equal(json_object_set_new(config, key, json_loads(value, JSON_DECODE_ANY, NULL)), 0);
    else
        assert_int_equal(json_object_del(config, key), 0);
    write_json_file(path, config);
}

static void test_checkpoint_refuses_each_bad_field_of_config_by_name(void **state)
{
    const struct checkpoint_fixture *f = *state;
    for (size_t i = 0; i < sizeof config_damage / sizeof config_damage[0]; i++) {
        save_fixture(f, NULL, NULL);
        damage_config(in_dir(f->path, "config.json"), config_damage[i].key, config_damage[i].value);
        assert_load_refused(f, "", config_damage[i].fragment);
    }
}

static void test_checkpoint_names_the_file_of_a_bad_field(void **state)
{
    const struct checkpoint_fixture *f = *state;
    damage_config(in_dir(f->path, "config.json"), "layers", "0");
    assert_load_refused(f, "config.json", ": layers is 0");
}

static void test_checkpoint_accepts_functions_that_are_computed(void **state)
{
    const struct checkpoint_fixture *f = *state;
    damage_config(in_dir(f->path, "config.json"), "activation", "\"tanh\"");
    damage_config(in_dir(f->path, "config.json"), "recurrent_activation", "\"sigmoid\"");
    damage_config(in_dir(f->path, "config.json"), "reset_after", NULL);
    assert_fixture_loads(f);
}

static void test_checkpoint_refuses_labels_that_config_does_not_list(void **state)
{
    struct checkpoint_fixture *f = *state;
    network_close(&f->network);
    vocabulary_free(f->vocabulary);
    f->vocabulary = make_character_vocabulary("hello", "World");
    make_initialised_network(&f->network, small_architecture, vocabulary_size(f->vocabulary));
    static const char *const labels[] = {NULL, "[]", "[\"Sports\"]", "[\"World\",\"World\"]", "[1]"};
    for (size_t i = 0; i < sizeof labels / sizeof labels[0]; i++) {
        save_fixture(f, NULL, NULL);
        damage_config(in_dir(f->path, "config.json"), "labels", labels[i]);
        assert_load_refused(f, "vocabulary.json", "its 1 labels are not those of config.json");
    }
}

static void test_checkpoint_refuses_a_missing_file_by_name(void **state)
{
    const struct checkpoint_fixture *f = *state;
    static const char *const files[] = {"config.json", "vocabulary.json", "model.safetensors"};
    for (size_t i = 0; i < 3; i++) {
        save_fixture(f, NULL, NULL);
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
    const struct checkpoint_fixture *f = *state;
    const char *path = in_dir(f->path, "vocabulary.json");
    char *text = read_text(path), *letter = strchr(text, 'h');
    assert_non_null(letter);
    *letter = 'H';
    write_text(path, text);
    free(text);
    assert_load_refused(f, "vocabulary.json", "does not belong to these weights");
}

/* Saves these tensors in place of those of the architecture. */
static void write_weights(const struct checkpoint_fixture *f, const struct network *layout, const char *skipped,
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
    const struct checkpoint_fixture *f = *state;
    const int64_t number = 1;
    struct safetensors_entry added = {"extra", SAFETENSORS_I64, 1, {1}, 1, (const unsigned char *)&number};
    write_weights(f, &f->network, NULL, NULL);
    assert_fixture_loads(f);
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
    const struct checkpoint_fixture *f = *state;
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
    struct checkpoint_fixture *f = *state;
    f->network.weight_hh[1][4] = NAN;
    write_weights(f, &f->network, NULL, NULL);
    assert_load_refused(f, "model.safetensors", "tensor \"rnn.weight_hh_l1\": element 4 is NaN");
    f->network.weight_hh[1][4] = -INFINITY;
    write_weights(f, &f->network, NULL, NULL);
    assert_load_refused(f, "model.safetensors", "tensor \"rnn.weight_hh_l1\": element 4 is infinite");
}

static void test_checkpoint_refuses_every_truncation_of_the_weights(void **state)
{
    const struct checkpoint_fixture *f = *state;
    const char *path = in_dir(f->path, "model.safetensors");
    struct stat info;
    assert_int_equal(stat(path, &info), 0);
    for (off_t size = info.st_size - 1; size >= 0; size -= size > 64 ? 13 : 1) {
        assert_int_equal(truncate(path, size), 0);
        assert_load_refused(f, "model.safetensors", ": ");
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        CHECKPOINT_TEST(test_checkpoint_refuses_each_bad_field_of_config_by_name),
        CHECKPOINT_TEST(test_checkpoint_names_the_file_of_a_bad_field),
        CHECKPOINT_TEST(test_checkpoint_accepts_functions_that_are_computed),
        CHECKPOINT_TEST(test_checkpoint_refuses_labels_that_config_does_not_list),
        CHECKPOINT_TEST(test_checkpoint_refuses_a_missing_file_by_name),
        CHECKPOINT_TEST(test_checkpoint_refuses_a_vocabulary_that_was_edited),
        CHECKPOINT_TEST(test_checkpoint_refuses_tensors_that_are_not_the_architectures),
        CHECKPOINT_TEST(test_checkpoint_refuses_a_wrong_shape_and_prints_both),
        CHECKPOINT_TEST(test_checkpoint_refuses_weights_that_are_not_finite),
        CHECKPOINT_TEST(test_checkpoint_refuses_every_truncation_of_the_weights),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
