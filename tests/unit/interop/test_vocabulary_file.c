#include "model/interop/vocabulary_file.h"

#include <string.h>

#include "tests/unit/support.h"

static struct vocabulary *read_json(const char *text, struct interop_wanted wanted, struct error *err)
{
    json_t *json = json_loads(text, JSON_DECODE_ANY, NULL);
    assert_non_null(json);
    struct vocabulary *vocabulary = interop_vocabulary_from_json(json, &wanted, "v.json", err);
    json_decref(json);
    return vocabulary;
}

/* The tokens by id, '|' between two. Frees the vocabulary. */
static void assert_tokens(struct vocabulary *vocabulary, const char *expected)
{
    char text[512] = "";
    assert_non_null(vocabulary);
    for (uint32_t id = 0; id < vocabulary_size(vocabulary); id++) {
        size_t n;
        const char *token = vocabulary_token(vocabulary, id, &n);
        snprintf(text + strlen(text), sizeof text - strlen(text), "%s%s", id > 0 ? "|" : "", token);
    }
    assert_string_equal(text, expected);
    vocabulary_free(vocabulary);
}

static void assert_ids(const struct vocabulary *vocabulary, const char *text, const uint32_t *ids, size_t count)
{
    struct token_list list = {0};
    assert_true(vocabulary_encode(vocabulary, text, strlen(text), &list, NULL, NULL));
    assert_int_equal(list.count, count);
    assert_memory_equal(list.ids, ids, count * sizeof *ids);
    token_list_free(&list);
}
#define IDS(...) (const uint32_t[]){__VA_ARGS__}, sizeof(uint32_t[]){__VA_ARGS__} / sizeof(uint32_t)

static void test_lists_and_maps_in_either_direction(void **state)
{
    (void)state;
    static const char *const texts[] = {
        "[\"b\", \"a\", \"\\n\"]",
        "{\"a\": 1, \"b\": 0, \"\\n\": 2}",
        "{\"0\": \"b\", \"1\": \"a\", \"2\": \"\\n\"}",
        "{\"vocab_size\": 3, \"idx2char\": [\"b\", \"a\", \"\\n\"]}",
        "{\"chars\": [\"x\", \"y\", \"z\"], \"char2idx\": {\"a\": 1, \"b\": 0, \"\\n\": 2}}",
        "\"[\\\"b\\\", \\\"a\\\", \\\"\\\\n\\\"]\""};
    for (size_t i = 0; i < sizeof texts / sizeof *texts; i++) {
        struct error err = {0};
        struct vocabulary *vocabulary = read_json(texts[i], (struct interop_wanted){.size = 3}, &err);
        if (!vocabulary) fail_msg("%s: %s", texts[i], err.message);
        assert_int_equal(vocabulary_level(vocabulary), TOKEN_LEVEL_CHAR);
        assert_int_equal(vocabulary_eos(vocabulary), TOKEN_NONE);
        assert_int_equal(vocabulary_pad(vocabulary), TOKEN_NONE);
        assert_tokens(vocabulary, "b|a|\n");
    }
}

static void test_digits_are_tokens_where_values_are_ids(void **state)
{
    (void)state;
    assert_tokens(read_json("{\"1\": 0, \"0\": 1}", (struct interop_wanted){.size = 2}, NULL), "1|0");
}

static void test_a_map_from_one_reserves_id_zero(void **state)
{
    (void)state;
    struct vocabulary *vocabulary = read_json("{\"a\": 1, \"b\": 2}", (struct interop_wanted){.size = 3}, NULL);
    assert_non_null(vocabulary);
    assert_int_equal(vocabulary_pad(vocabulary), 0);
    assert_tokens(vocabulary, "<pad>|a|b");
    vocabulary = read_json("[\"a\", \"b\"]", (struct interop_wanted){.size = 3, .pad = true}, NULL);
    assert_tokens(vocabulary, "<pad>|a|b");
}

