#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <float.h>
#include <jansson.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/json_writer.h"
#include "base/rng.h"
#include "tests/unit/support.h"

/* What a strict reader finds in the text. */
static json_t *read_back(const struct json_writer *writer)
{
    json_error_t error;
    assert_false(writer->failed);
    json_t *json = json_loadb(writer->text, writer->size, JSON_DECODE_ANY | JSON_ALLOW_NUL, &error);
    if (!json) fail_msg("%s: %.*s", error.text, (int)writer->size, writer->text);
    return json;
}

static void assert_string_of(const struct json_writer *writer, const char *bytes, size_t n)
{
    char *clean = malloc(3 * n + 1);
    json_t *json = read_back(writer);
    const size_t size = utf8_sanitize(bytes, n, clean);
    assert_int_equal(json_string_length(json), size);
    assert_memory_equal(json_string_value(json), clean, size);
    json_decref(json);
    free(clean);
}

static void write_in_parts(struct json_writer *writer, const char *bytes, size_t n, struct rng *rng)
{
    struct json_string string = {0};
    json_write_literal(writer, "\"");
    for (size_t at = 0, part; at < n; at += part) {
        part = rng_next(rng) % 4;
        if (part > n - at) part = n - at;
        json_write_part(writer, &string, bytes + at, part);
    }
    json_write_part_end(writer, &string);
    json_write_literal(writer, "\"");
}

static void test_writer_makes_a_string_of_every_byte(void **state)
{
    (void)state;
    struct json_writer writer = {0};
    for (unsigned byte = 0; byte < 256; byte++) {
        const char text[] = {'a', (char)byte, 'b'};
        writer.size = 0;
        json_write_string(&writer, text, sizeof text);
        assert_string_of(&writer, text, sizeof text);
    }
    json_writer_close(&writer);
}

static void test_writer_makes_valid_strings_of_any_bytes_in_any_parts(void **state)
{
    (void)state;
    /* Bytes that begin, go on with or break characters, more often than chance has them. */
    static const char likely[] = "\xF0\x9F\x98\x80\xE2\x82\xAC\xC3\xED\xA0\xF4\x8F\xBF\"\\\n\x01 az\x7F\xC0";
    struct json_writer writer = {0};
    struct rng rng;
    rng_seed(&rng, 15, 0);
    for (size_t round = 0; round < 20000; round++) {
        char bytes[24];
        const size_t n = rng_next(&rng) % (sizeof bytes + 1);
        for (size_t i = 0; i < n; i++) {
            const uint64_t draw = rng_next(&rng);
            bytes[i] = draw % 8 == 0 ? (char)(draw >> 8) : likely[(draw >> 8) % (sizeof likely - 1)];
        }
        writer.size = 0;
        json_write_string(&writer, bytes, n);
        assert_string_of(&writer, bytes, n);
        writer.size = 0;
        write_in_parts(&writer, bytes, n, &rng);
        assert_string_of(&writer, bytes, n);
    }
    json_writer_close(&writer);
}

/* As jansson prints them, so that answers are what they were before. */
static void test_writer_prints_numbers_as_jansson_does(void **state)
{
    (void)state;
    const double values[] = {0,    -0.0, 1,     -3,  0.1,     1.0 / 3, 1e15,        1e16,         1e-5,
                             1e-4, 1e21, 1e300, 0.5, DBL_MAX, DBL_MIN, DBL_EPSILON, -12345.678901};
    struct rng rng;
    rng_seed(&rng, 1, 0);
    for (size_t i = 0; i < 10000; i++) {
        const double value = i < sizeof values / sizeof *values
                                 ? values[i]
                                 : ldexp((double)rng_next(&rng), (int)(rng_next(&rng) % 400) - 232);
        struct json_writer writer = {0};
        char expected[64];
        json_t *json = json_real(value);
        const size_t n =
            json_dumpb(json, expected, sizeof expected, JSON_ENCODE_ANY | JSON_COMPACT | JSON_REAL_PRECISION(15));
        json_write_real(&writer, value);
        assert_int_equal(writer.size, n);
        assert_memory_equal(writer.text, expected, n);
        json_decref(json);
        json_writer_close(&writer);
    }
}

static void test_writer_prints_what_is_no_number_as_null(void **state)
{
    (void)state;
    struct json_writer writer = {0};
    json_write_literal(&writer, "[");
    json_write_real(&writer, NAN);
    json_write_literal(&writer, ",");
    json_write_real(&writer, -INFINITY);
    json_write_literal(&writer, ",");
    json_write_integer(&writer, INT64_MIN);
    json_write_literal(&writer, "]");
    json_t *json = read_back(&writer);
    assert_true(json_is_null(json_array_get(json, 0)) && json_is_null(json_array_get(json, 1)));
    assert_true(json_integer_value(json_array_get(json, 2)) == INT64_MIN);
    json_decref(json);
    json_writer_close(&writer);
}

static bool attempt(void *context, struct error *err)
{
    (void)context;
    struct json_writer writer = {0};
    json_write_literal(&writer, "[");
    for (size_t i = 0; i < 2000; i++) json_write_integer(&writer, 12345);
    json_write_string(&writer, "a\xFF\n", 3);
    json_write_real(&writer, 0.5);
    const bool good = !writer.failed;
    json_writer_close(&writer);
    return good || error_set_no_memory(err, 0, "JSON");
}

static void test_writer_says_that_memory_was_out(void **state)
{
    (void)state;
    assert_survives_failing_allocations(attempt, NULL);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_writer_makes_a_string_of_every_byte),
        cmocka_unit_test(test_writer_makes_valid_strings_of_any_bytes_in_any_parts),
        cmocka_unit_test(test_writer_prints_numbers_as_jansson_does),
        cmocka_unit_test(test_writer_prints_what_is_no_number_as_null),
        cmocka_unit_test(test_writer_says_that_memory_was_out),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
