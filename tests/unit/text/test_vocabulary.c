#include "model/text/vocabulary.h"

#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tests/unit/support.h"

/* ---- helpers ---- */

static struct vocabulary *build_bytes(const struct vocabulary_options *options, const char *text, size_t n)
{
    struct error err = {0};
    struct vocabulary_builder *builder = vocabulary_builder_new(options, &err);
    assert_non_null(builder);
    assert_true(vocabulary_builder_add(builder, text, n, &err));
    struct vocabulary *vocabulary = vocabulary_builder_finish(builder, &err);
    assert_string_equal(err.message, "");
    assert_non_null(vocabulary);
    return vocabulary;
}

static struct vocabulary *build(struct vocabulary_options options, const char *text)
{
    return build_bytes(&options, text, strlen(text));
}

static struct vocabulary *read_json(const char *json)
{
    struct error err = {0};
    struct vocabulary *vocabulary = vocabulary_from_json(json, strlen(json), "vocabulary.json", &err);
    assert_string_equal(err.message, "");
    assert_non_null(vocabulary);
    return vocabulary;
}

/* "id:text id:text ..." of all tokens. */
static void assert_tokens(const struct vocabulary *vocabulary, const char *expected)
{
    char all[1024] = "";
    for (uint32_t id = 0; id < vocabulary_size(vocabulary); id++) {
        size_t n, used = strlen(all);
        const char *text = vocabulary_token(vocabulary, id, &n);
        assert_int_equal(text[n], '\0');
        snprintf(all + used, sizeof all - used, "%s%s", id ? "|" : "", text);
    }
    assert_string_equal(all, expected);
}

struct encoded {
    struct token_list ids;
    struct unknown_list unknown;
};

static struct encoded encode_bytes(const struct vocabulary *vocabulary, const char *text, size_t n)
{
    struct encoded encoded = {0};
    struct error err = {0};
    assert_true(vocabulary_encode(vocabulary, text, n, &encoded.ids, &encoded.unknown, 4, &err));
    return encoded;
}

static void encoded_free(struct encoded *encoded)
{
    token_list_free(&encoded->ids);
    unknown_list_free(&encoded->unknown);
}

/* Encodes and compares with "1 2 3"; returns what was skipped, to be freed. */
static struct unknown_list assert_encodes(const struct vocabulary *vocabulary, const char *text, const char *expected)
{
    struct encoded encoded = encode_bytes(vocabulary, text, strlen(text));
    char all[1024] = "";
    for (size_t i = 0; i < encoded.ids.count; i++) {
        size_t used = strlen(all);
        snprintf(all + used, sizeof all - used, "%s%u", i ? " " : "", (unsigned)encoded.ids.ids[i]);
    }
    assert_string_equal(all, expected);
    token_list_free(&encoded.ids);
    return encoded.unknown;
}

static void assert_encodes_all(const struct vocabulary *vocabulary, const char *text, const char *expected)
{
    struct unknown_list unknown = assert_encodes(vocabulary, text, expected);
    assert_int_equal(unknown.total, 0);
    unknown_list_free(&unknown);
}

/* The whole text of the ids, as a generation would print it. */
static void assert_decodes(const struct vocabulary *vocabulary, const uint32_t *ids, size_t count, const char *expected)
{
    char all[256];
    size_t n = 0;
    for (size_t i = 0; i < count; i++) n += vocabulary_decode(vocabulary, ids[i], n == 0, all + n);
    all[n] = '\0';
    assert_string_equal(all, expected);
}

static void assert_build_fails(struct vocabulary_options options, const char *text, enum error_code code,
                               const char *part)
{
    struct error err = {0};
    struct vocabulary_builder *builder = vocabulary_builder_new(&options, &err);
    if (builder && vocabulary_builder_add(builder, text, strlen(text), &err)) {
        assert_null(vocabulary_builder_finish(builder, &err));
        builder = NULL;
    }
    vocabulary_builder_free(builder);
    assert_int_equal(err.code, code);
    if (!strstr(err.message, part)) fail_msg("\"%s\" does not say \"%s\"", err.message, part);
}

