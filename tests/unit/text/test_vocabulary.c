/* model/text/vocabulary.h: characters, bytes, limits, labels. */
#include "tests/unit/text/vocabulary_support.h"

#include <stdlib.h>
#include <string.h>

#include "tests/unit/support.h"

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
    struct vocabulary *v = build_vocabulary(of_characters, "zyxyxaA");
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
    struct vocabulary_builder *builder = vocabulary_builder_new(&of_characters, &err);
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
    struct vocabulary *v = build_vocabulary(of_characters, text);
    assert_int_equal(vocabulary_size(v), 6);
    assert_int_equal(vocabulary_max_token_bytes(v), 4);
    assert_encodes_all(v, text, "1 2 3 4 5");
    assert_decodes(v, (const uint32_t[]){1, 2, 3, 4, 5}, 5, text);
    vocabulary_free(v);
}

static void test_vocabulary_character_eos_is_not_found_in_text(void **state)
{
    (void)state;
    struct vocabulary *v = build_vocabulary(of_characters, "<eos>");
    assert_tokens(v, "<eos>|<|e|o|s|>");
    assert_encodes_all(v, "<eos>", "1 2 3 4 5");
    vocabulary_free(v);
}

static void test_vocabulary_skips_characters_it_lacks_and_says_where(void **state)
{
    (void)state;
    struct vocabulary *v = build_vocabulary(of_characters, "ab");
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
    assert_true(vocabulary_encode(v, "Xa", 2, &ids, NULL, NULL));
    assert_int_equal(ids.count, 1);
    token_list_free(&ids);
    vocabulary_free(v);
}

static void test_vocabulary_unknown_token_stands_for_what_is_lacking(void **state)
{
    (void)state;
    struct vocabulary_options options = of_characters;
    options.unknown = true;
    struct vocabulary *v = build_vocabulary(options, "aab");
    assert_tokens(v, "<eos>|<unk>|a|b");
    assert_int_equal(vocabulary_unknown(v), 1);
    assert_encodes_all(v, "aéb", "2 1 3");
    vocabulary_free(v);
}

static void test_vocabulary_nul_is_a_character(void **state)
{
    (void)state;
    struct vocabulary *v = build_vocabulary_bytes(&of_characters, "a\0b\0", 4);
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
    struct vocabulary_options options = of_characters;
    options.lower = true;
    struct vocabulary *v = build_vocabulary(options, "aAÉéZ");
    assert_tokens(v, "<eos>|a|é|z");
    assert_encodes_all(v, "ÉAz", "2 1 3");
    vocabulary_free(v);
}

static void test_vocabulary_refuses_invalid_utf8_with_its_offset(void **state)
{
    (void)state;
    assert_vocabulary_build_fails(of_characters, "abc\xff", ERROR_INVALID, "byte offset 3");
    assert_vocabulary_build_fails(of_words, "abc \xc3", ERROR_INVALID, "byte offset 4");
    struct vocabulary *v = build_vocabulary(of_characters, "ab"), *w = build_vocabulary(of_words, "ab cd");
    struct token_list ids = {0};
    struct error err = {0};
    assert_false(vocabulary_encode(v, "ab\xc3(", 4, &ids, NULL, &err));
    assert_int_equal(err.code, ERROR_INVALID);
    assert_non_null(strstr(err.message, "byte offset 2"));
    error_clear(&err);
    assert_false(vocabulary_encode(w, "ab \xed\xa0\x80", 6, &ids, NULL, &err));
    assert_non_null(strstr(err.message, "byte offset 3"));
    token_list_free(&ids);
    vocabulary_free(v);
    vocabulary_free(w);
}

static void test_vocabulary_needs_two_different_tokens(void **state)
{
    (void)state;
    assert_vocabulary_build_fails(of_characters, "", ERROR_INVALID, "at least 2 different characters");
    assert_vocabulary_build_fails(of_characters, "aaaa", ERROR_INVALID, "at least 2 different characters");
    assert_vocabulary_build_fails(of_bytes, "aaaa", ERROR_INVALID, "at least 2 different");
    assert_vocabulary_build_fails(of_words, "the THE, the.", ERROR_INVALID, "at least 2 different words");
}

/* ---- bytes ---- */

static void test_vocabulary_bytes_round_trip_all_256(void **state)
{
    (void)state;
    char all[256];
    for (int i = 0; i < 256; i++) all[i] = (char)(255 - i);
    struct vocabulary *v = build_vocabulary_bytes(&of_bytes, all, sizeof all);
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
    struct vocabulary *v = build_vocabulary(of_bytes, "a\xff");
    struct unknown_list unknown = assert_encodes(v,
                                                 "\xff\xfe"
                                                 "a",
                                                 "2 1");
    assert_int_equal(unknown.total, 1);
    assert_int_equal(unknown.items[0].offset, 1);
    unknown_list_free(&unknown);
    vocabulary_free(v);
}

