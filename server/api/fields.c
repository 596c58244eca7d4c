#include "server/api/fields.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/hint.h"
#include "base/json.h"
#include "base/utf8.h"

#define NAME_MAX_SHOWN 64                    /* bytes of a name or a value that an error repeats */
#define SHOWN_SIZE     (NAME_MAX_SHOWN + 32) /* a value with what stands around it */

/* One value as it came; its type is not checked yet. */
struct raw_value {
    const json_t *json;      /* NULL: from a query */
    struct field_text query; /* text of a query parameter */
};

static const char *json_type_name(const json_t *value)
{
    switch (json_typeof(value)) {
    case JSON_OBJECT:
        return "an object";
    case JSON_ARRAY:
        return "an array";
    case JSON_STRING:
        return "a string";
    case JSON_INTEGER:
    case JSON_REAL:
        return "a number";
    case JSON_TRUE:
    case JSON_FALSE:
        return "a boolean";
    case JSON_NULL:
        break;
    }
    return "null";
}

/* jansson stops right behind the second key; the text before that place ends with the key in quotes. */
static void add_duplicate_key(struct problem *problem, const char *body, size_t size, size_t position)
{
    size_t end = position < size ? position : size;
    while (end > 0 && body[end - 1] != '"') end--;
    if (end > 0) end--;
    size_t begin = end;
    while (begin > 0 && (body[begin - 1] != '"' || (begin > 1 && body[begin - 2] == '\\'))) begin--;
    size_t n = end - begin < NAME_MAX_SHOWN ? end - begin : NAME_MAX_SHOWN;
    char name[NAME_MAX_SHOWN + 1];
    memcpy(name, body + begin, n);
    name[n] = '\0';
    problem_add_field(problem, name, "given twice (the second one ends at byte %zu)", end + 1);
}

/* Explains words of other languages for which JSON has another one. */
static const char *explain_token(const char *token, size_t n)
{
    static const struct {
        const char *token, *remark;
    } foreign[] = {
        {"True", ": JSON's booleans are true and false, in lower case"},
        {"False", ": JSON's booleans are true and false, in lower case"},
        {"None", ": JSON writes null"},
        {"undefined", ": JSON writes null"},
        {"NaN", ": JSON has no NaN; leave the field out"},
        {"Infinity", ": JSON has no infinity; leave the field out"},
        {"'", ": JSON's texts and names stand in double quotes"},
    };
    for (size_t i = 0; i < sizeof foreign / sizeof *foreign; i++) {
        const size_t length = strlen(foreign[i].token);
        if (length == n && memcmp(foreign[i].token, token, n) == 0) return foreign[i].remark;
    }
    return "";
}

