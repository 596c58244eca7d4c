/* The csv and tsv formats of a corpus: choosing columns, joining fields, and messages that name the row. */
#include <stdlib.h>
#include <string.h>

#include "model/text/corpus_internal.h"
#include "model/text/csv.h"

#define MAX_COLUMN_NUMBER 9999
#define MAX_COLUMN_NAME   40 /* bytes of what is taken for one */

/* A chosen column. A named one gets its index when the header is read. */
struct column {
    const char *name;
    size_t n;
    size_t index; /* from 0 */
    bool named;
};

struct selection {
    struct column columns[CORPUS_MAX_COLUMNS + 1]; /* those of the text, then that of the label */
    struct csv_field fields[CORPUS_MAX_COLUMNS + 1];
    size_t count;      /* all columns */
    size_t text_count; /* without the label's */
};

/* ---- choosing columns ---- */

static bool parse_number(const char *text, size_t n, size_t *index)
{
    size_t value = 0;
    for (size_t i = 0; i < n; i++) {
        if (text[i] < '0' || text[i] > '9' || value > MAX_COLUMN_NUMBER) return false;
        value = value * 10 + (size_t)(text[i] - '0');
    }
    *index = value - 1;
    return n > 0 && value >= 1 && value <= MAX_COLUMN_NUMBER;
}

static bool add_column(struct selection *selection, const char *text, size_t n, struct error *err)
{
    while (n && *text == ' ') text++, n--;
    while (n && text[n - 1] == ' ') n--;
    if (n == 0) return error_set(err, ERROR_INVALID, "a column has no name");
    struct column column = {.name = text, .n = n};
    column.named = !parse_number(text, n, &column.index);
    selection->columns[selection->count++] = column;
    return true;
}

static bool add_text_columns(struct selection *selection, const char *list, struct error *err)
{
    for (const char *at = list;; at++) {
        size_t n = strcspn(at, ",");
        if (selection->count == CORPUS_MAX_COLUMNS)
            return error_set(err, ERROR_INVALID, "more than %d columns: %s", CORPUS_MAX_COLUMNS, list);
        if (!add_column(selection, at, n, err)) return false;
        at += n;
        if (*at == '\0') break;
    }
    selection->text_count = selection->count;
    return true;
}

/* The values of the next row, for messages. */
static const char *list_row(struct csv_reader reader, struct corpus_names *names)
{
    struct csv_field field;
    *names = (struct corpus_names){0};
    if (csv_next_row(&reader))
        while (reader.in_row && csv_next_field(&reader, &field, NULL)) corpus_names_add(names, field.text, field.n);
    return corpus_names_end(names);
}

static bool field_equals(const struct csv_field *field, const struct column *column)
{
    return field->n == column->n && memcmp(field->text, column->name, column->n) == 0;
}

/* Reads the header row and gives each named column its index. */
static bool read_header(struct csv_reader *reader, struct selection *selection, struct error *err)
{
    struct csv_reader header = *reader;
    struct csv_field field;
    if (!csv_next_row(reader)) return true;
    while (reader->in_row) {
        if (!csv_next_field(reader, &field, err)) return false;
        for (size_t i = 0; i < selection->count; i++) {
            struct column *column = &selection->columns[i];
            if (!column->named || !field_equals(&field, column)) continue;
            column->named = false;
            column->index = reader->fields - 1;
        }
    }
    for (size_t i = 0; i < selection->count; i++) {
        struct column *column = &selection->columns[i];
        struct corpus_names names;
        if (!column->named) continue;
        return error_set(err, ERROR_INVALID, "%s:%zu: no column is named \"%.*s\"; the columns are %s", reader->name,
                         reader->row_line, (int)column->n, column->name, list_row(header, &names));
    }
    return true;
}

static bool check_distinct(const struct corpus_loader *loader, const struct selection *selection, struct error *err)
{
    for (size_t i = 0; i < selection->count; i++) {
        for (size_t k = 0; k < i; k++) {
            if (selection->columns[i].index == selection->columns[k].index)
                return error_set(err, ERROR_INVALID, "%s: column \"%.*s\" is chosen twice", loader->name,
                                 (int)selection->columns[i].n, selection->columns[i].name);
        }
    }
    return true;
}

/* "title", "published_at": a name of a column, hardly a text. */
static bool is_column_name(const struct csv_field *field)
{
    bool letters = false;
    if (field->n == 0 || field->n > MAX_COLUMN_NAME) return false;
    for (size_t i = 0; i < field->n; i++) {
        const char c = field->text[i];
        const bool letter = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z');
        letters |= letter;
        if (!letter && !(c >= '0' && c <= '9') && c != '_' && c != '-') return false;
    }
    return letters;
}

/* Whether the next row has two or more fields and all look like names of columns. */
static bool has_names(struct csv_reader *reader)
{
    struct csv_field field;
    bool names = true;
    if (!csv_next_row(reader)) return false;
    while (reader->in_row) {
        if (!csv_next_field(reader, &field, NULL)) return false;
        names = names && is_column_name(&field);
    }
    return names && reader->fields > 1;
}

/* Where columns are chosen by number, the first row is text. If it looks like a header and the second row does not, the
 * corpus notes it. (In a table of single words, every row looks like a header.) */