static const struct vocabulary_options characters = {.level = TOKEN_LEVEL_CHAR};
static const struct vocabulary_options bytes = {.level = TOKEN_LEVEL_BYTE};
static const struct vocabulary_options words = {.level = TOKEN_LEVEL_WORD, .lower = true};

/* ---- levels ---- */

static void test_vocabulary_levels_have_names(void **state)
{
    (void)state;
    enum token_level level;
    for (int i = 0; i < 3; i++) {
        assert_true(token_level_parse(token_level_name((enum token_level)i), &level));
        assert_int_equal(level, i);
    }
    assert_false(token_level_parse("letters", &level));
    assert_false(token_level_parse("", &level));
}

/* ---- characters ---- */

static void test_vocabulary_orders_by_count_then_first_appearance(void **state)
{
    (void)state;
    struct vocabulary *v = build(characters, "zyxyxaA");
    assert_tokens(v, "<eos>|y|x|z|a|A");
    assert_int_equal(vocabulary_eos(v), 0);
    assert_int_equal(vocabulary_pad(v), TOKEN_NONE);
    assert_int_equal(vocabulary_unknown(v), TOKEN_NONE);
    assert_int_equal(vocabulary_level(v), TOKEN_LEVEL_CHAR);
    assert_int_equal(vocabulary_label_count(v), 0);
    vocabulary_free(v);
}

static void test_vocabulary_counts_over_all_documents(void **state)
{
    (void)state;
    struct error err = {0};
    struct vocabulary_builder *builder = vocabulary_builder_new(&characters, &err);
    assert_true(vocabulary_builder_add(builder, "ab", 2, &err));
    assert_true(vocabulary_builder_add(builder, "", 0, &err));
    assert_true(vocabulary_builder_add(builder, "cb", 2, &err));
    struct vocabulary *v = vocabulary_builder_finish(builder, &err);
    assert_tokens(v, "<eos>|b|a|c");
    vocabulary_free(v);
}

static void test_vocabulary_characters_of_every_length_round_trip(void **state)
{
    (void)state;
    const char *text = "aé中😀\U0010FFFF";
    struct vocabulary *v = build(characters, text);
    assert_int_equal(vocabulary_size(v), 6);
    assert_int_equal(vocabulary_max_token_bytes(v), 4);
    assert_encodes_all(v, text, "1 2 3 4 5");
    assert_decodes(v, (const uint32_t[]){1, 2, 3, 4, 5}, 5, text);
    vocabulary_free(v);
}

static void test_vocabulary_character_eos_is_not_found_in_text(void **state)
{
    (void)state;
    struct vocabulary *v = build(characters, "<eos>");
    assert_tokens(v, "<eos>|<|e|o|s|>");
    assert_encodes_all(v, "<eos>", "1 2 3 4 5");
    vocabulary_free(v);
}

static void test_vocabulary_skips_characters_it_lacks_and_says_where(void **state)
{
    (void)state;
    struct vocabulary *v = build(characters, "ab");
    struct unknown_list unknown = assert_encodes(v, "aXé中bb", "1 2 2");
    assert_int_equal(unknown.total, 3);
    assert_int_equal(unknown.count, 3);
    assert_int_equal(unknown.items[0].offset, 1);
    assert_int_equal(unknown.items[0].length, 1);
    assert_int_equal(unknown.items[1].offset, 2);
    assert_int_equal(unknown.items[1].length, 2);
    assert_int_equal(unknown.items[2].offset, 4);
    assert_int_equal(unknown.items[2].length, 3);
    unknown_list_free(&unknown);
    unknown = assert_encodes(v, "XXXXXXa", "1"); /* at most 4 are noted, all are counted */
    assert_int_equal(unknown.count, 4);
    assert_int_equal(unknown.total, 6);
    unknown_list_free(&unknown);
    struct token_list ids = {0};
    assert_true(vocabulary_encode(v, "Xa", 2, &ids, NULL, 0, NULL));
    assert_int_equal(ids.count, 1);
    token_list_free(&ids);
    vocabulary_free(v);
}

