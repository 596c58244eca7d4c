#include "base/utf8.h"

#include <stdlib.h>
#include <string.h>

#include "tests/unit/support.h"

/* The classes of bytes that matter: the first and last of each kind, and of the narrowed second bytes. */
static const unsigned char edges[] = {0x00, 0x41, 0x7F, 0x80, 0x8F, 0x90, 0x9F, 0xA0, 0xBF, 0xC0,
                                      0xC1, 0xC2, 0xDF, 0xE0, 0xE1, 0xEC, 0xED, 0xEE, 0xEF, 0xF0,
                                      0xF1, 0xF3, 0xF4, 0xF5, 0xF8, 0xFC, 0xFE, 0xFF};
#define EDGES (sizeof edges)

static bool is_scalar_value(uint32_t c)
{
    return c <= 0x10FFFF && !(c >= 0xD800 && c <= 0xDFFF);
}

/* Decodes as the definition says it: bits put together, then every rule checked on the number. Independent of the
 * table that the implementation has. */
static size_t decode_by_definition(const unsigned char *b, size_t n, uint32_t *c)
{
    static const uint32_t least[] = {0, 0, 0x80, 0x800, 0x10000};
    if (n == 0) return 0;
    size_t length = b[0] < 0x80 ? 1 : b[0] >> 5 == 6 ? 2 : b[0] >> 4 == 14 ? 3 : b[0] >> 3 == 30 ? 4 : 0;
    if (length == 0 || length > n) return 0;
    uint32_t value = length == 1 ? b[0] : b[0] & (0xFFu >> (length + 1));
    for (size_t i = 1; i < length; i++) {
        if (b[i] >> 6 != 2) return 0;
        value = value << 6 | (b[i] & 0x3Fu);
    }
    if (value < least[length] || !is_scalar_value(value)) return 0;
    *c = value;
    return length;
}

static void test_utf8_every_code_point_survives_encoding(void **state)
{
    (void)state;
    for (uint32_t c = 0; c < 0x111000; c++) {
        char bytes[UTF8_MAX_BYTES];
        uint32_t back = 0;
        size_t n = utf8_encode(c, bytes);
        if (!is_scalar_value(c)) {
            if (n != 0) fail_msg("U+%X was encoded", c);
            continue;
        }
        bool good = n == (c < 0x80      ? 1u
                          : c < 0x800   ? 2u
                          : c < 0x10000 ? 3u
                                        : 4u) &&
                    utf8_decode(bytes, n, &back) == n && back == c && utf8_valid_prefix(bytes, n) == n &&
                    utf8_count(bytes, n) == 1;
        for (size_t shorter = 0; good && shorter < n; shorter++)
            good = utf8_decode(bytes, shorter, &back) == 0 && utf8_complete_prefix(bytes, shorter) == 0;
        if (!good) fail_msg("U+%X", c);
    }
    char bytes[UTF8_MAX_BYTES];
    assert_int_equal(utf8_encode(UINT32_MAX, bytes), 0);
}

/* All sequences of one and two bytes, and all sequences of three and four bytes of the edge classes. */
static void check_sequence(const unsigned char *bytes, size_t n)
{
    uint32_t expected = 0, got = 0;
    size_t length = decode_by_definition(bytes, n, &expected);
    if (utf8_decode((const char *)bytes, n, &got) != length || (length > 0 && got != expected))
        fail_msg("%02x %02x %02x %02x (%zu bytes)", bytes[0], bytes[1], bytes[2], bytes[3], n);
}

static void test_utf8_decodes_exactly_what_the_definition_allows(void **state)
{
    (void)state;
    for (unsigned a = 0; a < 256; a++)
        for (unsigned b = 0; b < 256; b++)
            for (size_t n = 1; n <= 2; n++)
                check_sequence((unsigned char[4]){(unsigned char)a, (unsigned char)b, 0x80, 0x80}, n);
    for (size_t i = 0; i < EDGES * EDGES * EDGES * EDGES; i++) {
        unsigned char bytes[4] = {edges[i % EDGES], edges[i / EDGES % EDGES], edges[i / EDGES / EDGES % EDGES],
                                  edges[i / EDGES / EDGES / EDGES]};
        check_sequence(bytes, 3);
        check_sequence(bytes, 4);
    }
}

