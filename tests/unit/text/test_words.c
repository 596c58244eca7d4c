/* model/text/words.h: compares lower case with Python's str.lower(), for every character alone and beside a capital
 * sigma. */
#include "model/text/words.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/sha256.h"
#include "tests/unit/support.h"

#define BLOCK 0x1000u

static const char *const contexts[] = {"{}", "{}\u03a3", "A{}\u03a3", "A\u03a3{}", "A\u03a3{}B", "A{}\u03a3{}B"};

/* The context with a character in place of each {}. */
static size_t fill(const char *context, uint32_t code, char *out)
{
    size_t n = 0;
    for (const char *at = context; *at; at++) {
        if (*at != '{') {
            out[n++] = *at;
            continue;
        }
        n += utf8_encode(code, out + n);
        at++;
    }
    return n;
}

static size_t lower(const struct word_rules *rules, const char *text, size_t n, char *out)
{
    size_t written = 0;
    for (size_t at = 0, length; at < n; at += length) {
        struct word_letter letter;
        length = word_rules_read(rules, text, n, at, &letter);
        assert_true(length > 0);
        written += utf8_encode(letter.code, out + written);
        if (letter.mark) written += utf8_encode(letter.mark, out + written);
    }
    return written;
}

static void digest_block(const struct word_rules *rules, uint32_t first, char digest[SHA256_TEXT_SIZE])
{
    struct sha256_stream *stream = sha256_stream_new(NULL);
    char text[64], lowered[128];
    for (uint32_t code = first; code < first + BLOCK; code++) {
        if (code >= 0xD800 && code <= 0xDFFF) continue;
        for (size_t i = 0; i < sizeof contexts / sizeof *contexts; i++) {
            const size_t n = lower(rules, text, fill(contexts[i], code, text), lowered);
            lowered[n] = '\n';
            sha256_stream_add(stream, lowered, n + 1);
        }
    }
    sha256_stream_end(stream, digest);
    sha256_stream_free(stream);
}

static void test_words_lower_every_character_as_python_does(void **state)
{
    (void)state;
    struct word_rules rules;
    FILE *file = fopen("tests/golden/data/casing.txt", "r");
    char wanted[SHA256_TEXT_SIZE], digest[SHA256_TEXT_SIZE], line[100];
    uint32_t blocks = 0;
    assert_non_null(file);
    assert_true(word_rules_init(&rules, true, "", NULL));
    for (; fgets(line, sizeof line, file); blocks++) {
        const uint32_t first = (uint32_t)strtoul(line, NULL, 16);
        memcpy(wanted, line + 7, SHA256_TEXT_SIZE - 1);
        wanted[SHA256_TEXT_SIZE - 1] = '\0';
        digest_block(&rules, first, digest);
        if (strcmp(digest, wanted) != 0) fail_msg("the characters from U+%04X on differ", (unsigned)first);
    }
    assert_int_equal(blocks, 0x110000 / BLOCK);
    word_rules_free(&rules);
    fclose(file);
}

static void assert_lowers(const char *text, const char *expected)
{
    struct word_rules rules;
    char lowered[128];
    assert_true(word_rules_init(&rules, true, "", NULL));
    lowered[lower(&rules, text, strlen(text), lowered)] = '\0';
    assert_string_equal(lowered, expected);
    word_rules_free(&rules);
}

static void test_words_lower_a_sigma_by_what_stands_around_it(void **state)
{
    (void)state;
    assert_lowers("\u039f\u0394\u039f\u03a3", "\u03bf\u03b4\u03bf\u03c2");
    assert_lowers("\u03a3", "\u03c3");
    assert_lowers("A\u03a3'B \u03a3\u03a3\u03a3.", "a\u03c3'b \u03c3\u03c3\u03c2.");
    assert_lowers("A'.:\u0301\u03a3", "a'.:\u0301\u03c2");
    assert_lowers("\u0130", "i\u0307");
}

static void test_words_prefix_ends_where_no_sigma_looks_past(void **state)
{
    (void)state;
    assert_int_equal(word_rules_prefix("AB CD", 5), 3);
    assert_int_equal(word_rules_prefix("AB\n", 3), 3);
    assert_int_equal(word_rules_prefix("\u6f22A'.", 6), 3);
    assert_int_equal(word_rules_prefix("A'.", 3), 3); /* nowhere */
    assert_int_equal(word_rules_prefix("", 0), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_words_lower_every_character_as_python_does),
        cmocka_unit_test(test_words_lower_a_sigma_by_what_stands_around_it),
        cmocka_unit_test(test_words_prefix_ends_where_no_sigma_looks_past),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