static void test_vocabulary_unknown_token_stands_for_what_is_lacking(void **state)
{
    (void)state;
    struct vocabulary_options options = characters;
    options.unknown = true;
    struct vocabulary *v = build(options, "aab");
    assert_tokens(v, "<eos>|<unk>|a|b");
    assert_int_equal(vocabulary_unknown(v), 1);
    assert_encodes_all(v, "aéb", "2 1 3");
    vocabulary_free(v);
}

static void test_vocabulary_nul_is_a_character(void **state)
{
    (void)state;
    struct vocabulary *v = build_bytes(&characters, "a\0b\0", 4);
    assert_int_equal(vocabulary_size(v), 4);
    size_t n;
    const char *text = vocabulary_token(v, 1, &n);
    assert_int_equal(n, 1);
    assert_memory_equal(text, "\0", 2);
    struct encoded encoded = encode_bytes(v, "b\0a", 3);
    assert_int_equal(encoded.ids.count, 3);
    assert_int_equal(encoded.ids.ids[1], 1);
    encoded_free(&encoded);
    vocabulary_free(v);
}

static void test_vocabulary_lower_cases_characters_where_asked(void **state)
{
    (void)state;
    struct vocabulary_options options = characters;
    options.lower = true;
    struct vocabulary *v = build(options, "aAÉéZ");
    assert_tokens(v, "<eos>|a|é|z");
    assert_encodes_all(v, "ÉAz", "2 1 3");
    vocabulary_free(v);
}

static void test_vocabulary_refuses_invalid_utf8_with_its_offset(void **state)
{
    (void)state;
    assert_build_fails(characters, "abc\xff", ERROR_INVALID, "byte offset 3");
    assert_build_fails(words, "abc \xc3", ERROR_INVALID, "byte offset 4");
    struct vocabulary *v = build(characters, "ab"), *w = build(words, "ab cd");
    struct token_list ids = {0};
    struct error err = {0};
    assert_false(vocabulary_encode(v, "ab\xc3(", 4, &ids, NULL, 0, &err));
    assert_int_equal(err.code, ERROR_INVALID);
    assert_non_null(strstr(err.message, "byte offset 2"));
    error_clear(&err);
    assert_false(vocabulary_encode(w, "ab \xed\xa0\x80", 6, &ids, NULL, 0, &err));
    assert_non_null(strstr(err.message, "byte offset 3"));
    token_list_free(&ids);
    vocabulary_free(v);
    vocabulary_free(w);
}

static void test_vocabulary_needs_two_different_tokens(void **state)
{
    (void)state;
    assert_build_fails(characters, "", ERROR_INVALID, "at least 2 different characters");
    assert_build_fails(characters, "aaaa", ERROR_INVALID, "at least 2 different characters");
    assert_build_fails(bytes, "aaaa", ERROR_INVALID, "at least 2 different");
    assert_build_fails(words, "the THE, the.", ERROR_INVALID, "at least 2 different words");
}

/* ---- bytes ---- */

static void test_vocabulary_bytes_round_trip_all_256(void **state)
{
    (void)state;
    char all[256];
    for (int i = 0; i < 256; i++) all[i] = (char)(255 - i);
    struct vocabulary *v = build_bytes(&bytes, all, sizeof all);
    assert_int_equal(vocabulary_size(v), 257);
    struct encoded encoded = encode_bytes(v, all, sizeof all);
    assert_int_equal(encoded.ids.count, 256);
    for (size_t i = 0; i < 256; i++) {
        size_t n;
        char out[2];
        assert_int_equal(encoded.ids.ids[i], i + 1);
        assert_memory_equal(vocabulary_token(v, (uint32_t)i + 1, &n), &all[i], 1);
        assert_int_equal(n, 1);
        assert_int_equal(vocabulary_decode(v, (uint32_t)i + 1, false, out), 1);
        assert_int_equal(out[0], all[i]);
    }
    encoded_free(&encoded);
    vocabulary_free(v);
}

static void test_vocabulary_skips_bytes_it_lacks(void **state)
{
    (void)state;
    struct vocabulary *v = build(bytes, "a\xff");
    struct unknown_list unknown = assert_encodes(v,
                                                 "\xff\xfe"
                                                 "a",
                                                 "2 1");
    assert_int_equal(unknown.total, 1);
    assert_int_equal(unknown.items[0].offset, 1);
    unknown_list_free(&unknown);
    vocabulary_free(v);
}

