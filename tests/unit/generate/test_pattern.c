/* Compares patterns with PCRE2's other matcher, pcre2_match(), which backtracks. Takes every text of up to five tokens
 * over small vocabularies. The pattern must allow the tokens, and call the text complete, exactly if that matcher does.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define PCRE2_CODE_UNIT_WIDTH 8
#include <pcre2.h>

#include "model/generate/pattern.h"
#include "tests/unit/support.h"

static const struct pattern_options options = {.max_states = PATTERN_MAX_STATES, .max_steps = PATTERN_MAX_STEPS};

#define CHARACTERS                                                                                                     \
    "{\"level\":\"char\",\"tokens\":[\"<eos>\",\"a\",\"b\",\"c\",\",\",\"7\",\"\\u00e9\",\"\\n\"],\"eos\":0,\"pad\":"  \
    "null,\"unknown\":null}"
#define WORDS                                                                                                          \
    "{\"level\":\"word\",\"lower\":true,\"filters\":\".,\",\"tokens\":[\"<eos>\",\"to\",\"be\",\"or\",\"not\","        \
    "\"tobe\"],\"eos\":0,\"pad\":null,\"unknown\":null}"
#define BYTES                                                                                                          \
    "{\"level\":\"byte\",\"tokens\":[\"<eos>\",\"a\",\"b\",\"\\u00c3\",\"\\u00a9\"],\"eos\":0,\"pad\":null,"           \
    "\"unknown\":null}"

static struct vocabulary *vocabulary_of(const char *json)
{
    struct error err = {0};
    struct vocabulary *vocabulary = vocabulary_from_json(json, strlen(json), "test", &err);
    if (!vocabulary) fail_msg("%s", err.message);
    return vocabulary;
}

static struct pattern *pattern_of(const char *regex, const struct vocabulary *vocabulary)
{
    struct error err = {0};
    struct pattern *pattern = pattern_new(regex, strlen(regex), vocabulary, &options, &err);
    if (!pattern) fail_msg("%s: %s", regex, err.message);
    return pattern;
}

static pcre2_code *oracle_of(const char *regex, bool utf8)
{
    char whole[256];
    int code;
    PCRE2_SIZE offset;
    snprintf(whole, sizeof whole, "(?:%s)\\z", regex);
    pcre2_code *oracle =
        pcre2_compile((PCRE2_SPTR)whole, PCRE2_ZERO_TERMINATED,
                      PCRE2_ANCHORED | PCRE2_DOLLAR_ENDONLY | (utf8 ? PCRE2_UTF | PCRE2_UCP : 0), &code, &offset, NULL);
    assert_non_null(oracle);
    return oracle;
}

struct search {
    const struct vocabulary *vocabulary;
    const struct pattern *pattern;
    pcre2_code *oracle;
    pcre2_match_data *data;
    size_t depth, matches;
    char text[64];
};

static bool oracle_matches(const struct search *search, size_t n)
{
    return pcre2_match(search->oracle, (PCRE2_SPTR)search->text, n, 0, 0, search->data, NULL) >= 0;
}

/* All texts that begin with text[0..n), of up to `left` tokens more. state: the pattern's, or none where a token was
 * not allowed: then no text of them may match. Returns whether any does. */
static bool search_texts(struct search *search, size_t n, bool allowed, uint32_t state, size_t left)
{
    bool any = oracle_matches(search, n);
    if (any) search->matches++;
    if (allowed) assert_int_equal(any, pattern_is_complete(search->pattern, state));
    if (any && !allowed) fail_msg("\"%.*s\" matches and is not allowed", (int)n, search->text);
    for (uint32_t v = 0; left > 0 && v < vocabulary_size(search->vocabulary); v++) {
        if (vocabulary_is_special(search->vocabulary, v)) continue;
        const size_t more = vocabulary_decode(search->vocabulary, v, n == 0, search->text + n);
        const bool next = allowed && pattern_allows(search->pattern, state, v);
        any |= search_texts(search, n + more, next, next ? pattern_next(search->pattern, state, v) : 0, left - 1);
    }
    return any;
}

static void compare(const char *json, const char *regex, size_t depth)
{
    struct search search = {.vocabulary = vocabulary_of(json)};
    const bool utf8 = vocabulary_level(search.vocabulary) != TOKEN_LEVEL_BYTE;
    search.pattern = pattern_of(regex, search.vocabulary);
    search.oracle = oracle_of(regex, utf8);
    search.data = pcre2_match_data_create(4, NULL);
    if (!search_texts(&search, 0, true, PATTERN_START, depth)) fail_msg("%s: nothing matches: no test", regex);
    pcre2_match_data_free(search.data);
    pcre2_code_free(search.oracle);
    pattern_free((struct pattern *)search.pattern);
    vocabulary_free((struct vocabulary *)search.vocabulary);
}