static const char letters[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ";

/* Where the token begins that jansson stopped at; `end` is behind it, or behind its first letter. */
static size_t token_begin(const char *body, size_t end)
{
    size_t begin = end - 1;
    if (!strchr(letters, body[begin]) || body[begin] == '\0') return begin;
    while (begin > 0 && body[begin - 1] != '\0' && strchr(letters, body[begin - 1])) begin--;
    return begin;
}

/* A remark about the token that ends at `end`, or "". */
static const char *explain_syntax(const char *body, size_t size, size_t end)
{
    if (end == 0 || end > size) return "";
    size_t begin = token_begin(body, end);
    if (body[begin] == '\'') return explain_token(body + begin, 1);
    if (body[begin] == '-') begin++;
    while (end < size && body[end] != '\0' && strchr(letters, body[end])) end++;
    return explain_token(body + begin, end - begin);
}

/* Positions are those of the whole body, whose first `skipped` bytes are not in text[0..size). */
static void refuse_syntax(const char *text, size_t size, size_t skipped, const json_error_t *error,
                          struct problem *problem)
{
    const size_t position = error->position > 0 ? (size_t)error->position : 0;
    const size_t place = position > 0 && position <= size ? token_begin(text, position) + 1 : position;
    problem_close(problem);
    problem_set(problem, 400, "the body is not JSON: %s, at byte %zu%s", error->text, skipped + place,
                explain_syntax(text, size, position));
}

/* A mark, or the first of JSON's signs, which are ASCII, with a NUL before or after it. */
static bool looks_like_utf16(const char *text, size_t n)
{
    return n >= 2 && (memcmp(text, "\xFF\xFE", 2) == 0 || memcmp(text, "\xFE\xFF", 2) == 0 ||
                      (text[0] == '\0') != (text[1] == '\0'));
}

json_t *fields_parse_body(const char *body, size_t size, struct problem *problem)
{
    /* Integers become doubles: exact as far as 2^53, and one that is too big is then a wrong field, not a syntax error.
     */
    const size_t flags = JSON_ALLOW_NUL | JSON_DECODE_ANY | JSON_DECODE_INT_AS_REAL;
    /* RFC 8259, 8.1: a byte order mark may be ignored. */
    const size_t mark = utf8_mark(body, size);
    const char *text = body + mark;
    const size_t n = size - mark, valid = utf8_valid_prefix(text, n);
    if (n == 0) {
        problem_set(problem, 400, "the body is empty, and must be a JSON object");
        return NULL;
    }
    if (looks_like_utf16(text, n)) {
        problem_set(problem, 400, "the body looks like UTF-16, and JSON is UTF-8 here: send it as UTF-8");
        return NULL;
    }
    if (valid < n) {
        problem_set(problem, 400, "the body is not JSON: invalid UTF-8 at byte %zu", mark + valid);
        return NULL;
    }
    json_error_t error;
    json_t *json = json_text_parse(text, n, flags | JSON_REJECT_DUPLICATES, &error);
    if (!json && json_error_code(&error) == json_error_duplicate_key) {
        add_duplicate_key(problem, text, n, (size_t)error.position);
        json = json_text_parse(text, n, flags, &error);
    }
    if (!json && json_text_lacked_memory(&error)) {
        problem_close(problem); /* a key that is there twice matters less */
        problem_set(problem, 503, "out of memory (%zu bytes of JSON)", size);
        return NULL;
    }
    if (!json) {
        refuse_syntax(text, n, mark, &error, problem);
        return NULL;
    }
    if (!json_is_object(json)) {
        problem_set(problem, 422, "the body must be a JSON object, not %s", json_type_name(json));
        json_decref(json);
        return NULL;
    }
    return json;
}

/* The value as it came, for a message: the string "10", 3, null, an array. */
static const char *fields_show(const struct raw_value *value, char out[SHOWN_SIZE])
{
    const json_t *json = value->json;
    const char *text = json ? json_string_value(json) : value->query.data;
    const size_t size = json ? json_string_length(json) : value->query.size;
    if (text || !json)
        snprintf(out, SHOWN_SIZE, "%s\"%.*s%s\"", json ? "the string " : "",
                 (int)(size <= NAME_MAX_SHOWN ? size : utf8_complete_prefix(text, NAME_MAX_SHOWN)), text,
                 size <= NAME_MAX_SHOWN ? "" : "...");
    else if (json_is_boolean(json))
        snprintf(out, SHOWN_SIZE, "%s", json_is_true(json) ? "true" : "false");
    else if (json_is_number(json))
        snprintf(out, SHOWN_SIZE, "%.17g", json_number_value(json));
    else
        snprintf(out, SHOWN_SIZE, "%s", json_type_name(json));
    return out;
}

static bool read_text(const struct field *field, void *member, const struct raw_value *value, struct problem *problem)
{
    char shown[SHOWN_SIZE];
    struct field_text text = value->query;
    if (value->json) {
        if (!json_is_string(value->json))
            return problem_add_field(problem, field->name, "must be a string, not %s", fields_show(value, shown));
        text = (struct field_text){json_string_value(value->json), json_string_length(value->json)};
    }
    size_t valid = utf8_valid_prefix(text.data, text.size);
    if (valid < text.size) return problem_add_field(problem, field->name, "is not valid UTF-8 at byte %zu", valid);
    *(struct field_text *)member = text;
    return true;
}

/* A decimal number as JSON writes it; strtod alone would take "inf", " 1" and "0x1p3". */
static bool parse_number(struct field_text text, double *number)
{
    if (text.size == 0 || strspn(text.data, "0123456789+-.eE") != text.size) return false;
    if (text.data[0] == '+' || text.data[0] == '.') return false;
    char *end;
    *number = strtod(text.data, &end);
    return end == text.data + text.size;
}

static bool read_number(const struct field *field, void *member, const struct raw_value *value, struct problem *problem)
{
    const char *kind = field->type == FIELD_INTEGER ? "an integer" : "a number";
    char shown[SHOWN_SIZE];
    double number;
    if (value->json ? !json_is_number(value->json) : !parse_number(value->query, &number))
        return problem_add_field(problem, field->name, "must be %s, not %s%s", kind, fields_show(value, shown),
                                 json_is_string(value->json) ? "; JSON's numbers have no quotes" : "");
    if (value->json) number = json_number_value(value->json);
    /* Written so that NaN fails, too. */
    const bool high = field->flags & FIELD_ABOVE ? number > field->minimum : number >= field->minimum;
    const bool low = field->flags & FIELD_BELOW ? number < field->maximum : number <= field->maximum;
    if (!(high && low))
        return problem_add_field(problem, field->name, "must be %s %s %.16g %s %.16g, not %.17g", kind,
                                 field->flags & FIELD_ABOVE ? "above" : "from", field->minimum,
                                 field->flags & FIELD_BELOW ? "to below" : "to", field->maximum, number);
    if (field->type == FIELD_REAL) {
        *(double *)member = number;
        return true;
    }
    if (number != floor(number))
        return problem_add_field(problem, field->name, "must be an integer, not %.17g", number);
    *(uint64_t *)member = (uint64_t)number;
    return true;
}

static bool read_choice(const struct field *field, void *member, const struct raw_value *value, struct problem *problem)
{
    struct field_text text = value->query;
    if (json_is_string(value->json))
        text = (struct field_text){json_string_value(value->json), json_string_length(value->json)};
    for (int i = 0; text.data && field->choices[i]; i++) {
        if (strlen(field->choices[i]) == text.size && memcmp(field->choices[i], text.data, text.size) == 0) {
            *(int *)member = i;
            return true;
        }
    }
    char known[256] = "";
    for (size_t i = 0, used = 0; field->choices[i]; i++) {
        int n = snprintf(known + used, sizeof known - used, "%s\"%s\"", i ? " or " : "", field->choices[i]);
        if (n < 0 || (used += (size_t)n) >= sizeof known) break;
    }
    char shown[SHOWN_SIZE];
    return problem_add_field(problem, field->name, "must be %s, not %s", known, fields_show(value, shown));
}

static bool read_bool(const struct field *field, void *member, const struct raw_value *value, struct problem *problem)
{
    const struct field_text text = value->query;
    const bool yes = value->json ? json_is_true(value->json) : text.size == 4 && memcmp(text.data, "true", 4) == 0;
    const bool no = value->json ? json_is_false(value->json) : text.size == 5 && memcmp(text.data, "false", 5) == 0;
    char shown[SHOWN_SIZE];
    if (!yes && !no)
        return problem_add_field(problem, field->name, "must be true or false, not %s%s", fields_show(value, shown),
                                 json_is_string(value->json) ? "; JSON's booleans have no quotes" : "");
    *(bool *)member = yes;
    return true;
}

/* Adds one text to the list. */
static bool append_text(const struct field *field, struct field_texts *list, const struct raw_value *value,
                        struct problem *problem)
{
    struct field_text text = {0};
    if (!read_text(field, &text, value, problem)) return false;
    if (list->count == FIELD_MAX_TEXTS)
        return problem_add_field(problem, field->name, "must be at most %d strings", FIELD_MAX_TEXTS);
    if ((double)text.size < field->minimum || (double)text.size > field->maximum)
        return problem_add_field(problem, field->name, "must be strings of %.16g to %.16g bytes, not %zu",
                                 field->minimum, field->maximum, text.size);
    list->items[list->count++] = text;
    return true;
}

static bool read_texts(const struct field *field, void *member, const struct raw_value *value, struct problem *problem)
{
    char shown[SHOWN_SIZE];
    if (value->json && !json_is_array(value->json) && !json_is_string(value->json))
        return problem_add_field(problem, field->name, "must be a string or an array of strings, not %s",
                                 fields_show(value, shown));
    if (!json_is_array(value->json)) return append_text(field, member, value, problem);
    for (size_t i = 0; i < json_array_size(value->json); i++) {
        const struct raw_value item = {.json = json_array_get(value->json, i)};
        if (!append_text(field, member, &item, problem)) return false;
    }
    return true;
}

/* An object or an array, as it is. */
static bool read_document(const struct field *field, void *member, const struct raw_value *value,
                          struct problem *problem)
{
    const bool array = field->type == FIELD_ARRAY;
    json_t *document = json_incref((json_t *)(uintptr_t)value->json);
    json_error_t error;
    if (!document) {
        document = json_text_parse(value->query.data, value->query.size,
                                   JSON_REJECT_DUPLICATES | JSON_ALLOW_NUL | JSON_DECODE_INT_AS_REAL, &error);
        if (!document && json_text_lacked_memory(&error))
            return problem_set(problem, 503, "out of memory (%zu bytes of JSON)", value->query.size);
        if (!document)
            return problem_add_field(problem, field->name, "must be JSON of %s: %s", array ? "an array" : "an object",
                                     error.text);
    }
    if (array ? !json_is_array(document) : !json_is_object(document)) {
        problem_add_field(problem, field->name, "must be %s, not %s", array ? "an array" : "an object",
                          json_type_name(document));
        json_decref(document);
        return false;
    }
    *(json_t **)member = document;
    return true;
}

/* A string as a document. or: what it may be else. */
static bool read_string(const struct field *field, void *member, const struct raw_value *value, const char * or,
                        struct problem *problem)
{
    char shown[SHOWN_SIZE];
    struct field_text text = {0};
    if (value->json && !json_is_string(value->json))
        return problem_add_field(problem, field->name, "must be a string or %s, not %s", or, fields_show(value, shown));
    if (!read_text(field, &text, value, problem)) return false;
    json_t *string = value->json ? json_incref((json_t *)(uintptr_t)value->json) : json_stringn(text.data, text.size);
    if (!string) return problem_set(problem, 503, "out of memory (%zu bytes)", text.size);
    *(json_t **)member = string;
    return true;
}

static bool read_state(const struct field *field, void *member, const struct raw_value *value, struct problem *problem)
{
    if (json_is_object(value->json) || (!value->json && value->query.size > 0 && value->query.data[0] == '{'))
        return read_document(field, member, value, problem);
    return read_string(field, member, value, "an object", problem);
}

static bool read_prompt(const struct field *field, void *member, const struct raw_value *value, struct problem *problem)
{
    if (!json_is_array(value->json))
        return read_string(field, member, value, "an array of strings or of token ids", problem);
    *(json_t **)member = json_incref((json_t *)(uintptr_t)value->json);
    return true;
}

static bool read_value(const struct field *field, void *target, const struct raw_value *value, struct problem *problem)
{
    void *member = (char *)target + field->offset;
    if (field->flags & FIELD_NULLABLE && json_is_null(value->json)) return true;
    switch (field->type) {
    case FIELD_TEXT:
        return read_text(field, member, value, problem);
    case FIELD_INTEGER:
    case FIELD_REAL:
        return read_number(field, member, value, problem);
    case FIELD_BOOL:
        return read_bool(field, member, value, problem);
    case FIELD_TEXTS:
        return read_texts(field, member, value, problem);
    case FIELD_OBJECT:
    case FIELD_ARRAY:
        return read_document(field, member, value, problem);
    case FIELD_STATE:
        return read_state(field, member, value, problem);
    case FIELD_PROMPT:
        return read_prompt(field, member, value, problem);
    case FIELD_IGNORED:
        return true;
    case FIELD_CHOICE:
        break;
    }
    return read_choice(field, member, value, problem);
}

static const struct field *fields_find(const struct field_table *table, const char *name, size_t size)
{
    for (size_t i = 0; i < table->count; i++)
        if (strlen(table->fields[i].name) == size && memcmp(table->fields[i].name, name, size) == 0)
            return &table->fields[i];
    return NULL;
}

static bool add_unknown(const struct field_table *table, const char *name, size_t size, struct problem *problem)
{
    if (size > NAME_MAX_SHOWN) size = NAME_MAX_SHOWN;
    char shown[NAME_MAX_SHOWN + 1];
    memcpy(shown, name, size);
    shown[size] = '\0';
    /* The search for the name that was meant takes time. Only errors that the answer lists get it. */
    if (problem->error_count >= PROBLEM_MAX_ERRORS) return problem_add_field(problem, shown, "unknown field");
    struct hint hint;
    hint_begin(&hint, shown);
    for (size_t i = 0; i < table->count; i++) hint_try(&hint, table->fields[i].name);
    if (hint.found) return problem_add_field(problem, shown, "unknown field; did you mean \"%s\"?", hint.found);
    return problem_add_field(problem, shown, "unknown field; %s",
                             hint.remark ? hint.remark : "/openapi.yaml lists all");
}

bool fields_read_json(const struct field_table *table, void *target, const json_t *object, uint64_t *given,
                      struct problem *problem)
{
    uint64_t seen = 0;
    bool good = true;
    /* jansson's iterators want a mutable object but do not change it. */
    json_t *members = (json_t *)(uintptr_t)object;
    for (void *at = json_object_iter(members); at; at = json_object_iter_next(members, at)) {
        const char *name = json_object_iter_key(at);
        const struct field *field = fields_find(table, name, json_object_iter_key_len(at));
        if (!field) {
            good = add_unknown(table, name, json_object_iter_key_len(at), problem);
            continue;
        }
        seen |= UINT64_C(1) << (field - table->fields);
        struct raw_value value = {.json = json_object_iter_value(at)};
        if (!read_value(field, target, &value, problem)) good = false;
    }
    if (given) *given = seen;
    return good;
}

bool fields_read_query(const struct field_table *table, void *target, const struct query *query, uint64_t *given,
                       struct problem *problem)
{
    uint64_t seen = 0;
    bool good = true;
    for (size_t i = 0; i < query->count; i++) {
        const struct query_pair *pair = &query->pairs[i];
        const struct field *field = fields_find(table, pair->name, pair->name_size);
        if (!field) {
            good = add_unknown(table, pair->name, pair->name_size, problem);
            continue;
        }
        uint64_t bit = UINT64_C(1) << (field - table->fields);
        if (seen & bit && field->type != FIELD_TEXTS) {
            good = problem_add_field(problem, field->name, "given twice");
            continue;
        }
        seen |= bit;
        struct raw_value value = {.query = {pair->value, pair->value_size}};
        if (!read_value(field, target, &value, problem)) good = false;
    }
    if (given) *given = seen;
    return good;
}