/* ---- limits ---- */

static void test_vocabulary_minimum_count_leaves_the_rare_out(void **state)
{
    (void)state;
    struct vocabulary_options options = of_characters;
    options.min_count = 2;
    struct vocabulary *v = build_vocabulary(options, "aabbbc");
    assert_tokens(v, "<eos>|<unk>|b|a");
    vocabulary_free(v);
    v = build_vocabulary(options, "aabb");
    assert_tokens(v, "<eos>|a|b"); /* nothing left out, no <unk> */
    vocabulary_free(v);
    options.min_count = 9;
    assert_vocabulary_build_fails(options, "aabbb", ERROR_INVALID, "the most frequent has 3");
}

static void test_vocabulary_maximum_counts_specials(void **state)
{
    (void)state;
    struct vocabulary_options options = of_characters;
    options.max_tokens = 4;
    struct vocabulary *v = build_vocabulary(options, "abcdab");
    assert_tokens(v, "<eos>|<unk>|a|b");
    vocabulary_free(v);
    v = build_vocabulary(options, "abc");
    assert_tokens(v, "<eos>|a|b|c");
    vocabulary_free(v);
    options.max_tokens = 2;
    assert_vocabulary_build_fails(options, "abcd", ERROR_INVALID, "no room for text");
    options.max_tokens = VOCABULARY_MAX_TOKENS + 1;
    assert_vocabulary_build_fails(options, "abcd", ERROR_TOO_LARGE, "at most 1000000");
}

static void test_vocabulary_refuses_lower_case_bytes(void **state)
{
    (void)state;
    assert_vocabulary_build_fails((struct vocabulary_options){.level = TOKEN_LEVEL_BYTE, .lower = true}, "ab",
                                  ERROR_INVALID, "bytes cannot be lower-cased");
}

/* ---- labels ---- */

static void test_vocabulary_labels_come_last_and_are_not_text(void **state)
{
    (void)state;
    struct vocabulary *v = build_labelled_vocabulary();
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
    struct vocabulary *v = build_labelled_vocabulary();
    static const bool special[] = {true, false, false, false, true, true};
    char out[8];
    for (uint32_t id = 0; id < 6; id++) {
        assert_int_equal(vocabulary_is_special(v, id), special[id]);
        assert_int_equal(vocabulary_decode(v, id, true, out), special[id] ? 0 : 1);
    }
    vocabulary_free(v);
}

/* ---- memory ---- */

static bool build_write_read_encode(void *context, struct error *err)
{
    const struct vocabulary_options *options = context;
    static const char text[] =
        "One two Three four é 中 😀 1 2 3 4 5 6 7 8 9 a b c d e f g h i j k l m n o p q r s t u v w x y z "
        "0a 1b 2c 3d 4e 5f 6g 7h 8i 9j Aa Bb Cc Dd Ee Ff Gg Hh Ii Jj Kk Ll Mm Nn Oo Pp Qq Rr Ss Tt Uu";
    struct token_list ids = {0};
    struct unknown_list unknown = {.most = 9};
    struct vocabulary *first = NULL, *second = NULL;
    char *json = NULL;
    size_t n;
    struct vocabulary_builder *builder = vocabulary_builder_new(options, err);
    bool ok = builder && vocabulary_builder_add(builder, text, sizeof text - 1, err) &&
              vocabulary_builder_add_label(builder, "label", err);
    if (ok)
        ok = (first = vocabulary_builder_finish(builder, err)) && (json = vocabulary_to_json(first, &n, err)) &&
             (second = vocabulary_from_json(json, n, "v", err)) &&
             vocabulary_encode(second, text, sizeof text - 1, &ids, NULL, err) &&
             vocabulary_encode(second, "ß ?", 4, &ids, &unknown, err);
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
        cmocka_unit_test(test_vocabulary_minimum_count_leaves_the_rare_out),
        cmocka_unit_test(test_vocabulary_maximum_counts_specials),
        cmocka_unit_test(test_vocabulary_refuses_lower_case_bytes),
        cmocka_unit_test(test_vocabulary_labels_come_last_and_are_not_text),
        cmocka_unit_test(test_vocabulary_special_tokens_give_no_text),
        cmocka_unit_test(test_vocabulary_survives_every_failing_allocation),
        cmocka_unit_test(test_token_list_grows_and_refuses_the_impossible),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
