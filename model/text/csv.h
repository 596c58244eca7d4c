/* A streaming reader of comma-separated values (RFC 4180; lines may end in LF alone, blank lines are skipped) and of
 * tab-separated values. In the latter a quote within a field is an ordinary character.
 *
 * The reader copies nothing: fields are slices of the text, and csv_unquote() resolves doubled quotes. It is strict: a
 * quoted field must be closed, and a separator or the end of the line must follow; an unquoted field holds no quote.
 * Errors are ERROR_INVALID and begin with name:line.
 *
 *   struct csv_reader reader = {.name = path, .text = text, .n = n, .line = 1};
 *   while (csv_next_row(&reader)) { while (reader.in_row) { csv_next_field(&reader, &field, err) ... } }
 */
#ifndef LSTMD_MODEL_TEXT_CSV_H
#define LSTMD_MODEL_TEXT_CSV_H

#include <stdbool.h>
#include <stddef.h>

#include "base/error.h"

struct csv_reader {
    const char *name; /* of the file, for messages */
    const char *text;
    size_t n, position;
    bool tabs;       /* tabs separate fields */
    bool carriage;   /* lines end in CR alone */
    size_t line;     /* the number of the line at position, from 1 */
    size_t row_line; /* the number of the line where the row begins */
    size_t fields;   /* read of this row so far */
    bool in_row;     /* this row has another field */
};

struct csv_field {
    const char *text; /* without the enclosing quotes */
    size_t n;
    bool doubled; /* some quotes in it are doubled */
};

/* Moves to the next row that is not blank; false at the end of the text. */
bool csv_next_row(struct csv_reader *reader);

/* Reads the next field. Call it only while reader->in_row. */
bool csv_next_field(struct csv_reader *reader, struct csv_field *field, struct error *err);

/* Writes the field's value; `out` has room for field->n bytes. Returns bytes. */
size_t csv_unquote(const struct csv_field *field, char *out);

#endif
