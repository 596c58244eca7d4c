/* JSON text into one buffer, without a tree of values: for answers that are written a piece at a time.
 *
 * The writer knows values, not their structure: who calls it writes braces, commas and keys as literals. It serves CSV
 * as well. The buffer grows as needed; who writes much empties it between two pieces (size = 0) and keeps its memory.
 * `struct json_writer w = {0};` is an empty one. Without memory `failed` is set and nothing more is written, so one
 * look at the end is enough. A writer belongs to one thread at a time.
 */
#ifndef LSTMD_BASE_JSON_WRITER_H
#define LSTMD_BASE_JSON_WRITER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/utf8.h"

struct json_writer {
    char *text; /* not NUL-terminated */
    size_t size, capacity;
    bool failed;
};

void json_writer_close(struct json_writer *writer);

/* Room for n more bytes behind text[size], NULL without memory. The caller adds what it used to size. */
char *json_writer_room(struct json_writer *writer, size_t n);

void json_write(struct json_writer *writer, const char *text, size_t n);
#define json_write_literal(writer, literal) json_write(writer, literal, sizeof(literal) - 1)

void json_write_integer(struct json_writer *writer, int64_t value);
/* 15 digits, never without a point or an exponent; null where the value is not finite. */
void json_write_real(struct json_writer *writer, double value);
/* 9 digits at most: as many as tell any two float32 apart, so a reader gets the same one. Ten times as fast. */
void json_write_float(struct json_writer *writer, float value);
/* The same of n values, with commas between them. */
void json_write_floats(struct json_writer *writer, const float *values, size_t n);
/* A string of any bytes: each maximal sequence that is not UTF-8 becomes U+FFFD. */
void json_write_string(struct json_writer *writer, const char *text, size_t n);

/* What stands between the quotes of a string that comes in parts. A part may end inside a character. All zero at first.
 */
struct json_string {
    char rest[UTF8_MAX_BYTES]; /* of a character that is begun */
    size_t count;
};
void json_write_part(struct json_writer *writer, struct json_string *string, const char *text, size_t n);
void json_write_part_end(struct json_writer *writer, struct json_string *string);

#endif
