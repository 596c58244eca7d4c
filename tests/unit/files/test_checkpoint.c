/* model/files/checkpoint.h: a load returns the saved model, bit for bit. A failed save keeps the older directory. */
#include "tests/unit/files/checkpoint_support.h"

#include <errno.h>
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
#include "tests/unit/support.h"

/* ---- round trips ---- */

static void test_checkpoint_loads_back_the_same_bits(void **state)
{
    const struct checkpoint_fixture *f = *state;
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
    assert_fixture_loads(f);
}

static void test_checkpoint_round_trips_every_cell_tied_and_labelled(void **state)
{
    struct checkpoint_fixture *f = *state;
    for (int cell = CELL_LSTM; cell <= CELL_RNN; cell++)
        for (int tied = 0; tied < 2; tied++) {
            network_close(&f->network);
            vocabulary_free(f->vocabulary);
            f->vocabulary = make_character_vocabulary("hello", tied ? "World" : NULL);
            struct architecture a = {.cell = (enum cell_kind)cell, .layers = 1, .hidden_size = 4};
            a.embedding_size = tied ? 4 : 0;
            a.tie_weights = tied;
            make_initialised_network(&f->network, a, vocabulary_size(f->vocabulary));
            save_fixture(f, NULL, NULL);
            assert_fixture_loads(f);
        }
}

static void test_checkpoint_round_trips_a_variant(void **state)
{
    struct checkpoint_fixture *f = *state;
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
    make_initialised_network(&f->network, variant, vocabulary_size(f->vocabulary));
    save_fixture(f, NULL, NULL);
    assert_fixture_loads(f);
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
    const struct checkpoint_fixture *f = *state;
    static const char *const files[] = {"config.json", "vocabulary.json", "model.safetensors"};
    char *before[3], *after[3];
    for (size_t i = 0; i < 3; i++) before[i] = read_text(in_dir(f->path, files[i]));
    save_fixture(f, NULL, NULL);
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
    const struct checkpoint_fixture *f = *state;
    json_t *training = json_pack("{s:s, s:f}", "corpus", "titles", "loss", 0.1);
    json_t *extra = json_pack("{s:s, s:s, s:{s:i}}", "cell", "ignored", "author", "x", "nested", "a", 1);
    save_fixture(f, training, extra);
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
    const struct checkpoint_fixture *f = *state;
    json_t *config = read_json_file(in_dir(f->path, "config.json"));
    json_object_set_new(config, "licence", json_string("MIT"));
    json_object_set_new(config, "training", json_pack("{s:i}", "epochs", 3));
    write_json_file(in_dir(f->path, "config.json"), config);
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
    const struct checkpoint_fixture *f = *state;
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

/* ---- saves that fail ---- */

static bool save_again(void *context, struct error *err)
{
    const struct checkpoint_fixture *f = context;
    json_t *training = json_pack("{s:i}", "epochs", 3);
    bool ok = training ? checkpoint_save(f->path, &f->network, f->vocabulary, training, training, err)
                       : error_set_no_memory(err, 0, "the test");
    json_decref(training);
    return ok;
}

static void test_checkpoint_disk_full_leaves_the_older_directory(void **state)
{
    struct checkpoint_fixture *f = *state;
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
        assert_fixture_loads(f);
    }
    signal(SIGXFSZ, old);
    free(config);
}

static void test_checkpoint_failing_sync_leaves_the_older_directory(void **state)
{
    struct checkpoint_fixture *f = *state;
    struct error err = {0};
    fail_fsync_with = EIO;
    bool saved = save_again(f, &err);
    fail_fsync_with = 0;
    assert_false(saved);
    assert_int_equal(err.code, ERROR_IO);
    assert_int_equal(count_entries(f->directory), 1);
    assert_fixture_loads(f);
}

