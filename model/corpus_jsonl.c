/* The jsonl format of a corpus: one JSON object per line. */
#include <jansson.h>
#include <stdio.h>
#include <string.h>

#include "model/json_text.h"

#include "model/corpus_internal.h"

#define DEFAULT_FIELD "text"

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
    if (!root && json_text_lacked_memory(&cause))
        error_set_no_memory(err, line->n, "a line of JSON");
    else if (!root)
        error_set(err, ERROR_INVALID, "%s:%zu: not JSON: %s (column %d)", loader->name, line->number, cause.text,
                  cause.column);
    else if (!json_is_object(root))
        error_set(err, ERROR_INVALID, "%s:%zu: not a JSON object", loader->name, line->number);
    if (json_is_object(root)) return root;
    json_decref(root);
    return NULL;
}

static bool missing_field(const struct corpus_loader *loader, const struct jsonl_line *line, const char *field,
                          json_t *root, struct error *err)
{
    char names[200] = "none";
    size_t used = 0;
    const char *key;
    json_t *value;
    json_object_foreach(root, key, value)
    {
        if (used < sizeof names)
            used += (size_t)snprintf(names + used, sizeof names - used, "%s\"%.40s\"", used ? ", " : "", key);
    }
    return error_set(err, ERROR_INVALID, "%s:%zu: no field \"%s\"; the fields are %s", loader->name, line->number,
                     field, names);
}

/* A label is a string or an integer; missing, null or empty it is none. */
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

static bool read_object(struct corpus_loader *loader, const struct jsonl_line *line, json_t *root, struct error *err)
{
    const char *field = loader->options->field ? loader->options->field : DEFAULT_FIELD, *label;
    const json_t *value = json_object_get(root, field);
    if (!value) return missing_field(loader, line, field, root, err);
    if (!json_is_string(value)) return line_error(loader, line, "is not a string", field, err);
    size_t n = json_string_length(value);
    if (!read_label(loader, line, root, &label, err)) return false;
    char *text = corpus_room(loader, n, err);
    if (!text) return false;
    memcpy(text, json_string_value(value), n);
    return corpus_add(loader, text, n, label, err);
}

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

/* A label field that no line has is a mistake in its name. */
static bool check_labels(const struct corpus_loader *loader, struct error *err)
{
    const char *field = loader->options->label_column;
    const size_t documents = loader->summary ? loader->summary->documents : loader->corpus->count;
    if (!field || documents == 0 || loader->label_names.count > 0) return true;
    return error_set(err, ERROR_INVALID, "%s: no line has a label in a field \"%s\"", loader->name, field);
}

bool corpus_read_jsonl(struct corpus_loader *loader, struct error *err)
{
    struct jsonl_line line = {.text = loader->text};
    const char *end = loader->text + loader->n;
    while (line.text < end) {
        const char *newline = memchr(line.text, '\n', (size_t)(end - line.text));
        line.n = (size_t)((newline ? newline : end) - line.text);
        line.number++;
        loader->at = line.text;
        if (!read_line(loader, &line, err)) return false;
        line.text = newline ? newline + 1 : end;
    }
    return check_labels(loader, err);
}
