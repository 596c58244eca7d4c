/* model/text/vocabulary.h, level word. */
#include "tests/unit/text/vocabulary_support.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tests/unit/support.h"

static void test_vocabulary_words_split_like_the_keras_tokenizer(void **state)
{
    (void)state;
    struct vocabulary *v = build_vocabulary(of_words, "The cat, the dog; it's <the> end.\n\tÉté\rx  cat");
    /* as in Keras, neither \r nor the apostrophe is a filter */
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
    struct vocabulary *v = build_vocabulary(options, "The the The");
    assert_tokens(v, "<eos>|The|the");
    vocabulary_free(v);
}

static void test_vocabulary_words_use_other_filters(void **state)
{
    (void)state;
    struct vocabulary_options options = {.level = TOKEN_LEVEL_WORD, .filters = "—x"};
    struct vocabulary *v = build_vocabulary(options, "a—b, axb,");
    assert_tokens(v, "<eos>|a|b,");
    vocabulary_free(v);
    options.filters = "";
    v = build_vocabulary(options, "a.b <eos> a.b");
    assert_tokens(v, "<eos>|a.b|<eos>"); /* the word is not the special token */
    assert_encodes_all(v, "<eos> a.b", "2 1");
    vocabulary_free(v);
    options.filters = "a\xff";
    assert_vocabulary_build_fails(options, "a b", ERROR_INVALID, "filters");
}

static void test_vocabulary_words_say_where_the_unknown_stand(void **state)
{
    (void)state;
    struct vocabulary *v = build_vocabulary(of_words, "cat dog");
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
    struct vocabulary *v = build_vocabulary(of_words, "cat dog");
    assert_characters(v, "cat dog", 7);
    assert_characters(v, "cat ÉTÉ, dog.", 9); /* cat, dog. */
    assert_characters(v, "cat dog bird bird", 7);
    assert_characters(v, "bird, bird cat dog", 7);
    assert_characters(v, "bird bird.\n", 0);
    assert_characters(v, " \n ", 0);
    assert_characters(v, "  cat", 5);
    vocabulary_free(v);
    struct vocabulary_options options = of_words;
    options.unknown = true;
    v = build_vocabulary(options, "cat dog");
    assert_characters(v, "cat bird", 8); /* <unk> stands for it */
    vocabulary_free(v);
    v = build_vocabulary((struct vocabulary_options){.level = TOKEN_LEVEL_CHAR, .lower = true}, "ABI");
    assert_characters(v, "ab\u00e9i", 3);
    assert_characters(v, "\u0130", 1); /* its dot is not known, its letter is */
    vocabulary_free(v);
    v = build_vocabulary((struct vocabulary_options){.level = TOKEN_LEVEL_BYTE}, "ab");
    assert_characters(v, "a\u00e9", 1);
    vocabulary_free(v);
}

static void test_vocabulary_words_are_joined_by_spaces(void **state)
{
    (void)state;
    struct vocabulary *v = build_vocabulary(of_words, "a cat sat");
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
    struct vocabulary *v = build_vocabulary_bytes(&of_words, text, n);
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
    struct vocabulary *v = build_vocabulary_bytes(&of_words, text, n);
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
    struct vocabulary *v = build_vocabulary(of_words, "aeau mzjt blmz zcld pjmn");
    assert_int_equal(vocabulary_size(v), 6);
    assert_encodes_all(v, "mzjt aeau zcld blmz", "2 1 4 3");
    struct unknown_list unknown = assert_encodes(v, "trul pjmn", "5");
    assert_int_equal(unknown.total, 1);
    unknown_list_free(&unknown);
    vocabulary_free(v);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_vocabulary_words_split_like_the_keras_tokenizer),
        cmocka_unit_test(test_vocabulary_words_keep_case_unless_asked),
        cmocka_unit_test(test_vocabulary_words_use_other_filters),
        cmocka_unit_test(test_vocabulary_words_say_where_the_unknown_stand),
        cmocka_unit_test(test_vocabulary_counts_no_characters_of_skipped_words),
        cmocka_unit_test(test_vocabulary_words_are_joined_by_spaces),
        cmocka_unit_test(test_vocabulary_takes_a_word_of_a_megabyte),
        cmocka_unit_test(test_vocabulary_finds_each_of_many_words),
        cmocka_unit_test(test_vocabulary_tells_words_of_equal_hash_apart),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
