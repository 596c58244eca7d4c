#include "tests/unit/files/checkpoint_support.h"

#include <stdlib.h>
#include <string.h>

#include "tests/unit/support.h"

/* A vocabulary of the text's characters and, unless NULL, one label. */
struct vocabulary *make_character_vocabulary(const char *text, const char *label)
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

void make_initialised_network(struct network *network, struct architecture architecture, uint32_t vocabulary_size)
{
    struct error err = {0};
    architecture.vocabulary_size = vocabulary_size;
    if (!network_open(network, &architecture, &err) || !network_initialise(network, 5, &err))
        fail_msg("%s", err.message);
}

const struct architecture small_architecture = {.cell = CELL_GRU, .layers = 2, .hidden_size = 3, .embedding_size = 2};

void save_fixture(const struct checkpoint_fixture *f, const json_t *training, const json_t *extra)
{
    struct error err = {0};
    if (!checkpoint_save(f->path, &f->network, f->vocabulary, training, extra, &err)) fail_msg("%s", err.message);
}

int checkpoint_setup(void **state)
{
    struct checkpoint_fixture *f = calloc(1, sizeof *f);
    assert_non_null(f);
    f->directory = temp_dir_new();
    f->path = strdup(in_dir(f->directory, "tiny"));
    f->vocabulary = make_character_vocabulary("hello", NULL);
    make_initialised_network(&f->network, small_architecture, vocabulary_size(f->vocabulary));
    save_fixture(f, NULL, NULL);
    *state = f;
    return 0;
}

int checkpoint_teardown(void **state)
{
    struct checkpoint_fixture *f = *state;
    network_close(&f->network);
    vocabulary_free(f->vocabulary);
    temp_dir_remove(f->directory);
    free(f->path);
    free(f);
    return 0;
}

void assert_fixture_loads(const struct checkpoint_fixture *f)
{
    struct model model;
    struct error err = {0};
    if (!model_load(&model, f->path, &err)) fail_msg("%s", err.message);
    assert_int_equal(model.network.parameter_count, f->network.parameter_count);
    assert_memory_equal(model.network.parameters, f->network.parameters, f->network.parameter_count * sizeof(float));
    model_close(&model);
}

json_t *read_json_file(const char *path)
{
    char *text = read_text(path);
    json_t *json = json_loads(text, JSON_REJECT_DUPLICATES, NULL);
    assert_non_null(json);
    free(text);
    return json;
}

void write_json_file(const char *path, json_t *json)
{
    char *text = json_dumps(json, JSON_INDENT(2));
    assert_non_null(text);
    write_text(path, text);
    free(text);
    json_decref(json);
}
