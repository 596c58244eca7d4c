#include "model/train/options.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tests/unit/support.h"

static struct trainer_options defaults(void)
{
    struct trainer_options options;
    trainer_options_default(&options);
    return options;
}

static void invalid(struct trainer_options options, const char *text)
{
    struct error err = {0};
    assert_false(trainer_options_validate(&options, &err));
    assert_int_equal(err.code, ERROR_INVALID);
    if (!strstr(err.message, text)) fail_msg("\"%s\" lacks \"%s\"", err.message, text);
}

static void test_trainer_options_defaults_are_valid_and_as_documented(void **state)
{
    (void)state;
    struct trainer_options options = defaults();
    struct error err = {0};
    assert_true(trainer_options_validate(&options, &err));
    assert_int_equal(options.cell, CELL_LSTM);
    assert_int_equal(options.layers, 1);
    assert_int_equal(options.hidden, 128);
    assert_int_equal(options.embedding, 0);
    assert_int_equal(options.optimizer, OPTIMIZER_ADAM);
    assert_true(options.rate == 2e-3 && options.clip == 5 && options.validation == 0.1);
    assert_int_equal(options.batch, 0); /* by the corpus */
    assert_int_equal(options.window, 0);
    assert_int_equal(options.epochs, 10);
    assert_null(options.data);
    assert_null(options.filters);
    assert_int_equal(trainer_corpus_options(&options).csv_header, -1);
}

/* The table's names and the modules' must be the same lists in the same order. */
static void test_trainer_options_choices_are_those_of_the_modules(void **state)
{
    (void)state;
    for (size_t i = 0; i < trainer_option_count; i++) {
        const struct trainer_option *row = &trainer_option_table[i];
        for (unsigned c = 0; row->choices && row->choices[c]; c++) {
            if (strcmp(row->key, "cell") == 0) assert_string_equal(row->choices[c], cell_name(c));
            if (strcmp(row->key, "level") == 0) assert_string_equal(row->choices[c], token_level_name(c));
            enum corpus_format format;
            if (strcmp(row->key, "format") == 0) {
                assert_true(corpus_format_parse(row->choices[c], &format));
                assert_int_equal(format, c);
            }
        }
    }
}

static void test_trainer_options_each_bound_is_enforced(void **state)
{
    (void)state;
    for (size_t i = 0; i < trainer_option_count; i++) {
        const struct trainer_option *row = &trainer_option_table[i];
        struct trainer_options options = defaults();
        void *field = (char *)&options + row->offset;
        char *text = NULL;
        if (row->kind == TRAINER_INT) {
            *(uint64_t *)field = (uint64_t)row->maximum + 1;
        } else if (row->kind == TRAINER_REAL) {
            *(double *)field = NAN;
        } else if (row->kind == TRAINER_TEXT) {
            size_t n = (size_t)row->maximum + 1;
            text = calloc(n + 1, 1);
            assert_non_null(text);
            memset(text, 'x', n);
            *(const char **)field = text;
        } else {
            continue;
        }
        invalid(options, row->key);
        free(text);
    }
}

static void test_trainer_options_that_contradict_each_other_are_refused(void **state)
{
    (void)state;
    struct trainer_options options = defaults();
    options.tie_weights = true;
    options.embedding = 64;
    invalid(options, "tie_weights");
    options = defaults();
    options.bytes = true;
    options.level = TOKEN_LEVEL_WORD;
    invalid(options, "UTF-8");
    options = defaults();
    options.columns = "title";
    options.format = CORPUS_LINES;
    invalid(options, "columns needs format csv");
    options = defaults();
    options.field = "text";
    options.format = CORPUS_CSV;
    invalid(options, "field needs format jsonl");
    options = defaults();
    options.label_column = "1";
    options.format = CORPUS_TEXT;
    invalid(options, "label_column needs format");
    options = defaults();
    options.filters = ".";
    invalid(options, "filters needs level word");
}

static void test_trainer_options_bytes_and_byte_level_imply_each_other(void **state)
{
    (void)state;
    struct error err = {0};
    struct trainer_options options = defaults();
    options.bytes = true;
    assert_true(trainer_options_validate(&options, &err));
    assert_int_equal(options.level, TOKEN_LEVEL_BYTE);
    options = defaults();
    options.level = TOKEN_LEVEL_BYTE;
    assert_true(trainer_options_validate(&options, &err));
    assert_true(options.bytes);
}