static void test_checkpoint_does_not_save_what_it_would_refuse(void **state)
{
    struct checkpoint_fixture *f = *state;
    struct error err = {0};
    float kept = f->network.output_bias[1];
    f->network.output_bias[1] = NAN;
    assert_false(checkpoint_save(f->path, &f->network, f->vocabulary, NULL, NULL, &err));
    assert_int_equal(err.code, ERROR_NUMERIC);
    assert_non_null(strstr(err.message, "tensor \"output.bias\": element 1 is NaN"));
    f->network.output_bias[1] = kept;
    assert_fixture_loads(f);
    struct vocabulary *other = make_character_vocabulary("hello world", NULL);
    error_clear(&err);
    assert_false(checkpoint_save(f->path, &f->network, other, NULL, NULL, &err));
    assert_int_equal(err.code, ERROR_INVALID);
    assert_non_null(strstr(err.message, "a vocabulary of 9 tokens does not fit a network of 5"));
    vocabulary_free(other);
    assert_fixture_loads(f);
}

static bool load_and_describe(void *context, struct error *err)
{
    const struct checkpoint_fixture *f = context;
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
    assert_fixture_loads(*state);
}

struct loaded {
    const struct checkpoint_fixture *fixture;
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

/* Building and printing JSON. The parser of jansson 2.14 does not survive a failing allocation. */
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
    assert_fixture_loads(*state);
}

/* ---- replaced while it is read ---- */

struct publisher {
    const struct checkpoint_fixture *f;
    atomic_bool end;
};

/* Publishes a network of another size and the fixture's network in turns. */
static void *publish_in_turns(void *argument)
{
    struct publisher *publisher = argument;
    const struct checkpoint_fixture *f = publisher->f;
    struct network other;
    struct architecture larger = small_architecture;
    larger.hidden_size = 5;
    make_initialised_network(&other, larger, vocabulary_size(f->vocabulary));
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
    struct checkpoint_fixture *f = *state;
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
    struct checkpoint_fixture *f = *state;
    char text[256] = "";
    for (int i = 0; i < 83; i++) snprintf(text + strlen(text), sizeof text - strlen(text), "%c", i + ' ' + (i > 94));
    network_close(&f->network);
    vocabulary_free(f->vocabulary);
    f->vocabulary = make_character_vocabulary(text, NULL);
    make_initialised_network(&f->network, (struct architecture){.cell = CELL_LSTM, .layers = 1, .hidden_size = 128},
                             vocabulary_size(f->vocabulary));
    save_fixture(f, NULL, NULL);
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

int main(void)
{
    const struct CMUnitTest tests[] = {
        CHECKPOINT_TEST(test_checkpoint_loads_back_the_same_bits),
        CHECKPOINT_TEST(test_checkpoint_round_trips_every_cell_tied_and_labelled),
        CHECKPOINT_TEST(test_checkpoint_round_trips_a_variant),
        CHECKPOINT_TEST(test_checkpoint_same_arguments_give_the_same_bytes),
        CHECKPOINT_TEST(test_checkpoint_config_has_the_documented_fields_in_order),
        CHECKPOINT_TEST(test_checkpoint_keeps_unknown_keys_on_re_export),
        CHECKPOINT_TEST(test_model_name_is_the_last_component_of_the_path),
        CHECKPOINT_TEST(test_checkpoint_disk_full_leaves_the_older_directory),
        CHECKPOINT_TEST(test_checkpoint_failing_sync_leaves_the_older_directory),
        CHECKPOINT_TEST(test_checkpoint_does_not_save_what_it_would_refuse),
        CHECKPOINT_TEST(test_checkpoint_survives_each_failing_allocation),
        CHECKPOINT_TEST(test_checkpoint_survives_failing_allocations_inside_jansson),
        CHECKPOINT_TEST(test_model_load_never_mixes_two_directories),
        CHECKPOINT_TEST(test_model_load_config_describes_without_weights),
        CHECKPOINT_TEST(test_model_describe_counts_the_notebooks_parameters),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
