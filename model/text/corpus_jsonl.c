/* The jsonl format of a corpus: one JSON object per line, or one array of objects or strings. */
#include <jansson.h>
#include <stdio.h>
#include <string.h>

#include "base/json.h"
#include "model/text/corpus_internal.h"

#define DEFAULT_FIELD "text"
#define MAX_FIELD     255 /* bytes of a name */

struct jsonl_line {
    size_t number; /* from 1 */
    const char *text;
    size_t n;
};

static bool line_error(const struct corpus_loader *loader, const struct jsonl_line *line, const char *what,
                       const char *field, struct error *err)
{
    return error_set(err, ERROR_INVALID, "%s:%zu: field \"%s\" %s", loader->name, line->number, field, what);
}

static bool refuse_json(const struct corpus_loader *loader, const struct jsonl_line *line, const json_error_t *cause,
                        struct error *err)
{
    if (json_text_lacked_memory(cause)) return error_set_no_memory(err, line->n, "a line of JSON");
    return error_set(err, ERROR_INVALID, "%s:%zu: not JSON: %s (column %d)", loader->name, line->number, cause->text,
                     cause->column);
}

static json_t *parse_line(const struct corpus_loader *loader, const struct jsonl_line *line, struct error *err)
{
    json_error_t cause;
    if (line->n > CORPUS_MAX_RECORD) {
        error_set(err, ERROR_INVALID, "%s:%zu: the line has %zu bytes, at most %zu are allowed", loader->name,
                  line->number, line->n, CORPUS_MAX_RECORD);
        return NULL;
    }
    json_t *root =
        json_text_parse(line->text, line->n, JSON_REJECT_DUPLICATES | JSON_ALLOW_NUL | JSON_DECODE_ANY, &cause);
    if (!root)
        refuse_json(loader, line, &cause, err);
    else if (!json_is_object(root))
        error_set(err, ERROR_INVALID, "%s:%zu: not a JSON object", loader->name, line->number);
    if (json_is_object(root)) return root;
    json_decref(root);
    return NULL;
}

static bool missing_field(const struct corpus_loader *loader, const struct jsonl_line *line, const char *field,
                          json_t *root, struct error *err)
{
    struct corpus_names names = {0};
    const char *key;
    json_t *value;
    json_object_foreach(root, key, value) corpus_names_add(&names, key, strlen(key));
    return error_set(err, ERROR_INVALID, "%s:%zu: no field \"%s\"; the fields are %s", loader->name, line->number,
                     field, corpus_names_end(&names));
}

/* A label is a string or an integer. A missing, null or empty one is none. */
static bool read_label(struct corpus_loader *loader, const struct jsonl_line *line, const json_t *root,
                       const char **label, struct error *err)
{
    const char *field = loader->options->label_column;
    const json_t *value = field ? json_object_get(root, field) : NULL;
    char digits[32];
    *label = NULL;
    if (!value || json_is_null(value)) return true;
    if (json_is_string(value))
        return corpus_label(loader, json_string_value(value), json_string_length(value), label, err) ||
               error_add_context(err, "%s:%zu", loader->name, line->number);
    if (!json_is_integer(value)) return line_error(loader, line, "is not a label: a string or an integer", field, err);
    int n = snprintf(digits, sizeof digits, "%" JSON_INTEGER_FORMAT, json_integer_value(value));
    return corpus_label(loader, digits, (size_t)n, label, err);
}

/* The next name of a list with commas; *at is NULL after the last one. */
static void next_name(const char **at, char name[MAX_FIELD + 1])
{
    const size_t n = strcspn(*at, ",");
    snprintf(name, MAX_FIELD + 1, "%.*s", (int)(n < MAX_FIELD ? n : MAX_FIELD), *at);
    *at = (*at)[n] == ',' ? *at + n + 1 : NULL;
}