static void test_utf8_malformed_classes_are_refused(void **state)
{
    (void)state;
    static const char *const bad[] = {
        "\x80", /* continuation without a start */
        "\xC0\x80",
        "\xC1\xBF", /* overlong forms of two, */
        "\xE0\x80\x80",
        "\xE0\x9F\xBF", /* three */
        "\xF0\x80\x80\x80",
        "\xF0\x8F\xBF\xBF", /* and four bytes */
        "\xED\xA0\x80",
        "\xED\xBF\xBF", /* surrogates */
        "\xF4\x90\x80\x80",
        "\xF5\x80\x80\x80", /* above U+10FFFF */
        "\xF8\x88\x80\x80\x80",
        "\xFC\x84\x80\x80\x80\x80", /* forms of five and six bytes */
        "\xFE",
        "\xFF",
        "\xC3",
        "\xE2\x82",
        "\xF0\x9F\x98", /* cut */
        "\xC3(",
        "\xE2\x82(",
        "\xF0\x9F\x98(", /* broken by another character */
    };
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        uint32_t c = 7;
        char text[16] = "ab";
        strcat(text, bad[i]);
        assert_int_equal(utf8_decode(bad[i], strlen(bad[i]), &c), 0);
        assert_int_equal(c, 7);
        assert_int_equal(utf8_valid_prefix(text, strlen(text)), 2);
    }
}

static void test_utf8_complete_prefix_holds_back_what_can_still_become_a_character(void **state)
{
    (void)state;
    static const struct {
        const char *text;
        size_t complete;
    } cases[] = {{"", 0},
                 {"a", 1},
                 {"a\xC3", 1},
                 {"a\xC3\xA9", 3},
                 {"a\xE2\x82", 1},
                 {"a\xF0\x9F\x98", 1},
                 {"a\xF0\x9F\x98\x80", 5},
                 {"\xF0\x9F\x98", 0},
                 {"a\xE0\x80", 3},     /* never a character, so it is finished */
                 {"a\xED\xA0", 3},     /* a surrogate */
                 {"a\xF4\x90", 3},     /* above U+10FFFF */
                 {"a\x80\x80\x80", 4}, /* no start */
                 {"a\xFF", 2},
                 {"a\xC3\xC3", 2}, /* only the second can go on */
                 {"\xE2\x82\xE2\x82", 2}};
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++)
        assert_int_equal(utf8_complete_prefix(cases[i].text, strlen(cases[i].text)), cases[i].complete);
}

static void test_utf8_sanitize_replaces_each_maximal_invalid_sequence(void **state)
{
    (void)state;
    static const struct {
        const char *text, *clean;
    } cases[] = {{"", ""},
                 {"caf\xC3\xA9", "caf\xC3\xA9"},
                 {"a\xFF\xFE", "a\xEF\xBF\xBD\xEF\xBF\xBD"},
                 {"\xE2\x82", "\xEF\xBF\xBD"}, /* cut: one for all of it */
                 {"\xF0\x9F\x98"
                  "A",
                  "\xEF\xBF\xBD"
                  "A"},                                    /* broken: one, and the A stays */
                 {"\xC0\x80", "\xEF\xBF\xBD\xEF\xBF\xBD"}, /* neither byte begins anything */
                 {"\xED\xA0\x80", "\xEF\xBF\xBD\xEF\xBF\xBD\xEF\xBF\xBD"}};
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        char out[64];
        size_t n = utf8_sanitize(cases[i].text, strlen(cases[i].text), out);
        assert_int_equal(n, strlen(cases[i].clean));
        assert_memory_equal(out, cases[i].clean, n);
    }
}

