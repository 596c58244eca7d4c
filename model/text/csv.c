#include "model/text/csv.h"

#include <string.h>

/* Whether a line ends at text[position], and the length of that end; 0: the text ends there. */
static bool at_line_end(const struct csv_reader *reader, size_t position, size_t *length)
{
    const char *at = reader->text + position;
    size_t left = reader->n - position;
    *length = 0;
    if (left == 0) return true;
    if (*at == '\n') *length = 1;
    if (*at == '\r' && (left == 1 || at[1] == '\n')) *length = left == 1 ? 1 : 2;
    if (*at == '\r' && reader->carriage) *length = 1;
    return *length > 0;
}

static char csv_separator(const struct csv_reader *reader)
{
    return reader->tabs ? '\t' : ',';
}

/* Steps over the separator behind the field that ends at `position`. False: no separator is there. */
static bool end_field(struct csv_reader *reader, size_t position)
{
    size_t length;
    reader->fields++;
    if (at_line_end(reader, position, &length)) {
        reader->in_row = false;
        reader->line += length > 0;
        reader->position = position + length;
        return true;
    }
    reader->position = position + 1;
    return reader->text[position] == csv_separator(reader);
}

bool csv_next_row(struct csv_reader *reader)
{
    size_t length;
    while (reader->position < reader->n && at_line_end(reader, reader->position, &length)) {
        reader->position += length;
        reader->line++;
    }
    reader->row_line = reader->line;
    reader->fields = 0;
    reader->in_row = reader->position < reader->n;
    return reader->in_row;
}

static size_t count_lines(const char *text, size_t n)
{
    size_t lines = 0;
    const char *end = text + n;
    while (text < end && (text = memchr(text, '\n', (size_t)(end - text)))) {
        lines++;
        text++;
    }
    return lines;
}

static bool read_quoted(struct csv_reader *reader, struct csv_field *field, struct error *err)
{
    const char *start = reader->text + reader->position + 1, *end = reader->text + reader->n, *at = start;
    *field = (struct csv_field){.text = start};
    for (;; at += 2) {
        at = memchr(at, '"', (size_t)(end - at));
        if (!at)
            return error_set(err, ERROR_INVALID, "%s:%zu: the quote that opens field %zu is never closed", reader->name,
                             reader->line, reader->fields + 1);
        if (at + 1 == end || at[1] != '"') break;
        field->doubled = true;
    }
    field->n = (size_t)(at - start);
    reader->line += count_lines(start, field->n);
    if (end_field(reader, (size_t)(at + 1 - reader->text))) return true;
    return error_set(err, ERROR_INVALID, "%s:%zu: text after the closing quote of field %zu", reader->name,
                     reader->line, reader->fields);
}

static bool read_unquoted(struct csv_reader *reader, struct csv_field *field, struct error *err)
{
    size_t start = reader->position, at = start, length;
    for (; at < reader->n; at++) {
        char c = reader->text[at];
        if (c == csv_separator(reader) || c == '\n') break;
        if (c == '\r' && at_line_end(reader, at, &length)) break;
        if (c == '"' && !reader->tabs)
            return error_set(err, ERROR_INVALID,
                             "%s:%zu: a quote inside the unquoted field %zu: enclose the field in quotes and double "
                             "those inside",
                             reader->name, reader->line, reader->fields + 1);
    }
    *field = (struct csv_field){.text = reader->text + start, .n = at - start};
    return end_field(reader, at);
}

bool csv_next_field(struct csv_reader *reader, struct csv_field *field, struct error *err)
{
    bool quoted = reader->position < reader->n && reader->text[reader->position] == '"';
    return quoted ? read_quoted(reader, field, err) : read_unquoted(reader, field, err);
}

size_t csv_unquote(const struct csv_field *field, char *out)
{
    size_t n = 0;
    for (size_t i = 0; i < field->n; i++) {
        out[n++] = field->text[i];
        if (field->text[i] == '"') i++; /* the second of two */
    }
    return n;
}