/* Joins the texts of the listed fields by newlines. A text of newlines alone is none: *n is 0. */
static bool join_fields(const struct corpus_loader *loader, const struct jsonl_line *line, json_t *root, char *out,
                        size_t *n, struct error *err)
{
    char name[MAX_FIELD + 1];
    size_t used = 0, text = 0;
    for (const char *list = loader->options->field, *at = list; at;) {
        if (at != list) out[used++] = '\n';
        next_name(&at, name);
        const json_t *value = json_object_get(root, name);
        if (!value) return missing_field(loader, line, name, root, err);
        if (!json_is_string(value)) return line_error(loader, line, "is not a string", name, err);
        memcpy(out + used, json_string_value(value), json_string_length(value));
        used += json_string_length(value);
        text += json_string_length(value);
    }
    *n = text ? used : 0;
    return true;
}

/* Bytes that join_fields() writes at most. */
static size_t joined_size(json_t *root, const char *list)
{
    char name[MAX_FIELD + 1];
    size_t size = 0;
    for (const char *at = list; at;) {
        next_name(&at, name);
        size += json_string_length(json_object_get(root, name)) + 1;
    }
    return size - 1;
}

static bool add_text(struct corpus_loader *loader, const json_t *value, const char *label, struct error *err)
{
    const size_t n = json_string_length(value);
    char *text = corpus_room(loader, n, err);
    if (!text) return false;
    memcpy(text, json_string_value(value), n);
    return corpus_add(loader, text, n, label, err);
}

static bool read_object(struct corpus_loader *loader, const struct jsonl_line *line, json_t *root, struct error *err)
{
    const char *field = loader->options->field ? loader->options->field : DEFAULT_FIELD, *label;
    const json_t *value = json_object_get(root, field);
    const bool several = !value && strchr(field, ',');
    size_t n = 0;
    if (!value && !several) return missing_field(loader, line, field, root, err);
    if (value && !json_is_string(value)) return line_error(loader, line, "is not a string", field, err);
    if (!read_label(loader, line, root, &label, err)) return false;
    if (value) return add_text(loader, value, label, err);
    char *text = corpus_room(loader, joined_size(root, field), err);
    return text && join_fields(loader, line, root, text, &n, err) && corpus_add(loader, text, n, label, err);
}

/* ---- lines ---- */

static bool read_line(struct corpus_loader *loader, const struct jsonl_line *line, struct error *err)
{
    size_t blank = 0;
    while (blank < line->n && strchr(" \t\r", line->text[blank]) && line->text[blank]) blank++;
    if (blank == line->n) return true;
    json_t *root = parse_line(loader, line, err);
    bool ok = root && read_object(loader, line, root, err);
    json_decref(root);
    return ok;
}

static bool read_lines(struct corpus_loader *loader, struct error *err)
{
    struct jsonl_line line = {.text = loader->text};
    const char *end = loader->text + loader->n;
    for (const char *next; line.text < end; line.text = next) {
        line.n = corpus_line(loader, line.text, &next);
        line.number++;
        loader->at = line.text;
        if (!read_line(loader, &line, err)) return false;
    }
    return true;
}

/* ---- an array ---- */

struct array_reader {
    struct jsonl_line element; /* text: where reading goes on; number: the line there */
    const char *end;
};

static bool is_blank(char c)
{
    return c == ' ' || c == '\t' || c == '\n' || c == '\r';
}

static void skip_blanks(struct array_reader *reader)
{
    struct jsonl_line *element = &reader->element;
    for (; element->text < reader->end && is_blank(*element->text); element->text++)
        element->number += *element->text == '\n';
}

static bool array_error(const struct corpus_loader *loader, const struct array_reader *reader, const char *what,
                        struct error *err)
{
    return error_set(err, ERROR_INVALID, "%s:%zu: the JSON array %s", loader->name, reader->element.number, what);
}

