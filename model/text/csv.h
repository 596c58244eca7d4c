/* A streaming reader of comma-separated values (RFC 4180; lines may end in LF alone, blank lines are skipped), and of
 * such that tabs separate. In the latter a quote within a field is a character like any other.
 *
 * Nothing is copied: fields are slices of the text that is read, and csv_unquote() resolves doubled quotes where a
 * field has them. Strict: a quoted field must be closed and followed by a comma or the end of the line, and an unquoted
 * field holds no quote. Errors are ERROR_INVALID and begin with name:line.
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
    bool tabs;       /* fields are separated by tabs */
    bool carriage;   /* lines end in CR alone */
    size_t line;     /* of position, from 1 */
    size_t row_line; /* where the row begins */
    size_t fields;   /* of the row, read so far */
    bool in_row;     /* the row has a further field */
};

struct csv_field {
    const char *text; /* without the enclosing quotes */
    size_t n;
    bool doubled; /* it has doubled quotes */
};

/* Moves to the next row that is not blank; false at the end of the text. */
bool csv_next_row(struct csv_reader *reader);

/* Only while reader->in_row. */
bool csv_next_field(struct csv_reader *reader, struct csv_field *field, struct error *err);

/* Writes the field's value; `out` has room for field->n bytes. Returns bytes. */
size_t csv_unquote(const struct csv_field *field, char *out);

#endif