/* ---- words ---- */

static void test_vocabulary_words_split_like_the_keras_tokenizer(void **state)
{
    (void)state;
    struct vocabulary *v = build(words, "The cat, the dog; it's <the> end.\n\tÉté\rx  cat");
    /* \r is not among the filters and the apostrophe is not either, as in Keras */
    assert_tokens(v, "<eos>|the|cat|dog|it's|end|été\rx");
    assert_encodes_all(v, "THE--End!  dog", "1 5 3");
    assert_encodes_all(v, " ,. ", "");
    assert_encodes_all(v, "", "");
    vocabulary_free(v);
}

static void test_vocabulary_words_keep_case_unless_asked(void **state)
{
    (void)state;
    struct vocabulary_options options = {.level = TOKEN_LEVEL_WORD};
    struct vocabulary *v = build(options, "The the The");
    assert_tokens(v, "<eos>|The|the");
    vocabulary_free(v);
}

static void test_vocabulary_words_use_other_filters(void **state)
{
    (void)state;
    struct vocabulary_options options = {.level = TOKEN_LEVEL_WORD, .filters = "—x"};
    struct vocabulary *v = build(options, "a—b, axb,");
    assert_tokens(v, "<eos>|a|b,");
    vocabulary_free(v);
    options.filters = "";
    v = build(options, "a.b <eos> a.b");
    assert_tokens(v, "<eos>|a.b|<eos>"); /* the word is not the special token */
    assert_encodes_all(v, "<eos> a.b", "2 1");
    vocabulary_free(v);
    options.filters = "a\xff";
    assert_build_fails(options, "a b", ERROR_INVALID, "filters");
}

static void test_vocabulary_words_say_where_the_unknown_stand(void **state)
{
    (void)state;
    struct vocabulary *v = build(words, "cat dog");
    struct unknown_list unknown = assert_encodes(v, "Cat ÉTÉ, dog BIRD", "1 2");
    assert_int_equal(unknown.total, 2);
    assert_int_equal(unknown.items[0].offset, 4);
    assert_int_equal(unknown.items[0].length, 5);
    assert_int_equal(unknown.items[1].offset, 15);
    assert_int_equal(unknown.items[1].length, 4);
    unknown_list_free(&unknown);
    vocabulary_free(v);
}

/* Characters that the ids of a text stand for. */
static void assert_characters(const struct vocabulary *vocabulary, const char *text, size_t expected)
{
    struct encoded encoded = encode_bytes(vocabulary, text, strlen(text));
    assert_int_equal(vocabulary_encoded_characters(text, strlen(text), &encoded.unknown), expected);
    encoded_free(&encoded);
}

static void test_vocabulary_counts_no_characters_of_skipped_words(void **state)
{
    (void)state;
    struct vocabulary *v = build(words, "cat dog");
    assert_characters(v, "cat dog", 7);
    assert_characters(v, "cat ÉTÉ, dog.", 9); /* cat, dog. */
    assert_characters(v, "cat dog bird bird", 7);
    assert_characters(v, "bird, bird cat dog", 7);
    assert_characters(v, "bird bird.\n", 0);
    assert_characters(v, " \n ", 0);
    assert_characters(v, "  cat", 5);
    vocabulary_free(v);
    struct vocabulary_options options = words;
    options.unknown = true;
    v = build(options, "cat dog");
    assert_characters(v, "cat bird", 8); /* <unk> stands for it */
    vocabulary_free(v);
    v = build((struct vocabulary_options){.level = TOKEN_LEVEL_CHAR, .lower = true}, "ABI");
    assert_characters(v, "ab\u00e9i", 3);
    assert_characters(v, "\u0130", 1); /* its dot is not known, its letter is */
    vocabulary_free(v);
    v = build((struct vocabulary_options){.level = TOKEN_LEVEL_BYTE}, "ab");
    assert_characters(v, "a\u00e9", 1);
    vocabulary_free(v);
}

static void test_vocabulary_words_are_joined_by_spaces(void **state)
{
    (void)state;
    struct vocabulary *v = build(words, "a cat sat");
    assert_decodes(v, (const uint32_t[]){0, 1, 2, 0, 3}, 5, "a cat sat");
    assert_int_equal(vocabulary_max_token_bytes(v), 3);
    vocabulary_free(v);
}