static void test_pattern_agrees_with_the_backtracking_matcher(void **state)
{
    (void)state;
    static const char *const expressions[] = {
        "a*",
        "ab|abc",
        "(a|b)+c?",
        "[ab]{2,4}",
        "a{3}",
        "(ab|a)(bc|c)?",
        "[^a]+",
        ".{1,3}",
        "(?i)AB?C",
        "\\w{2},\\d",
        "(a(,b)*)?c",
        "a+?b",
        "^abc$",
        "(?<x>a|b)(?:c|)",
        "\\Qa\\E[,7]",
        "[\\]a-b]+",
        "a\\x2c7",
        "\\p{L}{2}",
        "(?s).\\n",
        "a$",
        "(?:a|b|c){0,2}\xC3\xA9",
        "((a{1,2}b){1,2}c?){1,2}",
        "\\S\\s",
        "[ab]{2,}",
        "([ab]{2,}c){1,2}",
        "[^,]{0,3}?a",
        "a{0}b",
        "\\x{61}{2}",
        "[[:digit:],]+a",
        "a|b\\z",

    };
    for (size_t i = 0; i < sizeof expressions / sizeof *expressions; i++) compare(CHARACTERS, expressions[i], 5);
}

static void test_pattern_of_words_has_spaces_between_them(void **state)
{
    (void)state;
    static const char *const expressions[] = {"to be or not", "(to|be|or|not)( (to|be))*", ".{4}", "t.*e",
                                              "tobe|to b?e"};
    for (size_t i = 0; i < sizeof expressions / sizeof *expressions; i++) compare(WORDS, expressions[i], 5);
}

static void test_pattern_of_bytes_matches_bytes(void **state)
{
    (void)state;
    static const char *const expressions[] = {"a\xC3\xA9|b", ".{2}", "[^a]{1,3}", "(\xC3.)+"};
    for (size_t i = 0; i < sizeof expressions / sizeof *expressions; i++) compare(BYTES, expressions[i], 5);
}

static void test_pattern_never_leads_where_no_token_goes_on(void **state)
{
    (void)state;
    struct vocabulary *vocabulary = vocabulary_of(CHARACTERS);
    struct pattern *pattern = pattern_of("a(b|x)|bx|c", vocabulary); /* the vocabulary has no x */
    assert_true(pattern_allows(pattern, PATTERN_START, 1));
    assert_false(pattern_allows(pattern, PATTERN_START, 2)); /* b: only x could follow */
    assert_true(pattern_is_final(pattern, pattern_next(pattern, PATTERN_START, 3)));
    pattern_free(pattern);
    vocabulary_free(vocabulary);
}

static void test_pattern_masks_logits_and_keeps_eos_where_the_text_is_complete(void **state)
{
    (void)state;
    struct vocabulary *vocabulary = vocabulary_of(CHARACTERS);
    struct pattern *pattern = pattern_of("ab*", vocabulary);
    float logits[8] = {1, 2, 3, 4, 5, 6, 7, 8};
    pattern_mask(pattern, PATTERN_START, logits);
    for (int v = 0; v < 8; v++) assert_true(v == 1 ? logits[v] == 2.0f : isinf(logits[v]));
    float after[8] = {1, 2, 3, 4, 5, 6, 7, 8};
    pattern_mask(pattern, pattern_next(pattern, PATTERN_START, 1), after);
    for (int v = 0; v < 8; v++) assert_true(v == 0 || v == 2 ? after[v] == (float)(v + 1) : isinf(after[v]));
    pattern_free(pattern);
    vocabulary_free(vocabulary);
}