static void test_tokens_with_a_meaning_are_known_by_name(void **state)
{
    (void)state;
    struct vocabulary *vocabulary = read_json("[\"<pad>\", \"<unk>\", \"<eos>\", \"<start>\", \"a\", \"b\"]",
                                              (struct interop_wanted){.size = 6}, NULL);
    assert_non_null(vocabulary);
    assert_int_equal(vocabulary_level(vocabulary), TOKEN_LEVEL_CHAR);
    assert_int_equal(vocabulary_pad(vocabulary), 0);
    assert_int_equal(vocabulary_unknown(vocabulary), 1);
    assert_int_equal(vocabulary_eos(vocabulary), 2);
    assert_int_equal(vocabulary_start(vocabulary), TOKEN_NONE); /* nobody knows what came before a text */
    assert_int_equal(vocabulary_find_label(vocabulary, "<start>"), 3);
    assert_ids(vocabulary, "bax", IDS(5, 4, 1));
    vocabulary_free(vocabulary);
}

static void test_words_are_lowered_and_filtered_as_their_tokens_are(void **state)
{
    (void)state;
    struct vocabulary *vocabulary = read_json("[\"don't\", \"go\", \",\"]", (struct interop_wanted){.size = 3}, NULL);
    assert_non_null(vocabulary);
    assert_int_equal(vocabulary_level(vocabulary), TOKEN_LEVEL_WORD);
    assert_ids(vocabulary, "Don't go!\n,",
               IDS(0, 1, 2)); /* no token has "!", so it separates; "," and "'" are in tokens and do not */
    vocabulary_free(vocabulary);
    vocabulary = read_json("[\"Go\", \"on\"]", (struct interop_wanted){.size = 2}, NULL);
    assert_ids(vocabulary, "Go on go", IDS(0, 1)); /* a token has a capital: the text was not lower-cased */
    vocabulary_free(vocabulary);
    vocabulary = read_json("[\"a\", \"b\"]", (struct interop_wanted){.size = 2, .level = INTEROP_LEVEL_WORD}, NULL);
    assert_int_equal(vocabulary_level(vocabulary), TOKEN_LEVEL_WORD);
    vocabulary_free(vocabulary);
}

#define TOKENIZER(rules, index)                                                                                        \
    "{\"class_name\": \"Tokenizer\", \"config\": {\"filters\": \"!\", \"split\": \" \", " rules                        \
    ", \"word_index\": \"" index "\", \"index_word\": \"{}\", \"document_count\": 3}}"

static void test_keras_tokenizers(void **state)
{
    (void)state;
    static const char words[] = TOKENIZER("\"lower\": true, \"char_level\": false, \"num_words\": null, "
                                          "\"oov_token\": \"<O>\"",
                                          "{\\\"<O>\\\": 1, \\\"the\\\": 2, \\\"<eos>\\\": 3}");
    struct vocabulary *vocabulary = read_json(words, (struct interop_wanted){.size = 4}, NULL);
    assert_non_null(vocabulary);
    assert_int_equal(vocabulary_pad(vocabulary), 0);
    assert_int_equal(vocabulary_unknown(vocabulary), 1);
    assert_int_equal(vocabulary_eos(vocabulary), 3);
    assert_ids(vocabulary, "The!x, the", IDS(2, 1, 2));
    assert_tokens(vocabulary, "<pad>|<O>|the|<eos>");

    json_t *again = json_string(words); /* json.dump(tokenizer.to_json(), file) */
    vocabulary = interop_vocabulary_from_json(again, &(struct interop_wanted){.size = 4}, "v.json", NULL);
    json_decref(again);
    assert_tokens(vocabulary, "<pad>|<O>|the|<eos>");

    static const char characters[] =
        TOKENIZER("\"lower\": false, \"char_level\": true, \"num_words\": null", "{\\\"A\\\": 1, \\\"a\\\": 2}");
    vocabulary = read_json(characters, (struct interop_wanted){.size = 3}, NULL);
    assert_int_equal(vocabulary_level(vocabulary), TOKEN_LEVEL_CHAR);
    assert_ids(vocabulary, "aA", IDS(2, 1));
    vocabulary_free(vocabulary);

    static const char limited[] =
        TOKENIZER("\"lower\": true, \"num_words\": 3", "{\\\"a\\\": 1, \\\"b\\\": 2, \\\"c\\\": 3}");
    assert_tokens(read_json(limited, (struct interop_wanted){.size = 3}, NULL), "<pad>|a|b");
    assert_tokens(read_json(limited, (struct interop_wanted){.size = 4}, NULL), "<pad>|a|b|c");
    struct error err = {0};
    assert_null(read_json(limited, (struct interop_wanted){.size = 2}, &err));
    assert_non_null(strstr(err.message, "3 tokens, but the network has 2"));
    static const char one_more[] =
        TOKENIZER("\"lower\": true, \"num_words\": 2", "{\\\"a\\\": 1, \\\"b\\\": 2, \\\"c\\\": 3}");
    assert_tokens(read_json(one_more, (struct interop_wanted){.size = 3}, NULL), "<pad>|a|b");

    static const char lowered[] = TOKENIZER("\"lower\": true, \"char_level\": true", "{\\\"a\\\": 1, \\\"b\\\": 2}");
    vocabulary = read_json(lowered, (struct interop_wanted){.size = 3}, NULL);
    assert_ids(vocabulary, "Ab", IDS(1, 2));
    vocabulary_free(vocabulary);
}