static void test_vocabulary_takes_a_word_of_a_megabyte(void **state)
{
    (void)state;
    size_t n = 1u << 20;
    char *text = malloc(n);
    memset(text, 'Q', n);
    memcpy(text, "ab ", 3);
    struct vocabulary *v = build_bytes(&words, text, n);
    assert_int_equal(vocabulary_size(v), 3);
    assert_int_equal(vocabulary_max_token_bytes(v), n - 3);
    struct encoded encoded = encode_bytes(v, text, n);
    assert_int_equal(encoded.ids.count, 2);
    encoded_free(&encoded);
    vocabulary_free(v);
    free(text);
}

/* Enough words for the index to grow many times. */
static void test_vocabulary_finds_each_of_many_words(void **state)
{
    (void)state;
    enum { COUNT = 20000 };
    char *text = malloc(COUNT * 8);
    size_t n = 0;
    for (int i = 0; i < COUNT; i++) n += (size_t)sprintf(text + n, "w%d ", i);
    struct vocabulary *v = build_bytes(&words, text, n);
    assert_int_equal(vocabulary_size(v), COUNT + 1);
    struct encoded encoded = encode_bytes(v, text, n);
    assert_int_equal(encoded.ids.count, COUNT);
    for (uint32_t i = 0; i < COUNT; i++) assert_int_equal(encoded.ids.ids[i], i + 1);
    encoded_free(&encoded);
    vocabulary_free(v);
    free(text);
}

/* Pairs with the same 32-bit hash, found by search. */
static void test_vocabulary_tells_words_of_equal_hash_apart(void **state)
{
    (void)state;
    struct vocabulary *v = build(words, "aeau mzjt blmz zcld pjmn");
    assert_int_equal(vocabulary_size(v), 6);
    assert_encodes_all(v, "mzjt aeau zcld blmz", "2 1 4 3");
    struct unknown_list unknown = assert_encodes(v, "trul pjmn", "5");
    assert_int_equal(unknown.total, 1);
    unknown_list_free(&unknown);
    vocabulary_free(v);
}

/* ---- limits ---- */

static void test_vocabulary_minimum_count_leaves_the_rare_out(void **state)
{
    (void)state;
    struct vocabulary_options options = characters;
    options.min_count = 2;
    struct vocabulary *v = build(options, "aabbbc");
    assert_tokens(v, "<eos>|<unk>|b|a");
    vocabulary_free(v);
    v = build(options, "aabb");
    assert_tokens(v, "<eos>|a|b"); /* nothing left out, no <unk> */
    vocabulary_free(v);
    options.min_count = 9;
    assert_build_fails(options, "aabbb", ERROR_INVALID, "the most frequent has 3");
}

static void test_vocabulary_maximum_counts_specials(void **state)
{
    (void)state;
    struct vocabulary_options options = characters;
    options.max_tokens = 4;
    struct vocabulary *v = build(options, "abcdab");
    assert_tokens(v, "<eos>|<unk>|a|b");
    vocabulary_free(v);
    v = build(options, "abc");
    assert_tokens(v, "<eos>|a|b|c");
    vocabulary_free(v);
    options.max_tokens = 2;
    assert_build_fails(options, "abcd", ERROR_INVALID, "no room for text");
    options.max_tokens = VOCABULARY_MAX_TOKENS + 1;
    assert_build_fails(options, "abcd", ERROR_TOO_LARGE, "at most 1000000");
}

static void test_vocabulary_refuses_lower_case_bytes(void **state)
{
    (void)state;
    assert_build_fails((struct vocabulary_options){.level = TOKEN_LEVEL_BYTE, .lower = true}, "ab", ERROR_INVALID,
                       "bytes cannot be lower-cased");
}

/* ---- labels ---- */