static bool note_header(struct corpus_loader *loader, struct csv_reader reader, struct error *err)
{
    const struct csv_reader first = reader;
    struct corpus_names names;
    if (loader->summary || !has_names(&reader) || has_names(&reader)) return true;
    const char *text = list_row(first, &names);
    loader->corpus->header = arena_copy_text(&loader->corpus->arena, text, strlen(text), err);
    return loader->corpus->header;
}

static bool select_columns(struct corpus_loader *loader, struct csv_reader *reader, struct selection *selection,
                           struct error *err)
{
    const struct corpus_options *options = loader->options;
    if (!options->columns) {
        struct corpus_names names;
        return error_set(err, ERROR_INVALID,
                         "%s: choose the columns of the text by name or number; the first row is %s", loader->name,
                         list_row(*reader, &names));
    }
    if (!add_text_columns(selection, options->columns, err)) return false;
    if (options->label_column && !add_column(selection, options->label_column, strlen(options->label_column), err))
        return false;
    bool named = false;
    for (size_t i = 0; i < selection->count; i++) named |= selection->columns[i].named;
    if (named && options->csv_header == 0)
        return error_set(err, ERROR_INVALID, "%s: without a header, columns are chosen by number", loader->name);
    if ((named || options->csv_header == 1) && !read_header(reader, selection, err)) return false;
    if (!named && options->csv_header == -1 && !note_header(loader, *reader, err)) return false;
    return check_distinct(loader, selection, err);
}

/* ---- rows ---- */

static bool read_row(struct csv_reader *reader, struct selection *selection, struct error *err)
{
    struct csv_field field;
    while (reader->in_row) {
        size_t index = reader->fields;
        if (!csv_next_field(reader, &field, err)) return false;
        for (size_t i = 0; i < selection->count; i++) {
            if (selection->columns[i].index == index) selection->fields[i] = field;
        }
    }
    for (size_t i = 0; i < selection->count; i++) {
        const struct column *column = &selection->columns[i];
        if (column->index < reader->fields) continue;
        return error_set(err, ERROR_INVALID, "%s:%zu: the row has %zu column%s, and column %zu is wanted", reader->name,
                         reader->row_line, reader->fields, reader->fields == 1 ? "" : "s", column->index + 1);
    }
    return true;
}

/* The value of a field: the slice itself, or a copy where doubled quotes must become single. */
static const char *field_text(struct corpus_loader *loader, const struct csv_field *field, size_t *n, struct error *err)
{
    *n = field->n;
    if (!field->doubled) return field->text;
    char *out = corpus_room(loader, field->n, err);
    if (out) *n = csv_unquote(field, out);
    return out;
}

static const char *join_fields(struct corpus_loader *loader, const struct selection *selection, size_t *n,
                               struct error *err)
{
    size_t room = selection->text_count - 1, used = 0, text = 0;
    for (size_t i = 0; i < selection->text_count; i++)
        room += selection->fields[i].n; /* no overflow: slices of one text */
    char *out = corpus_room(loader, room, err);
    if (!out) return NULL;
    for (size_t i = 0; i < selection->text_count; i++) {
        const struct csv_field *field = &selection->fields[i];
        size_t length = field->n;
        if (i) out[used++] = '\n';
        if (field->doubled)
            length = csv_unquote(field, out + used);
        else
            memcpy(out + used, field->text, length);
        used += length;
        text += length;
    }
    *n = text ? used : 0; /* a text of newlines alone is none */
    return out;
}

static bool add_row(struct corpus_loader *loader, const struct selection *selection, struct error *err)
{
    size_t n, label_n = 0;
    const char *text, *label = NULL;
    if (selection->text_count == 1)
        text = field_text(loader, &selection->fields[0], &n, err);
    else
        text = join_fields(loader, selection, &n, err);
    if (!text) return false;
    if (selection->count > selection->text_count) {
        label = field_text(loader, &selection->fields[selection->text_count], &label_n, err);
        if (!label || !corpus_label(loader, label, label_n, &label, err)) return false;
    }
    return corpus_add(loader, text, n, label, err);
}

/* Some spreadsheets separate fields by tabs and still name the file .csv. */
static bool has_tabs(const struct corpus_loader *loader)
{
    const char *next;
    const size_t n = corpus_line(loader, loader->text, &next);
    return loader->corpus->format == CORPUS_TSV || (memchr(loader->text, '\t', n) && !memchr(loader->text, ',', n));
}

bool corpus_read_csv(struct corpus_loader *loader, struct error *err)
{
    struct csv_reader reader = {.name = loader->name,
                                .text = loader->text,
                                .n = loader->n,
                                .tabs = has_tabs(loader),
                                .carriage = loader->newline == '\r',
                                .line = 1};
    struct selection selection = {.count = 0};
    if (!select_columns(loader, &reader, &selection, err)) return false;
    while (csv_next_row(&reader)) {
        loader->at = loader->text + reader.position;
        if (!read_row(&reader, &selection, err)) return false;
        if (!add_row(loader, &selection, err)) return error_add_context(err, "%s:%zu", reader.name, reader.row_line);
    }
    return true;
}
