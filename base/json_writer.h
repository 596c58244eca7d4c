/* JSON text into one buffer, without a tree of values: for answers that are written piece by piece.
 *
 * The writer formats values; the caller writes braces, commas and keys as literals. It also serves CSV. The buffer
 * grows as needed; a caller that writes much empties it between two pieces (size = 0) and keeps its memory. `struct
 * json_writer w = {0};` is an empty one. If memory runs out, the writer sets `failed` and writes nothing more, so the
 * caller checks once, at the end. A writer belongs to one thread at a time.
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

/* Room for n more bytes behind text[size], NULL without memory. The caller adds the bytes it used to size. */
char *json_writer_room(struct json_writer *writer, size_t n);

void json_write(struct json_writer *writer, const char *text, size_t n);
#define json_write_literal(writer, literal) json_write(writer, literal, sizeof(literal) - 1)

void json_write_integer(struct json_writer *writer, int64_t value);
/* 15 digits, always with a point or an exponent; null if the value is not finite. */
void json_write_real(struct json_writer *writer, double value);
/* At most 9 digits. These distinguish any two float32, so a reader gets the same value. Ten times as fast. */
void json_write_float(struct json_writer *writer, float value);
/* The same of n values, with commas between them. */
void json_write_floats(struct json_writer *writer, const float *values, size_t n);
/* A string of any bytes: each maximal sequence that is not UTF-8 becomes U+FFFD. */
void json_write_string(struct json_writer *writer, const char *text, size_t n);

/* The state of a string that is written in parts, between its quotes. A part may end inside a character. All zero at
 * first.
 */
struct json_string {
    char rest[UTF8_MAX_BYTES]; /* the bytes of an unfinished character */
    size_t count;
};
void json_write_part(struct json_writer *writer, struct json_string *string, const char *text, size_t n);
void json_write_part_end(struct json_writer *writer, struct json_string *string);

#endif