/* Parses one element, so that memory does not depend on the size of the array. */
static bool read_element(struct corpus_loader *loader, struct array_reader *reader, struct error *err)
{
    struct jsonl_line *element = &reader->element;
    json_error_t cause;
    const size_t left = (size_t)(reader->end - element->text);
    element->n = left < CORPUS_MAX_RECORD ? left : CORPUS_MAX_RECORD;
    json_t *root =
        json_text_parse(element->text, element->n,
                        JSON_REJECT_DUPLICATES | JSON_ALLOW_NUL | JSON_DECODE_ANY | JSON_DISABLE_EOF_CHECK, &cause);
    bool ok;
    if (!root)
        ok = refuse_json(loader, element, &cause, err);
    else if (json_is_object(root))
        ok = read_object(loader, element, root, err);
    else if (!json_is_string(root) || loader->options->field || loader->options->label_column)
        ok = array_error(loader, reader, "holds what is no object", err);
    else
        ok = add_text(loader, root, NULL, err);
    json_decref(root);
    for (const char *end = element->text + (ok ? cause.position : 0); element->text < end; element->text++)
        element->number += *element->text == '\n';
    loader->at = element->text;
    return ok;
}

static bool read_array(struct corpus_loader *loader, struct error *err)
{
    struct array_reader reader = {.element = {.text = loader->text, .number = 1}, .end = loader->text + loader->n};
    skip_blanks(&reader);
    for (bool first = true;; first = false) {
        if (!first && reader.element.text < reader.end && *reader.element.text == ']') break;
        if (reader.element.text == reader.end) return array_error(loader, &reader, "is never closed", err);
        if (*reader.element.text != (first ? '[' : ',')) return array_error(loader, &reader, "lacks a comma", err);
        reader.element.text++;
        skip_blanks(&reader);
        if (reader.element.text == reader.end) return array_error(loader, &reader, "is never closed", err);
        if (first && *reader.element.text == ']') break;
        if (!read_element(loader, &reader, err)) return false;
        skip_blanks(&reader);
    }
    reader.element.text++;
    skip_blanks(&reader);
    return reader.element.text == reader.end || array_error(loader, &reader, "is followed by more text", err);
}

static size_t count_blanks(const char *text, size_t n)
{
    size_t blank = 0;
    while (blank < n && is_blank(text[blank])) blank++;
    return blank;
}

/* Looks at the first line, or at the first element of an array. */
bool corpus_looks_like_json(const char *text, size_t n)
{
    json_error_t cause;
    const size_t blank = count_blanks(text, n);
    text += blank;
    n -= blank;
    if (n == 0 || (*text != '[' && *text != '{')) return false;
    const bool array = *text == '[';
    const char *newline = array ? NULL : memchr(text, '\n', n);
    const size_t skip = array ? 1 + count_blanks(text + 1, n - 1) : 0;
    const size_t size = newline ? (size_t)(newline - text) : n;
    if (size - skip > CORPUS_MAX_RECORD || (array && skip < n && text[skip] != '{' && text[skip] != '"')) return false;
    json_t *root = json_text_parse(text + skip, size - skip,
                                   JSON_DECODE_ANY | JSON_ALLOW_NUL | (array ? JSON_DISABLE_EOF_CHECK : 0), &cause);
    const bool looks = json_is_object(root) || (array && json_is_string(root));
    json_decref(root);
    return looks;
}

/* ---- all of it ---- */

/* If no line has the label field, the user gave a wrong name. */
static bool check_labels(const struct corpus_loader *loader, struct error *err)
{
    const char *field = loader->options->label_column;
    if (!field || corpus_count_added(loader) == 0 || loader->label_names.count > 0) return true;
    return error_set(err, ERROR_INVALID, "%s: no line has a label in a field \"%s\"", loader->name, field);
}

bool corpus_read_jsonl(struct corpus_loader *loader, struct error *err)
{
    const size_t blank = count_blanks(loader->text, loader->n);
    const bool array = blank < loader->n && loader->text[blank] == '[';
    return (array ? read_array(loader, err) : read_lines(loader, err)) && check_labels(loader, err);
}
