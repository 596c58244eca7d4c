/* model/text/vocabulary_json.c: writing, and strict reading. */
#include "tests/unit/text/vocabulary_support.h"

#include <jansson.h>
#include <stdlib.h>
#include <string.h>

#include "tests/unit/support.h"

/* ---- JSON ---- */

static char *to_json(const struct vocabulary *vocabulary)
{
    struct error err = {0};
    size_t n;
    char *json = vocabulary_to_json(vocabulary, &n, &err);
    assert_non_null(json);
    assert_int_equal(strlen(json), n);
    return json;
}

/* Writing, reading and writing again gives the same bytes. Frees the vocabulary and returns the one that was read. */
static struct vocabulary *round_trip(struct vocabulary *vocabulary)
{
    char *first = to_json(vocabulary);
    struct vocabulary *copy = read_vocabulary(first);
    char *second = to_json(copy);
    assert_string_equal(first, second);
    assert_int_equal(vocabulary_size(copy), vocabulary_size(vocabulary));
    vocabulary_free(vocabulary);
    free(first);
    free(second);
    return copy;
}

static void assert_json(const struct vocabulary *vocabulary, const char *expected)
{
    char *json = to_json(vocabulary);
    assert_string_equal(json, expected);
    free(json);
}

static void test_vocabulary_json_is_as_the_format_says(void **state)
{
    (void)state;
    struct vocabulary *v = build_vocabulary(of_characters, "  e\"é");
    assert_json(v, "{\"level\": \"char\", \"tokens\": [\"<eos>\", \" \", \"e\", \"\\\"\", \"é\"], \"eos\": 0, "
                   "\"pad\": null, \"unknown\": null}\n");
    vocabulary_free(v);
    v = build_vocabulary((struct vocabulary_options){.level = TOKEN_LEVEL_WORD, .filters = ",", .unknown = true},
                         "a, b");
    assert_json(v, "{\"level\": \"word\", \"lower\": false, \"filters\": \",\", \"tokens\": [\"<eos>\", \"<unk>\", "
                   "\"a\", \"b\"], \"eos\": 0, \"pad\": null, \"unknown\": 1}\n");
    vocabulary_free(v);
    v = build_vocabulary(of_bytes, "a\xe9");
    assert_json(v, "{\"level\": \"byte\", \"tokens\": [\"<eos>\", \"a\", \"é\"], \"eos\": 0, \"pad\": null, "
                   "\"unknown\": null}\n");
    vocabulary_free(v);
    v = build_labelled_vocabulary();
    assert_json(v, "{\"level\": \"char\", \"tokens\": [\"<eos>\", \"a\", \"b\", \"1\", \"sport\", \"1\"], \"eos\": 0, "
                   "\"pad\": null, \"unknown\": null, \"labels\": [4, 5]}\n");
    vocabulary_free(v);
}

static void test_vocabulary_json_round_trip_keeps_characters(void **state)
{
    (void)state;
    struct vocabulary *v = round_trip(build_vocabulary_bytes(&of_characters, "a\0\n\x7f é中😀", 14));
    struct encoded encoded = encode_bytes(v, "\0é", 3);
    assert_int_equal(encoded.ids.count, 2);
    assert_int_equal(encoded.unknown.total, 0);
    encoded_free(&encoded);
    vocabulary_free(v);
}

static void test_vocabulary_json_round_trip_keeps_bytes(void **state)
{
    (void)state;
    char all[256];
    for (int i = 0; i < 256; i++) all[i] = (char)i;
    struct vocabulary *v = round_trip(build_vocabulary_bytes(&of_bytes, all, sizeof all));
    struct encoded encoded = encode_bytes(v, all, sizeof all);
    for (size_t i = 0; i < 256; i++) assert_int_equal(encoded.ids.ids[i], i + 1);
    encoded_free(&encoded);
    vocabulary_free(v);
}

static void test_vocabulary_json_round_trip_keeps_word_rules(void **state)
{
    (void)state;
    struct vocabulary_options options = of_words;
    options.filters = "é\n\\\"";
    struct vocabulary *v = round_trip(build_vocabulary(options, "Aéb C.\nD"));
    assert_encodes_all(v, "a\"B\\c.", "1 2 3");
    vocabulary_free(v);
}

static void test_vocabulary_json_round_trip_keeps_labels_and_lower(void **state)
{
    (void)state;
    struct vocabulary *v = round_trip(build_labelled_vocabulary());
    assert_int_equal(vocabulary_find_label(v, "sport"), 4);
    vocabulary_free(v);
    v = round_trip(build_vocabulary((struct vocabulary_options){.level = TOKEN_LEVEL_CHAR, .lower = true}, "AB"));
    assert_encodes_all(v, "bA", "2 1");
    vocabulary_free(v);
}