/* Whatever goes in, valid text of at most three times the size comes out, and valid text comes out as it was. */
static void test_utf8_sanitize_always_gives_valid_text(void **state)
{
    (void)state;
    unsigned seed = 1;
    for (size_t round = 0; round < 2000; round++) {
        char text[24], clean[3 * sizeof text], again[3 * sizeof clean];
        for (size_t i = 0; i < sizeof text; i++) {
            seed = seed * 1103515245u + 12345u;
            text[i] = (char)edges[(seed >> 16) % EDGES];
        }
        size_t n = utf8_sanitize(text, sizeof text, clean);
        assert_true(n <= sizeof clean);
        assert_int_equal(utf8_valid_prefix(clean, n), n);
        assert_int_equal(utf8_sanitize(clean, n, again), n);
        assert_memory_equal(again, clean, n);
    }
}

/* Text of every mix of lengths, at every place of a word of eight bytes: counted and checked as one by one. */
static void test_utf8_long_text_is_checked_and_counted_whole(void **state)
{
    (void)state;
    static const uint32_t kinds[] = {'a', 'z', 0x7F, 0xE9, 0x20AC, 0x1F600};
    unsigned seed = 1;
    for (size_t round = 0; round < 2000; round++) {
        char text[64];
        size_t n = 0, count = 0;
        while (n + UTF8_MAX_BYTES <= sizeof text) {
            seed = seed * 1103515245u + 12345u;
            n += utf8_encode(kinds[(seed >> 16) % (round % 2 ? 6 : 4)], text + n);
            count++;
        }
        assert_int_equal(utf8_count(text, n), count);
        assert_int_equal(utf8_valid_prefix(text, n), n);
        size_t place = round % n;
        while (((unsigned char)text[place] & 0xC0) == 0x80) place--;
        text[place] = (char)0xFF;
        assert_int_equal(utf8_valid_prefix(text, n), place);
    }
}

static void test_utf8_counts_characters(void **state)
{
    (void)state;
    assert_int_equal(utf8_count("", 0), 0);
    assert_int_equal(utf8_count("a\xC3\xA9\xE2\x82\xAC\xF0\x9F\x98\x80", 10), 4);
}

/* For any bytes, a walk back finds the same pieces as a walk forward. */
static void test_utf8_last_finds_what_scanning_found(void **state)
{
    (void)state;
    static const unsigned char likely[] = {'a',  0x80, 0xBF, 0xC3, 0xE0, 0xA0, 0xE2,
                                           0x82, 0xED, 0x9F, 0xF0, 0x90, 0xF4, 0xFF};
    char text[5];
    for (size_t code = 0; code < 14 * 14 * 14 * 14 * 14; code++) {
        for (size_t i = 0, rest = code; i < sizeof text; i++, rest /= 14) text[i] = (char)likely[rest % 14];
        for (size_t at = 0, length; at < sizeof text; at += length) {
            uint32_t code_point;
            bool valid;
            const enum utf8_scan kind = utf8_scan(text + at, sizeof text - at, &length, &code_point);
            if (utf8_last(text, at + length, &valid) != length || valid != (kind == UTF8_VALID))
                fail_msg("at %zu of %02x %02x %02x %02x %02x", at, (unsigned char)text[0], (unsigned char)text[1],
                         (unsigned char)text[2], (unsigned char)text[3], (unsigned char)text[4]);
        }
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_utf8_every_code_point_survives_encoding),
        cmocka_unit_test(test_utf8_decodes_exactly_what_the_definition_allows),
        cmocka_unit_test(test_utf8_malformed_classes_are_refused),
        cmocka_unit_test(test_utf8_complete_prefix_holds_back_what_can_still_become_a_character),
        cmocka_unit_test(test_utf8_sanitize_replaces_each_maximal_invalid_sequence),
        cmocka_unit_test(test_utf8_sanitize_always_gives_valid_text),
        cmocka_unit_test(test_utf8_long_text_is_checked_and_counted_whole),
        cmocka_unit_test(test_utf8_counts_characters),
        cmocka_unit_test(test_utf8_last_finds_what_scanning_found),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