static void test_pattern_refuses_with_a_reason(void **state)
{
    (void)state;
    static const struct {
        const char *regex, *reason;
        enum error_code code;
    } cases[] = {
        {"a(", "byte 2 of the expression: missing closing parenthesis", ERROR_INVALID},
        {"a)|(b", "byte 1 of the expression: unmatched closing parenthesis", ERROR_INVALID},
        {"a\xFF", "byte 1 of the expression is not UTF-8", ERROR_INVALID},
        {"xyz", "make no text that matches", ERROR_INVALID},
        {"", "nothing but the empty text matches", ERROR_INVALID},
        {"a(?=b)", "look-around at byte 1", ERROR_INVALID},
        {"(?im)^a$", "an option at byte 0", ERROR_INVALID},
        {"a\\Z", "\\Z at byte 1", ERROR_INVALID},
        {"(?<!a)b", "look-around at byte 0", ERROR_INVALID},
        {"a\\b", "\\b at byte 1", ERROR_INVALID},
        {"(a)\\1", "a back reference at byte 3", ERROR_INVALID},
        {"(?>a)", "an atomic group at byte 0", ERROR_INVALID},
        {"(?R)?a", "recursion", ERROR_INVALID},
        {"(?x)a # b", "an option at byte 0 of the expression cannot be used here: only i, n, s and J", ERROR_INVALID},
        {"a(?#b)c", "a comment at byte 1 of the expression cannot be used here: leave it out", ERROR_INVALID},
        {"(?R)?a", "recursion, a reference or a condition at byte 0", ERROR_INVALID},
        {"a\\X", "\\X at byte 1 of the expression cannot be used here: the text is matched one", ERROR_INVALID},
        {"a\\C", "\\C at byte 1", ERROR_INVALID},
        {"a++b", "a possessive quantifier at byte 2", ERROR_INVALID},
        {"(*UTF)a", "a verb", ERROR_INVALID},
        {"[ab]{1,60000}", "states", ERROR_TOO_LARGE},
        {"([ab]*a[ab]{12})", "states", ERROR_TOO_LARGE},
        {"((a{1,900}){1,900}){1,900}", "byte", ERROR_INVALID},
    };
    struct vocabulary *vocabulary = vocabulary_of(CHARACTERS);
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct error err = {0};
        struct pattern *pattern = pattern_new(cases[i].regex, strlen(cases[i].regex), vocabulary, &options, &err);
        if (pattern || !strstr(err.message, cases[i].reason)) fail_msg("%s: \"%s\"", cases[i].regex, err.message);
        assert_int_equal(err.code, cases[i].code);
    }
    vocabulary_free(vocabulary);
}

static void test_pattern_takes_as_many_steps_as_are_allowed(void **state)
{
    (void)state;
    const struct pattern_options few = {.max_states = PATTERN_MAX_STATES, .max_steps = 60};
    struct vocabulary *vocabulary = vocabulary_of(CHARACTERS);
    struct error err = {0};
    struct pattern *pattern = pattern_new("ab", 2, vocabulary, &few, &err);
    assert_non_null(pattern);
    pattern_free(pattern);
    assert_null(pattern_new("abcabc", 6, vocabulary, &few, &err));
    assert_int_equal(err.code, ERROR_TOO_LARGE);
    assert_non_null(strstr(err.message, "more than 60 steps"));
    vocabulary_free(vocabulary);
}

static void test_choices_are_literal_and_each_can_be_written(void **state)
{
    (void)state;
    struct vocabulary *characters = vocabulary_of(CHARACTERS), *words = vocabulary_of(WORDS);
    struct error err = {0};
    const struct text_span literal[] = {{"a,7", 3}, {"b\n", 2}};
    struct pattern *pattern = pattern_new_choices(literal, 2, characters, &options, &err);
    assert_non_null(pattern);
    assert_int_equal(pattern_state_count(pattern), 6);
    pattern_free(pattern);
    const struct text_span good[] = {{"to be", 5}, {"tobe", 4}}, bad[] = {{"to be", 5}, {"to  be", 6}};
    pattern = pattern_new_choices(good, 2, words, &options, &err);
    assert_non_null(pattern);
    pattern_free(pattern);
    assert_null(pattern_new_choices(bad, 2, words, &options, &err));
    assert_string_equal(err.message, "choice 1: the tokens of the model's vocabulary cannot write it");
    vocabulary_free(characters);
    vocabulary_free(words);
}

static bool make_pattern(void *vocabulary, struct error *err)
{
    struct pattern *pattern = pattern_new("[ab]{1,20}c?", 12, vocabulary, &options, err);
    pattern_free(pattern);
    return pattern;
}

static void test_pattern_survives_failing_allocations(void **state)
{
    (void)state;
    struct vocabulary *vocabulary = vocabulary_of(CHARACTERS);
    assert_survives_failing_allocations(make_pattern, vocabulary);
    vocabulary_free(vocabulary);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_pattern_agrees_with_the_backtracking_matcher),
        cmocka_unit_test(test_pattern_of_words_has_spaces_between_them),
        cmocka_unit_test(test_pattern_of_bytes_matches_bytes),
        cmocka_unit_test(test_pattern_never_leads_where_no_token_goes_on),
        cmocka_unit_test(test_pattern_masks_logits_and_keeps_eos_where_the_text_is_complete),
        cmocka_unit_test(test_pattern_refuses_with_a_reason),
        cmocka_unit_test(test_pattern_takes_as_many_steps_as_are_allowed),
        cmocka_unit_test(test_choices_are_literal_and_each_can_be_written),
        cmocka_unit_test(test_pattern_survives_failing_allocations),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
