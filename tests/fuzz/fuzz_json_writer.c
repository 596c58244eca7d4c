/* Gives any bytes to the JSON writer: whole strings, strings in parts, integers and reals. The writer must write JSON.
 * A string in it must equal the text, with U+FFFD for bytes that are not UTF-8, wherever its parts end. */
#include <jansson.h>
#include <math.h>
#include <string.h>

#include "base/json_writer.h"
#include "tests/fuzz/fuzz.h"

/* A larger number, rounded to 15 digits, may exceed every double. */
#define LARGEST 1.79769313486231e308

static json_t *parse(const struct json_writer *writer)
{
    json_t *json = json_loadb(writer->text, writer->size, JSON_DECODE_ANY | JSON_ALLOW_NUL, NULL);
    REQUIRE(json != NULL);
    return json;
}

static void require_string(const struct json_writer *writer, const char *text, size_t n)
{
    json_t *json = parse(writer);
    char *clean = malloc(n > 0 ? 3 * n : 1);
    REQUIRE(clean != NULL && json_is_string(json));
    const size_t size = utf8_sanitize(text, n, clean);
    REQUIRE(json_string_length(json) == size && memcmp(json_string_value(json), clean, size) == 0);
    free(clean);
    json_decref(json);
}

/* Writes parts of at most `step` bytes. */
static void write_parts(struct json_writer *writer, const char *text, size_t n, size_t step)
{
    struct json_string string = {0};
    json_write_literal(writer, "\"");
    for (size_t at = 0; at < n; at += step) json_write_part(writer, &string, text + at, step < n - at ? step : n - at);
    json_write_part_end(writer, &string);
    json_write_literal(writer, "\"");
}

static void write_numbers(struct json_writer *writer, const char *text, size_t n)
{
    int64_t integer;
    double real;
    if (n < sizeof integer + sizeof real) return;
    memcpy(&integer, text, sizeof integer);
    memcpy(&real, text + sizeof integer, sizeof real);
    json_write_integer(writer, integer);
    json_t *json = parse(writer);
    REQUIRE(json_is_integer(json) && json_integer_value(json) == integer);
    json_decref(json);
    writer->size = 0;
    if (isfinite(real) && fabs(real) > LARGEST) return;
    json_write_real(writer, real);
    json = parse(writer);
    REQUIRE(isfinite(real) ? json_is_real(json) : json_is_null(json));
    if (isfinite(real)) REQUIRE(fabs(json_real_value(json) - real) <= fabs(real) * 1e-14 + 5e-324);
    json_decref(json);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size == 0) return 0;
    struct json_writer writer = {0};
    const char *text = (const char *)data + 1;
    json_write_string(&writer, text, size - 1);
    require_string(&writer, text, size - 1);
    writer.size = 0;
    write_parts(&writer, text, size - 1, data[0] % 7 + 1);
    require_string(&writer, text, size - 1);
    writer.size = 0;
    write_numbers(&writer, text, size - 1);
    REQUIRE(!writer.failed);
    json_writer_close(&writer);
    return 0;
}