static void test_trainer_options_json_round_trip_keeps_every_option(void **state)
{
    (void)state;
    struct error err = {0};
    struct trainer_options options = defaults(), back = defaults();
    for (size_t i = 0; i < trainer_option_count; i++) {
        const struct trainer_option *row = &trainer_option_table[i];
        void *field = (char *)&options + row->offset;
        if (row->kind == TRAINER_BOOL) *(bool *)field = true;
        if (row->kind == TRAINER_INT) *(uint64_t *)field = (uint64_t)row->maximum;
        if (row->kind == TRAINER_REAL) *(double *)field = row->minimum + (row->maximum - row->minimum) / 3;
        if (row->kind == TRAINER_CHOICE) *(int *)field = 2;
        if (row->kind == TRAINER_TEXT) *(const char **)field = row->key;
    }
    json_t *json = trainer_options_to_json(&options, TRAINER_RECIPE | TRAINER_ADJUSTABLE, &err);
    assert_int_equal(json_object_size(json), trainer_option_count);
    assert_true(trainer_options_from_json(&back, json, "test", &err));
    for (size_t i = 0; i < trainer_option_count; i++) {
        const struct trainer_option *row = &trainer_option_table[i];
        const char *a = (const char *)&options + row->offset, *b = (const char *)&back + row->offset;
        if (row->kind == TRAINER_TEXT)
            assert_string_equal(*(const char *const *)a, *(const char *const *)b);
        else
            assert_memory_equal(a, b, row->kind == TRAINER_BOOL ? 1 : row->kind == TRAINER_CHOICE ? 4 : 8);
    }
    json_decref(json);
}