static struct vocabulary *build_labelled(void)
{
    struct error err = {0};
    struct vocabulary_builder *builder = vocabulary_builder_new(&characters, &err);
    assert_true(vocabulary_builder_add_label(builder, "sport", &err));
    assert_true(vocabulary_builder_add(builder, "aab1", 4, &err));
    assert_true(vocabulary_builder_add_label(builder, "1", &err));
    assert_true(vocabulary_builder_add_label(builder, "sport", &err));
    return vocabulary_builder_finish(builder, &err);
}

static void test_vocabulary_labels_come_last_and_are_not_text(void **state)
{
    (void)state;
    struct vocabulary *v = build_labelled();
    assert_tokens(v, "<eos>|a|b|1|sport|1");
    assert_int_equal(vocabulary_label_count(v), 2);
    assert_int_equal(vocabulary_label(v, 0), 4);
    assert_int_equal(vocabulary_label(v, 1), 5);
    assert_int_equal(vocabulary_find_label(v, "1"), 5);
    assert_int_equal(vocabulary_find_label(v, "sport"), 4);
    assert_int_equal(vocabulary_find_label(v, "a"), TOKEN_NONE);
    assert_int_equal(vocabulary_find_label(v, ""), TOKEN_NONE);
    assert_encodes_all(v, "1ab", "3 1 2");
    vocabulary_free(v);
}

static void test_vocabulary_special_tokens_give_no_text(void **state)
{
    (void)state;
    struct vocabulary *v = build_labelled();
    static const bool special[] = {true, false, false, false, true, true};
    char out[8];
    for (uint32_t id = 0; id < 6; id++) {
        assert_int_equal(vocabulary_is_special(v, id), special[id]);
        assert_int_equal(vocabulary_decode(v, id, true, out), special[id] ? 0 : 1);
    }
    vocabulary_free(v);
}

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

/* Writes, reads, writes again: the same bytes. Frees the vocabulary and returns the one read. */
static struct vocabulary *round_trip(struct vocabulary *vocabulary)
{
    char *first = to_json(vocabulary);
    struct vocabulary *copy = read_json(first);
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
    struct vocabulary *v = build(characters, "  e\"é");
    assert_json(v, "{\"level\": \"char\", \"tokens\": [\"<eos>\", \" \", \"e\", \"\\\"\", \"é\"], \"eos\": 0, "
                   "\"pad\": null, \"unknown\": null}\n");
    vocabulary_free(v);
    v = build((struct vocabulary_options){.level = TOKEN_LEVEL_WORD, .filters = ",", .unknown = true}, "a, b");
    assert_json(v, "{\"level\": \"word\", \"lower\": false, \"filters\": \",\", \"tokens\": [\"<eos>\", \"<unk>\", "
                   "\"a\", \"b\"], \"eos\": 0, \"pad\": null, \"unknown\": 1}\n");
    vocabulary_free(v);
    v = build(bytes, "a\xe9");
    assert_json(v, "{\"level\": \"byte\", \"tokens\": [\"<eos>\", \"a\", \"é\"], \"eos\": 0, \"pad\": null, "
                   "\"unknown\": null}\n");
    vocabulary_free(v);
    v = build_labelled();
    assert_json(v, "{\"level\": \"char\", \"tokens\": [\"<eos>\", \"a\", \"b\", \"1\", \"sport\", \"1\"], \"eos\": 0, "
                   "\"pad\": null, \"unknown\": null, \"labels\": [4, 5]}\n");
    vocabulary_free(v);
}

static void test_vocabulary_json_round_trip_keeps_characters(void **state)
{
    (void)state;
    struct vocabulary *v = round_trip(build_bytes(&characters, "a\0\n\x7f é中😀", 14));
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
    struct vocabulary *v = round_trip(build_bytes(&bytes, all, sizeof all));
    struct encoded encoded = encode_bytes(v, all, sizeof all);
    for (size_t i = 0; i < 256; i++) assert_int_equal(encoded.ids.ids[i], i + 1);
    encoded_free(&encoded);
    vocabulary_free(v);
}

static void test_vocabulary_json_round_trip_keeps_word_rules(void **state)
{
    (void)state;
    struct vocabulary_options options = words;
    options.filters = "é\n\\\"";
    struct vocabulary *v = round_trip(build(options, "Aéb C.\nD"));
    assert_encodes_all(v, "a\"B\\c.", "1 2 3");
    vocabulary_free(v);
}