static void test_our_own_vocabularies_are_taken_as_they_are(void **state)
{
    (void)state;
    static const char own[] = "{\"level\": \"char\", \"tokens\": [\"<eos>\", \"A\", \"b\"], \"eos\": 0, \"pad\": null, "
                              "\"unknown\": null}";
    assert_tokens(read_json(own, (struct interop_wanted){.size = 3}, NULL), "<eos>|A|b");
    struct error err = {0};
    assert_null(read_json(own, (struct interop_wanted){.size = 4}, &err));
    assert_non_null(strstr(err.message, "3 tokens, but the network has 4"));
}

static void assert_refused(const char *text, uint32_t size, const char *part)
{
    struct error err = {0};
    assert_null(read_json(text, (struct interop_wanted){.size = size}, &err));
    assert_int_equal(err.code, ERROR_INVALID);
    if (!strstr(err.message, part)) fail_msg("%s: %s", text, err.message);
}

static void test_what_is_no_vocabulary_of_this_network_is_refused(void **state)
{
    (void)state;
    assert_refused("[\"a\", \"b\"]", 3, "2 tokens, but the network has 3: usually an id more is reserved for padding");
    assert_refused("[\"a\", \"b\"]", 9, "2 tokens, but the network has 9: it does not belong");
    assert_refused("[\"a\", \"b\", \"c\"]", 2, "3 tokens, but the network has 2: usually the last ids");
    assert_refused("[\"a\", \"a\"]", 2, "came before");
    assert_refused("[\"a\", 1]", 2, "item 1 of the list of tokens is not a string");
    assert_refused("{\"a\": 0, \"b\": 0}", 2, "two tokens have the id 0");
    assert_refused("{\"a\": 0, \"b\": 2}", 3, "no token has the id 1");
    assert_refused("{\"a\": -1}", 1, "id -1");
    assert_refused("{\"a\": 1099511627776}", 1, "id 1099511627776");
    assert_refused("{\"a\": \"b\"}", 1, "a map must be from tokens to ids");
    assert_refused("true", 1, "neither a list of tokens");
    assert_refused("[\"a\", \"\"]", 2, "empty");
    assert_refused(TOKENIZER("\"lower\": true", "[]"), 2, "has no word_index");
    assert_refused(TOKENIZER("\"lower\": true", "{\\\"a\\\": 0}"), 2, "does not have an id from 1");
}

