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

/* Reads the text with a strict reader. */
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

/* json_write_float() writes a JSON number that reads as the same float. */
static void assert_float_returns(struct json_writer *writer, float value)
{
    writer->size = 0;
    json_write_float(writer, value);
    json_t *json = read_back(writer);
    const float back = (float)json_real_value(json);
    if (!json_is_real(json) || memcmp(&back, &value, sizeof value) != 0)
        fail_msg("%.9g became %.*s", (double)value, (int)writer->size, writer->text);
    json_decref(json);
}

static void test_float_is_read_as_it_was(void **state)
{
    (void)state;
    static const float odd[] = {0.0f,   -0.0f, 1.0f,         -1.0f,    0.1f,    9.99999999f, 99999.9961f, 1e-4f,
                                1e-5f,  1e9f,  999999999.0f, 1e10f,    FLT_MAX, FLT_MIN,     FLT_EPSILON, 1e-45f,
                                123.0f, 1e22f, 1e23f,        1.5e-40f, 0.5f,    0.9999999f,  16777216.0f, 1e-38f};
    struct json_writer writer = {0};
    struct rng rng;
    for (size_t i = 0; i < sizeof odd / sizeof *odd; i++) assert_float_returns(&writer, odd[i]);
    rng_seed(&rng, 3, 0);
    for (size_t i = 0; i < 300000; i++) {
        const uint32_t bits = (uint32_t)rng_next(&rng);
        float value;
        memcpy(&value, &bits, sizeof value);
        if (isfinite(value)) assert_float_returns(&writer, value);
        assert_float_returns(&writer, tanhf((float)rng_normal(&rng)));
    }
    json_writer_close(&writer);
}

static void test_floats_have_commas_between_them(void **state)
{
    (void)state;
    static const float values[] = {0.5f, -1.25f, 3e20f};
    struct json_writer writer = {0};
    json_write_literal(&writer, "[");
    json_write_floats(&writer, values, 0);
    json_write_floats(&writer, values, 3);
    json_write_literal(&writer, "]");
    json_t *json = read_back(&writer);
    assert_int_equal(json_array_size(json), 3);
    for (size_t i = 0; i < 3; i++) assert_true((float)json_real_value(json_array_get(json, i)) == values[i]);
    json_decref(json);
    json_write_floats(&writer, values, SIZE_MAX / 4);
    assert_true(writer.failed);
    json_writer_close(&writer);
}

static void test_integer_is_what_it_was(void **state)
{
    (void)state;
    static const int64_t values[] = {0, 7, -7, 10, 1234567890123, INT64_MAX, INT64_MIN};
    struct json_writer writer = {0};
    for (size_t i = 0; i < sizeof values / sizeof *values; i++) {
        writer.size = 0;
        json_write_integer(&writer, values[i]);
        json_t *json = read_back(&writer);
        assert_true(json_integer_value(json) == values[i]);
        json_decref(json);
    }
    json_writer_close(&writer);
}

static void test_float_is_short(void **state)
{
    (void)state;
    static const struct {
        float value;
        const char *text;
    } rows[] = {{0.25f, "0.25"},   {-2.0f, "-2.0"}, {1e-7f, "1.00000001e-7"},
                {120.0f, "120.0"}, {1e10f, "1e10"}, {0.1f, "0.100000001"},
                {0.0f, "0.0"},     {NAN, "null"},   {0.00012f, "0.000119999997"}};
    struct json_writer writer = {0};
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        writer.size = 0;
        json_write_float(&writer, rows[i].value);
        assert_int_equal(writer.size, strlen(rows[i].text));
        assert_memory_equal(writer.text, rows[i].text, writer.size);
    }
    json_writer_close(&writer);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_writer_makes_a_string_of_every_byte),
        cmocka_unit_test(test_writer_makes_valid_strings_of_any_bytes_in_any_parts),
        cmocka_unit_test(test_writer_prints_numbers_as_jansson_does),
        cmocka_unit_test(test_writer_prints_what_is_no_number_as_null),
        cmocka_unit_test(test_writer_says_that_memory_was_out),
        cmocka_unit_test(test_float_is_read_as_it_was),
        cmocka_unit_test(test_floats_have_commas_between_them),
        cmocka_unit_test(test_integer_is_what_it_was),
        cmocka_unit_test(test_float_is_short),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
