#include "server/fields.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/distance.h"
#include "base/utf8.h"
#include "model/json_text.h"

#define NAME_MAX_SHOWN 64 /* bytes of an unknown name that an error repeats */

/* One value as it came, before its type is known to be right. */
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

json_t *fields_parse_body(const char *body, size_t size, struct problem *problem)
{
    /* Integers become doubles: exact as far as 2^53, and one that is too big is then a wrong field, not a syntax error.
     */
    const size_t flags = JSON_ALLOW_NUL | JSON_DECODE_ANY | JSON_DECODE_INT_AS_REAL;
    size_t valid = utf8_valid_prefix(body, size);
    if (size == 0) {
        problem_set(problem, 400, "the body is empty, and must be a JSON object");
        return NULL;
    }
    if (valid < size) {
        problem_set(problem, 400, "the body is not JSON: invalid UTF-8 at byte %zu", valid);
        return NULL;
    }
    json_error_t error;
    json_t *json = json_text_parse(body, size, flags | JSON_REJECT_DUPLICATES, &error);
    if (!json && json_error_code(&error) == json_error_duplicate_key) {
        add_duplicate_key(problem, body, size, (size_t)error.position);
        json = json_text_parse(body, size, flags, &error);
    }
    if (!json && json_text_lacked_memory(&error)) {
        problem_set(problem, 503, "out of memory (%zu bytes of JSON)", size);
        return NULL;
    }
    if (!json) {
        problem->status = 0;
        problem_set(problem, 400, "the body is not JSON: %s, at byte %d", error.text, error.position);
        return NULL;
    }
    if (!json_is_object(json)) {
        problem_set(problem, 422, "the body must be a JSON object, not %s", json_type_name(json));
        json_decref(json);
        return NULL;
    }
    return json;
}

static bool read_text(const struct field *field, void *member, const struct raw_value *value, struct problem *problem)
{
    struct field_text text = value->query;
    if (value->json) {
        if (!json_is_string(value->json))
            return problem_add_field(problem, field->name, "must be a string, not %s", json_type_name(value->json));
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
    double number;
    if (value->json) {
        if (!json_is_number(value->json))
            return problem_add_field(problem, field->name, "must be %s, not %s", kind, json_type_name(value->json));
        number = json_number_value(value->json);
    } else if (!parse_number(value->query, &number)) {
        return problem_add_field(problem, field->name, "must be %s, not \"%.*s\"", kind,
                                 (int)(value->query.size < NAME_MAX_SHOWN ? value->query.size : NAME_MAX_SHOWN),
                                 value->query.data);
    }
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
    return problem_add_field(problem, field->name, "must be %s", known);
}

static bool read_bool(const struct field *field, void *member, const struct raw_value *value, struct problem *problem)
{
    const struct field_text text = value->query;
    const bool yes = value->json ? json_is_true(value->json) : text.size == 4 && memcmp(text.data, "true", 4) == 0;
    const bool no = value->json ? json_is_false(value->json) : text.size == 5 && memcmp(text.data, "false", 5) == 0;
    if (!yes && !no) return problem_add_field(problem, field->name, "must be true or false");
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
    if (value->json && !json_is_array(value->json) && !json_is_string(value->json))
        return problem_add_field(problem, field->name, "must be a string or an array of strings, not %s",
                                 json_type_name(value->json));
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
    case FIELD_IGNORED:
        return true;
    case FIELD_CHOICE:
        break;
    }
    return read_choice(field, member, value, problem);
}

static const struct field *find(const struct field_table *table, const char *name, size_t size)
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
    const char *nearest = "";
    size_t best = SIZE_MAX;
    for (size_t i = 0; i < table->count; i++) {
        size_t d = text_distance(shown, table->fields[i].name);
        if (d >= best) continue;
        best = d;
        nearest = table->fields[i].name;
    }
    return problem_add_field(problem, shown, "unknown field; the nearest known one is \"%s\"", nearest);
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
        const struct field *field = find(table, name, json_object_iter_key_len(at));
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
        const struct field *field = find(table, pair->name, pair->name_size);
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