static void test_files_have_json_or_a_token_per_line(void **state)
{
    (void)state;
    char *directory = temp_dir_new();
    static const struct {
        const char *text, *tokens;
        uint32_t size;
    } cases[] = {{"b\n\n\n a\n\\t\n \n", "b|\n| a|\t| ", 5},
                 {"{\n}\n[\n", "{|}|[", 3},
                 {"[\"x\", \"y\"]", "x|y", 2},
                 {"the\r\nend\r\n", "the|end", 2},
                 {"\n\na\n", "\n|a", 2},
                 {"a\nb", "a|b", 2},
                 {"\xEF\xBB\xBF[\"x\", \"y\"]", "x|y", 2},
                 {"\xEF\xBB\xBF"
                  "the\nend\n",
                  "the|end", 2}};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct error err = {0};
        write_text(in_dir(directory, "v"), cases[i].text);
        struct vocabulary *vocabulary =
            interop_vocabulary_from_file(in_dir(directory, "v"), &(struct interop_wanted){.size = cases[i].size}, &err);
        if (!vocabulary) fail_msg("%s", err.message);
        assert_tokens(vocabulary, cases[i].tokens);
    }
    temp_dir_remove(directory);
}

static void test_broken_json_is_said_to_be(void **state)
{
    (void)state;
    char *directory = temp_dir_new();
    struct error err = {0};
    write_text(in_dir(directory, "v"), "{\"a\": 0,\n \"b\"");
    assert_null(interop_vocabulary_from_file(in_dir(directory, "v"), &(struct interop_wanted){.size = 9}, &err));
    assert_non_null(strstr(err.message, "as JSON it is wrong at line 2"));
    assert_non_null(strstr(err.message, "2 tokens, but the network has 9"));
    temp_dir_remove(directory);
}

static void test_texts_are_counted_again(void **state)
{
    (void)state;
    char *directory = temp_dir_new();
    const char *path = in_dir(directory, "text");
    write_text(path, "b\xC3\xA9"
                     "A a\r\nb b");
    const struct interop_wanted six = {.size = 6}, seven = {.size = 7};
    assert_tokens(interop_vocabulary_from_text(path, INTEROP_ORDER_SORTED, false, &six, NULL), "\n| |A|a|b|\xC3\xA9");
    assert_tokens(interop_vocabulary_from_text(path, INTEROP_ORDER_FREQUENCY, false, &seven, NULL),
                  "<pad>|b| |\xC3\xA9|A|a|\n");
    assert_tokens(interop_vocabulary_from_text(path, INTEROP_ORDER_FREQUENCY, true, &six, NULL),
                  "<pad>|b|a| |\xC3\xA9|\n");
    const struct interop_wanted words = {.size = 3, .level = INTEROP_LEVEL_WORD};
    assert_tokens(interop_vocabulary_from_text(path, INTEROP_ORDER_SORTED, true, &words, NULL), "a|b|b\xC3\xA9"
                                                                                                "a");
    struct error err = {0};
    assert_null(interop_vocabulary_from_text(path, INTEROP_ORDER_SORTED, false, &seven, &err));
    assert_non_null(strstr(err.message, "6 tokens, but the network has 7"));
    error_clear(&err);
    assert_null(interop_vocabulary_from_text(in_dir(directory, "none"), INTEROP_ORDER_SORTED, false, &six, &err));
    assert_int_equal(err.code, ERROR_NOT_FOUND);
    temp_dir_remove(directory);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_lists_and_maps_in_either_direction),
        cmocka_unit_test(test_digits_are_tokens_where_values_are_ids),
        cmocka_unit_test(test_a_map_from_one_reserves_id_zero),
        cmocka_unit_test(test_tokens_with_a_meaning_are_known_by_name),
        cmocka_unit_test(test_words_are_lowered_and_filtered_as_their_tokens_are),
        cmocka_unit_test(test_keras_tokenizers),
        cmocka_unit_test(test_our_own_vocabularies_are_taken_as_they_are),
        cmocka_unit_test(test_what_is_no_vocabulary_of_this_network_is_refused),
        cmocka_unit_test(test_files_have_json_or_a_token_per_line),
        cmocka_unit_test(test_broken_json_is_said_to_be),
        cmocka_unit_test(test_texts_are_counted_again),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