/* An imported model: pad at 0, no end token, and an end token that is a character. */
static void test_vocabulary_json_takes_imported_vocabularies(void **state)
{
    (void)state;
    struct vocabulary *v =
        read_vocabulary("{\"level\":\"char\",\"tokens\":[\"\",\"a\",\"$\"],\"eos\":2,\"pad\":0,\"unknown\":null}");
    assert_int_equal(vocabulary_eos(v), 2);
    assert_int_equal(vocabulary_start(v), 2);
    assert_int_equal(vocabulary_pad(v), 0);
    struct unknown_list unknown = assert_encodes(v, "a$", "1");
    assert_int_equal(unknown.total, 1);
    unknown_list_free(&unknown);
    vocabulary_free(v);
    v = read_vocabulary("{\"level\":\"char\",\"tokens\":[\"a\",\"b\"],\"eos\":null,\"pad\":null,\"unknown\":null}");
    assert_int_equal(vocabulary_eos(v), TOKEN_NONE);
    assert_int_equal(vocabulary_start(v), TOKEN_NONE);
    vocabulary_free(v);
    v = round_trip(
        read_vocabulary("{\"level\":\"char\",\"tokens\":[\"\",\"a\",\"$\"],\"eos\":2,\"eos_starts\":false,\"pad\":0,"
                        "\"unknown\":null}"));
    assert_int_equal(vocabulary_eos(v), 2);
    assert_int_equal(vocabulary_start(v), TOKEN_NONE);
    vocabulary_let_eos_start(v);
    v = round_trip(v);
    assert_int_equal(vocabulary_start(v), 2);
    vocabulary_free(v);
}