static void test_vocabulary_json_round_trip_keeps_labels_and_lower(void **state)
{
    (void)state;
    struct vocabulary *v = round_trip(build_labelled());
    assert_int_equal(vocabulary_find_label(v, "sport"), 4);
    vocabulary_free(v);
    v = round_trip(build((struct vocabulary_options){.level = TOKEN_LEVEL_CHAR, .lower = true}, "AB"));
    assert_encodes_all(v, "bA", "2 1");
    vocabulary_free(v);
}

/* An imported model: pad at 0, no end token, and an end token that is a character. */
static void test_vocabulary_json_takes_imported_vocabularies(void **state)
{
    (void)state;
    struct vocabulary *v =
        read_json("{\"level\":\"char\",\"tokens\":[\"\",\"a\",\"$\"],\"eos\":2,\"pad\":0,\"unknown\":null}");
    assert_int_equal(vocabulary_eos(v), 2);
    assert_int_equal(vocabulary_start(v), 2);
    assert_int_equal(vocabulary_pad(v), 0);
    struct unknown_list unknown = assert_encodes(v, "a$", "1");
    assert_int_equal(unknown.total, 1);
    unknown_list_free(&unknown);
    vocabulary_free(v);
    v = read_json("{\"level\":\"char\",\"tokens\":[\"a\",\"b\"],\"eos\":null,\"pad\":null,\"unknown\":null}");
    assert_int_equal(vocabulary_eos(v), TOKEN_NONE);
    assert_int_equal(vocabulary_start(v), TOKEN_NONE);
    vocabulary_free(v);
    v = round_trip(
        read_json("{\"level\":\"char\",\"tokens\":[\"\",\"a\",\"$\"],\"eos\":2,\"eos_starts\":false,\"pad\":0,"
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

static bool build_write_read_encode(void *context, struct error *err)
{
    const struct vocabulary_options *options = context;
    static const char text[] =
        "One two Three four é 中 😀 1 2 3 4 5 6 7 8 9 a b c d e f g h i j k l m n o p q r s t u v w x y z "
        "0a 1b 2c 3d 4e 5f 6g 7h 8i 9j Aa Bb Cc Dd Ee Ff Gg Hh Ii Jj Kk Ll Mm Nn Oo Pp Qq Rr Ss Tt Uu";
    struct token_list ids = {0};
    struct unknown_list unknown = {0};
    struct vocabulary *first = NULL, *second = NULL;
    char *json = NULL;
    size_t n;
    struct vocabulary_builder *builder = vocabulary_builder_new(options, err);
    bool ok = builder && vocabulary_builder_add(builder, text, sizeof text - 1, err) &&
              vocabulary_builder_add_label(builder, "label", err);
    if (ok)
        ok = (first = vocabulary_builder_finish(builder, err)) && (json = vocabulary_to_json(first, &n, err)) &&
             (second = vocabulary_from_json(json, n, "v", err)) &&
             vocabulary_encode(second, text, sizeof text - 1, &ids, NULL, 0, err) &&
             vocabulary_encode(second, "ß ?", 4, &ids, &unknown, 9, err);
    else
        vocabulary_builder_free(builder);
    token_list_free(&ids);
    unknown_list_free(&unknown);
    free(json);
    vocabulary_free(first);
    vocabulary_free(second);
    return ok;
}

static void test_vocabulary_survives_every_failing_allocation(void **state)
{
    (void)state;
    for (int level = 0; level < 3; level++) {
        struct vocabulary_options options = {.level = (enum token_level)level, .lower = level == TOKEN_LEVEL_WORD};
        assert_survives_failing_allocations(build_write_read_encode, &options);
    }
}

static size_t json_countdown; /* of jansson's allocations, until the one that fails; 0: none */

static void *json_malloc(size_t size)
{
    return json_countdown > 0 && --json_countdown == 0 ? NULL : malloc(size);
}

/* jansson does not always say that memory ran out, so any error will do for reading. */
static void test_vocabulary_survives_failures_inside_jansson(void **state)
{
    (void)state;
    struct vocabulary *v = build_labelled(), *copy = NULL;
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
    }
    json_countdown = 0;
    json_set_alloc_funcs(malloc, free);
    vocabulary_free(copy);
    vocabulary_free(v);
    free(json);
}

static void test_token_list_grows_and_refuses_the_impossible(void **state)
{
    (void)state;
    struct token_list list = {0};
    struct error err = {0};
    for (uint32_t i = 0; i < 1000; i++) assert_true(token_list_append(&list, i, &err));
    assert_int_equal(list.count, 1000);
    assert_int_equal(list.ids[999], 999);
    assert_true(token_list_reserve(&list, 5000, &err));
    assert_true(list.capacity >= 6000);
    assert_false(token_list_reserve(&list, SIZE_MAX / 2, &err));
    assert_int_equal(err.code, ERROR_TOO_LARGE);
    error_clear(&err);
    assert_false(token_list_reserve(&list, SIZE_MAX, &err));
    assert_int_equal(err.code, ERROR_TOO_LARGE);
    assert_int_equal(list.ids[999], 999);
    token_list_free(&list);
    assert_int_equal(list.capacity, 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_vocabulary_levels_have_names),
        cmocka_unit_test(test_vocabulary_orders_by_count_then_first_appearance),
        cmocka_unit_test(test_vocabulary_counts_over_all_documents),
        cmocka_unit_test(test_vocabulary_characters_of_every_length_round_trip),
        cmocka_unit_test(test_vocabulary_character_eos_is_not_found_in_text),
        cmocka_unit_test(test_vocabulary_skips_characters_it_lacks_and_says_where),
        cmocka_unit_test(test_vocabulary_unknown_token_stands_for_what_is_lacking),
        cmocka_unit_test(test_vocabulary_nul_is_a_character),
        cmocka_unit_test(test_vocabulary_lower_cases_characters_where_asked),
        cmocka_unit_test(test_vocabulary_refuses_invalid_utf8_with_its_offset),
        cmocka_unit_test(test_vocabulary_needs_two_different_tokens),
        cmocka_unit_test(test_vocabulary_bytes_round_trip_all_256),
        cmocka_unit_test(test_vocabulary_skips_bytes_it_lacks),
        cmocka_unit_test(test_vocabulary_words_split_like_the_keras_tokenizer),
        cmocka_unit_test(test_vocabulary_words_keep_case_unless_asked),
        cmocka_unit_test(test_vocabulary_words_use_other_filters),
        cmocka_unit_test(test_vocabulary_words_say_where_the_unknown_stand),
        cmocka_unit_test(test_vocabulary_counts_no_characters_of_skipped_words),
        cmocka_unit_test(test_vocabulary_words_are_joined_by_spaces),
        cmocka_unit_test(test_vocabulary_takes_a_word_of_a_megabyte),
        cmocka_unit_test(test_vocabulary_finds_each_of_many_words),
        cmocka_unit_test(test_vocabulary_tells_words_of_equal_hash_apart),
        cmocka_unit_test(test_vocabulary_minimum_count_leaves_the_rare_out),
        cmocka_unit_test(test_vocabulary_maximum_counts_specials),
        cmocka_unit_test(test_vocabulary_refuses_lower_case_bytes),
        cmocka_unit_test(test_vocabulary_labels_come_last_and_are_not_text),
        cmocka_unit_test(test_vocabulary_special_tokens_give_no_text),
        cmocka_unit_test(test_vocabulary_json_is_as_the_format_says),
        cmocka_unit_test(test_vocabulary_json_round_trip_keeps_characters),
        cmocka_unit_test(test_vocabulary_json_round_trip_keeps_bytes),
        cmocka_unit_test(test_vocabulary_json_round_trip_keeps_word_rules),
        cmocka_unit_test(test_vocabulary_json_round_trip_keeps_labels_and_lower),
        cmocka_unit_test(test_vocabulary_json_takes_imported_vocabularies),
        cmocka_unit_test(test_vocabulary_json_refuses_what_is_wrong_and_names_it),
        cmocka_unit_test(test_vocabulary_survives_every_failing_allocation),
        cmocka_unit_test(test_vocabulary_survives_failures_inside_jansson),
        cmocka_unit_test(test_token_list_grows_and_refuses_the_impossible),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