static void test_trainer_options_from_json_names_what_is_wrong(void **state)
{
    (void)state;
    static const char *const cases[][2] = {
        {"{\"hiden\": 3}", "unknown training option \"hiden\""},
        {"{\"hidden\": \"3\"}", "hidden must be a non-negative integer"},
        {"{\"hidden\": 3.5}", "hidden must be a non-negative integer"},
        {"{\"hidden\": -3}", "hidden must be a non-negative integer"},
        {"{\"hidden\": 0}", "hidden is 0"},
        {"{\"lr\": true}", "lr must be a number"},
        {"{\"lower\": 1}", "lower must be true or false"},
        {"{\"cell\": \"LSTM\"}", "cell must be one of the choices"},
        {"{\"columns\": 1}", "columns must be a string"},
        {"[]", "must be an object"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct error err = {0};
        struct trainer_options options = defaults();
        json_t *json = json_loads(cases[i][0], 0, NULL);
        assert_non_null(json);
        assert_false(trainer_options_from_json(&options, json, "body", &err));
        if (!strstr(err.message, cases[i][1]) || strncmp(err.message, "body: ", 6) != 0) fail_msg("%s", err.message);
        json_decref(json);
    }
}

static void test_trainer_options_recipe_holds_no_paths(void **state)
{
    (void)state;
    struct error err = {0};
    struct trainer_options options = defaults();
    options.data = options.validation_data = "/somewhere/private.txt";
    json_t *json = trainer_options_to_json(&options, TRAINER_RECIPE, &err);
    assert_null(json_object_get(json, "data"));
    assert_null(json_object_get(json, "validation_data"));
    assert_non_null(json_object_get(json, "lr"));
    json_decref(json);
}

static const struct trainer_option *row_of(const char *key)
{
    for (size_t i = 0; i < trainer_option_count; i++)
        if (strcmp(trainer_option_table[i].key, key) == 0) return &trainer_option_table[i];
    fail_msg("there is no option \"%s\"", key);
    return NULL;
}

static void test_trainer_options_presets_have_valid_values(void **state)
{
    (void)state;
    struct error err = {0};
    for (int kind = 0; kind < PRESET_COUNT; kind++) {
        struct trainer_options options;
        trainer_options_preset(&options, (enum trainer_preset_kind)kind);
        assert_int_equal(options.preset, kind);
        if (!trainer_options_validate(&options, &err)) fail_msg("%s: %s", trainer_preset_names[kind], err.message);
        json_t *json = trainer_options_to_json(&options, TRAINER_RECIPE, &err);
        assert_string_equal(json_string_value(json_object_get(json, "preset")), trainer_preset_names[kind]);
        for (const struct trainer_preset_value *value = trainer_presets[kind].values; value->key; value++) {
            assert_true(row_of(value->key)->flags & TRAINER_RECIPE);
            json_t *told = json_object_get(json, value->key);
            char *end = NULL;
            if (json_is_number(told)) {
                assert_true(strtod(value->text, &end) == json_number_value(told));
                assert_string_equal(end, "");
            } else {
                assert_string_equal(value->text, json_string_value(told));
            }
        }
        json_decref(json);
    }
    assert_null(trainer_preset_names[PRESET_COUNT]);
}

/* A preset is the sum of its values: no option that it does not name differs from the defaults. */
static void test_trainer_options_preset_changes_what_it_names_alone(void **state)
{
    (void)state;
    struct trainer_options options, expected = defaults();
    trainer_options_preset(&options, PRESET_HEADLINES);
    expected.preset = PRESET_HEADLINES;
    expected.hidden = 300;
    expected.embedding = 64;
    expected.dropout = 0.35;
    expected.rate = 0.014;
    expected.schedule = SCHEDULE_COSINE;
    expected.warmup = 100;
    expected.minimum_rate = 0.01;
    expected.clip = 1;
    expected.batch = 32;
    expected.window = 48;
    expected.epochs = 18;
    assert_true(trainer_options_may_resume(&expected, &options, NULL));
    assert_true(options.rate == expected.rate && options.clip == expected.clip && options.epochs == expected.epochs);
    trainer_options_preset(&options, PRESET_NONE);
    expected = defaults();
    assert_true(trainer_options_may_resume(&expected, &options, NULL));
}

static void refused_for(struct trainer_options options, const char *key)
{
    struct error err = {0};
    options.threads = 1;
    assert_true(trainer_options_check_memory(&options, 100, 0, NULL));
    assert_false(trainer_options_check_memory(&options, 100, (size_t)100 << 20, &err));
    assert_int_equal(err.code, ERROR_TOO_LARGE);
    if (strncmp(err.message, key, strlen(key)) != 0 || err.message[strlen(key)] != ' ')
        fail_msg("\"%s\" does not blame %s", err.message, key);
}

static void test_trainer_options_memory_blames_what_takes_most_of_it(void **state)
{
    (void)state;
    struct trainer_options options = defaults();
    options.threads = 1;
    assert_true(trainer_options_check_memory(&options, 100, (size_t)100 << 20, NULL));
    options.batch = 4096;
    refused_for(options, "batch");
    options = defaults();
    options.window = 65536;
    refused_for(options, "bptt");
    options = defaults();
    options.hidden = 16384;
    refused_for(options, "hidden");
    options = defaults();
    options.layers = 8;
    options.batch = 128;
    refused_for(options, "layers");
}

static void assert_fit(uint64_t batch, uint64_t window, uint64_t targets, uint64_t fitted_batch, uint64_t fitted_window)
{
    struct trainer_options options = defaults();
    options.batch = batch;
    options.window = window;
    trainer_options_fit(&options, targets);
    assert_int_equal(options.batch, fitted_batch);
    assert_int_equal(options.window, fitted_window);
}

/* An epoch is to have 240 steps. */
static void test_trainer_options_batch_and_window_follow_the_text_where_they_are_not_set(void **state)
{
    (void)state;
    assert_fit(0, 0, UINT64_MAX, 64, 64);
    assert_fit(0, 0, 64 * 64 * 240, 64, 64);
    assert_fit(0, 0, 64 * 64 * 240 - 1, 64, 32);
    assert_fit(0, 0, 64 * 32 * 240 - 1, 32, 32);
    assert_fit(0, 0, 90000, 8, 32);
    assert_fit(0, 0, 18000, 2, 32);
    assert_fit(0, 0, 1, 1, 32);
    assert_fit(0, 100, 18000, 1, 100);
    assert_fit(0, 8, 18000, 8, 8);
    assert_fit(16, 0, 90000, 16, 32);
    assert_fit(4, 0, 90000, 4, 64);
}

static void test_trainer_options_that_are_set_stay_where_the_text_has_room_for_them(void **state)
{
    (void)state;
    assert_fit(64, 64, 18000, 64, 64);
    assert_fit(4096, 4096, 2800, 1, 4096);
    assert_fit(4096, 4096, UINT64_MAX, 4096, 4096);
    assert_fit(65536, 65536, 1, 1, 65536);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_trainer_options_defaults_are_valid_and_as_documented),
        cmocka_unit_test(test_trainer_options_choices_are_those_of_the_modules),
        cmocka_unit_test(test_trainer_options_each_bound_is_enforced),
        cmocka_unit_test(test_trainer_options_that_contradict_each_other_are_refused),
        cmocka_unit_test(test_trainer_options_bytes_and_byte_level_imply_each_other),
        cmocka_unit_test(test_trainer_options_json_round_trip_keeps_every_option),
        cmocka_unit_test(test_trainer_options_from_json_names_what_is_wrong),
        cmocka_unit_test(test_trainer_options_recipe_holds_no_paths),
        cmocka_unit_test(test_trainer_options_presets_have_valid_values),
        cmocka_unit_test(test_trainer_options_preset_changes_what_it_names_alone),
        cmocka_unit_test(test_trainer_options_memory_blames_what_takes_most_of_it),
        cmocka_unit_test(test_trainer_options_batch_and_window_follow_the_text_where_they_are_not_set),
        cmocka_unit_test(test_trainer_options_that_are_set_stay_where_the_text_has_room_for_them),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