static void test_vocabulary_json_refuses_what_is_wrong_and_names_it(void **state)
{
    (void)state;
#define REST ",\"eos\":0,\"pad\":null,\"unknown\":null}"
    static const struct {
        const char *json, *says;
    } cases[] = {
        {"", "not JSON"},
        {"{\n\"level\": ", "v.json:2:"},
        {"[]", "not a JSON object"},
        {"{\"level\":\"char\",\"level\":\"char\",\"tokens\":[\"e\",\"a\"]" REST, "duplicate"},
        {"{\"tokens\":[\"e\",\"a\"]" REST, "level must be"},
        {"{\"level\":7,\"tokens\":[\"e\",\"a\"]" REST, "level must be"},
        {"{\"level\":\"letter\",\"tokens\":[\"e\",\"a\"]" REST, "level must be"},
        {"{\"level\":\"char\",\"colour\":1,\"tokens\":[\"e\",\"a\"]" REST, "unknown field \"colour\""},
        {"{\"level\":\"char\",\"lower\":1,\"tokens\":[\"e\",\"a\"]" REST, "lower must be"},
        {"{\"level\":\"byte\",\"lower\":true,\"tokens\":[\"e\",\"a\"]" REST, "lower cannot"},
        {"{\"level\":\"char\",\"filters\":\"\",\"tokens\":[\"e\",\"a\"]" REST, "filters belong"},
        {"{\"level\":\"word\",\"filters\":\"\",\"tokens\":[\"e\",\"a\"]" REST, "lower must be"},
        {"{\"level\":\"word\",\"lower\":true,\"tokens\":[\"e\",\"a\"]" REST, "filters must be"},
        {"{\"level\":\"word\",\"lower\":true,\"filters\":\"a\\u0000b\",\"tokens\":[\"e\",\"a\"]" REST, "U+0000"},
        {"{\"level\":\"char\"" REST, "tokens must be an array"},
        {"{\"level\":\"char\",\"tokens\":\"abc\"" REST, "tokens must be an array"},
        {"{\"level\":\"char\",\"tokens\":[]" REST, "0 tokens"},
        {"{\"level\":\"char\",\"tokens\":[\"e\",\"a\",3]" REST, "tokens[2] is not a string"},
        {"{\"level\":\"char\",\"tokens\":[\"e\",\"a\",\"bc\"]" REST, "tokens[2] is not one character"},
        {"{\"level\":\"char\",\"tokens\":[\"e\",\"a\",\"\"]" REST, "tokens[2] is empty"},
        {"{\"level\":\"char\",\"tokens\":[\"e\",\"a\",\"a\"]" REST, "tokens[2] came before"},
        {"{\"level\":\"byte\",\"tokens\":[\"e\",\"\\u0100\"]" REST, "tokens[1] is not one character up to U+00FF"},
        {"{\"level\":\"byte\",\"tokens\":[\"e\",\"a\",\"a\"]" REST, "tokens[2] came before"},
        {"{\"level\":\"word\",\"lower\":true,\"filters\":\"\",\"tokens\":[\"e\",\"aa\",\"aa\"]" REST,
         "tokens[2] came before"},
        {"{\"level\":\"char\",\"tokens\":[\"e\",\"\\ud800\"]" REST, "not JSON"},
        {"{\"level\":\"char\",\"tokens\":[\"e\",\"\xff\"]" REST, "not JSON"},
        {"{\"level\":\"char\",\"tokens\":[\"e\",\"a\"],\"pad\":null,\"unknown\":null}", "eos must be"},
        {"{\"level\":\"char\",\"tokens\":[\"e\",\"a\"],\"eos\":2,\"pad\":null,\"unknown\":null}", "eos must be"},
        {"{\"level\":\"char\",\"tokens\":[\"e\",\"a\"],\"eos\":-1,\"pad\":null,\"unknown\":null}", "eos must be"},
        {"{\"level\":\"char\",\"tokens\":[\"e\",\"a\"],\"eos\":0,\"pad\":1.0,\"unknown\":null}", "pad must be"},
        {"{\"level\":\"char\",\"tokens\":[\"e\",\"a\"],\"eos\":0,\"pad\":null,\"unknown\":\"1\"}", "unknown must be"},
        {"{\"level\":\"char\",\"tokens\":[\"e\",\"a\"],\"eos\":0,\"pad\":4294967296,\"unknown\":null}", "pad must be"},
        {"{\"level\":\"char\",\"tokens\":[\"e\",\"a\"],\"eos\":1,\"pad\":null,\"unknown\":1}", "different ids"},
        {"{\"level\":\"char\",\"tokens\":[\"e\",\"a\"],\"eos_starts\":0" REST, "eos_starts must be"},
        {"{\"level\":\"char\",\"tokens\":[\"a\"],\"eos\":null,\"eos_starts\":false,\"pad\":null,\"unknown\":null}",
         "belongs to an eos"},
        {"{\"level\":\"char\",\"tokens\":[\"e\",\"a\"],\"labels\":1" REST, "labels must be an array"},
        {"{\"level\":\"char\",\"tokens\":[\"e\",\"a\",\"l\"],\"labels\":[3]" REST, "labels[0] must be an id"},
        {"{\"level\":\"char\",\"tokens\":[\"e\",\"a\",\"l\"],\"labels\":[2,2]" REST, "labels[1] must be an id"},
        {"{\"level\":\"char\",\"tokens\":[\"e\",\"a\",\"l\"],\"labels\":[0]" REST, "labels[0] is the id of a special"},
        {"{\"level\":\"char\",\"tokens\":[\"e\",\"a\",\"l\",\"l\"],\"labels\":[2,3]" REST, "tokens[3] is a label"},
        {"{\"level\":\"char\",\"tokens\":[\"e\",\"a\",\"\"],\"labels\":[2]" REST, "tokens[2] is not a label"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct error err = {0};
        assert_null(vocabulary_from_json(cases[i].json, strlen(cases[i].json), "v.json", &err));
        assert_int_equal(err.code, ERROR_CORRUPT);
        assert_memory_equal(err.message, "v.json:", 7);
        if (!strstr(err.message, cases[i].says))
            fail_msg("case %zu: \"%s\" does not say \"%s\"", i, err.message, cases[i].says);
    }
}

/* ---- memory ---- */

static size_t json_countdown; /* of jansson's allocations, until the one that fails; 0: none */

static void *json_malloc(size_t size)
{
    return json_countdown > 0 && --json_countdown == 0 ? NULL : malloc(size);
}

/* jansson does not always report that memory ran out, so reading may fail with any error. */
static void test_vocabulary_survives_failures_inside_jansson(void **state)
{
    (void)state;
    struct vocabulary *v = build_labelled_vocabulary(), *copy = NULL;
    char *json = to_json(v);
    json_set_alloc_funcs(json_malloc, free);
    for (size_t n = 1;; n++) {
        struct error err = {0};
        json_countdown = n;
        size_t size;
        char *again = vocabulary_to_json(v, &size, &err);
        if (again) {
            assert_string_equal(again, json);
            free(again);
            break;
        }
        assert_int_equal(err.code, ERROR_NO_MEMORY);
    }
    for (size_t n = 1; !copy; n++) {
        struct error err = {0};
        json_countdown = n;
        copy = vocabulary_from_json(json, strlen(json), "v", &err);
        assert_int_equal(err.code == ERROR_NONE, copy != NULL);
        if (n == 1) assert_int_equal(err.code, ERROR_NO_MEMORY); /* here jansson says nothing */
    }
    json_countdown = 0;
    json_set_alloc_funcs(malloc, free);
    vocabulary_free(copy);
    vocabulary_free(v);
    free(json);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_vocabulary_json_is_as_the_format_says),
        cmocka_unit_test(test_vocabulary_json_round_trip_keeps_characters),
        cmocka_unit_test(test_vocabulary_json_round_trip_keeps_bytes),
        cmocka_unit_test(test_vocabulary_json_round_trip_keeps_word_rules),
        cmocka_unit_test(test_vocabulary_json_round_trip_keeps_labels_and_lower),
        cmocka_unit_test(test_vocabulary_json_takes_imported_vocabularies),
        cmocka_unit_test(test_vocabulary_json_refuses_what_is_wrong_and_names_it),
        cmocka_unit_test(test_vocabulary_survives_failures_inside_jansson),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
