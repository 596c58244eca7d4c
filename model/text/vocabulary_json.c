/* A vocabulary as JSON, the text of vocabulary.json: strict reading, and writing that always gives the same bytes. */
#include <jansson.h>
#include <stdlib.h>
#include <string.h>

#include "base/json.h"
#include "base/utf8.h"
#include "model/text/vocabulary_internal.h"

/* ---- reading ---- */

struct vocabulary_reading {
    const char *place;
    json_t *root;
    enum token_level level;
    bool lower;
    const char *filters; /* NULL except for words */
    json_t *tokens;
    size_t size;
    uint32_t eos, pad, unknown;
    bool eos_only_ends;
    uint8_t *label; /* [size] 1: a label */
};

static bool parse_json(struct vocabulary_reading *reading, const char *json, size_t n, struct error *err)
{
    json_error_t cause;
    reading->root = json_text_parse(json, n, JSON_REJECT_DUPLICATES | JSON_ALLOW_NUL, &cause);
    if (!reading->root) {
        if (json_text_lacked_memory(&cause)) return error_set_no_memory(err, n, "a vocabulary");
        return error_set(err, ERROR_CORRUPT, "%s:%d:%d: not JSON: %s", reading->place, cause.line, cause.column,
                         cause.text);
    }
    if (json_is_object(reading->root)) return true;
    return error_set(err, ERROR_CORRUPT, "%s: not a JSON object", reading->place);
}

static bool check_keys(const struct vocabulary_reading *reading, struct error *err)
{
    static const char *const known[] = {"level",      "lower", "filters", "tokens", "eos",
                                        "eos_starts", "pad",   "unknown", "labels"};
    const char *key;
    json_t *value;
    json_object_foreach(reading->root, key, value)
    {
        bool found = false;
        for (size_t i = 0; i < sizeof known / sizeof *known; i++) found |= strcmp(key, known[i]) == 0;
        if (!found) return error_set(err, ERROR_CORRUPT, "%s: unknown field \"%.64s\"", reading->place, key);
    }
    return true;
}

static bool read_level(struct vocabulary_reading *reading, struct error *err)
{
    const char *name = json_string_value(json_object_get(reading->root, "level"));
    if (name && token_level_parse(name, &reading->level)) return true;
    return error_set(err, ERROR_CORRUPT, "%s: level must be \"char\", \"word\" or \"byte\"", reading->place);
}

static bool read_rules(struct vocabulary_reading *reading, struct error *err)
{
    const json_t *lower = json_object_get(reading->root, "lower"), *filters = json_object_get(reading->root, "filters");
    bool words = reading->level == TOKEN_LEVEL_WORD;
    if (lower ? !json_is_boolean(lower) : words)
        return error_set(err, ERROR_CORRUPT, "%s: lower must be true or false", reading->place);
    reading->lower = json_is_true(lower);
    if (reading->lower && reading->level == TOKEN_LEVEL_BYTE)
        return error_set(err, ERROR_CORRUPT, "%s: lower cannot be true for level byte", reading->place);
    if (!words && filters)
        return error_set(err, ERROR_CORRUPT, "%s: filters belong to level word alone", reading->place);
    reading->filters = json_string_value(filters);
    if (words && (!reading->filters || strlen(reading->filters) != json_string_length(filters)))
        return error_set(err, ERROR_CORRUPT, "%s: filters must be a string without U+0000", reading->place);
    return true;
}

static bool read_size(struct vocabulary_reading *reading, struct error *err)
{
    reading->tokens = json_object_get(reading->root, "tokens");
    if (!json_is_array(reading->tokens))
        return error_set(err, ERROR_CORRUPT, "%s: tokens must be an array of strings", reading->place);
    reading->size = json_array_size(reading->tokens);
    if (reading->size == 0 || reading->size > VOCABULARY_MAX_TOKENS)
        return error_set(err, ERROR_CORRUPT, "%s: %zu tokens; there must be 1 to %u", reading->place, reading->size,
                         VOCABULARY_MAX_TOKENS);
    reading->label = calloc(reading->size, 1);
    return reading->label || error_set_no_memory(err, reading->size, "a vocabulary");
}

/* Whether a JSON value is the id of some token. */
static bool is_id(const struct vocabulary_reading *reading, const json_t *value)
{
    json_int_t id = json_integer_value(value);
    return json_is_integer(value) && id >= 0 && (unsigned long long)id < reading->size;
}

static bool read_special(const struct vocabulary_reading *reading, const char *field, uint32_t *id, struct error *err)
{
    const json_t *value = json_object_get(reading->root, field);
    *id = TOKEN_NONE;
    if (json_is_null(value)) return true;
    if (!is_id(reading, value))
        return error_set(err, ERROR_CORRUPT, "%s: %s must be null or an id from 0 to %zu", reading->place, field,
                         reading->size - 1);
    *id = (uint32_t)json_integer_value(value);
    return true;
}

static bool read_specials(struct vocabulary_reading *reading, struct error *err)
{
    if (!read_special(reading, "eos", &reading->eos, err) || !read_special(reading, "pad", &reading->pad, err) ||
        !read_special(reading, "unknown", &reading->unknown, err))
        return false;
    uint32_t eos = reading->eos, pad = reading->pad, unknown = reading->unknown;
    if ((eos != TOKEN_NONE && (eos == pad || eos == unknown)) || (pad != TOKEN_NONE && pad == unknown))
        return error_set(err, ERROR_CORRUPT, "%s: eos, pad and unknown must be different ids", reading->place);
    return true;
}

/* An absent field means true, where there is an eos. */
static bool read_eos_starts(struct vocabulary_reading *reading, struct error *err)
{
    const json_t *starts = json_object_get(reading->root, "eos_starts");
    if (starts && (!json_is_boolean(starts) || reading->eos == TOKEN_NONE))
        return error_set(err, ERROR_CORRUPT, "%s: eos_starts must be true or false, and belongs to an eos",
                         reading->place);
    reading->eos_only_ends = json_is_false(starts);
    return true;
}

static bool is_special(const struct vocabulary_reading *reading, uint32_t id)
{
    return id == reading->eos || id == reading->pad || id == reading->unknown;
}

/* Ids of labels must rise: this keeps their order, and no label can come twice. */
static bool read_labels(struct vocabulary_reading *reading, struct error *err)
{
    const json_t *labels = json_object_get(reading->root, "labels"), *value;
    if (labels && !json_is_array(labels))
        return error_set(err, ERROR_CORRUPT, "%s: labels must be an array of ids", reading->place);
    json_int_t last = -1;
    size_t i;
    json_array_foreach(labels, i, value)
    {
        if (!is_id(reading, value) || json_integer_value(value) <= last)
            return error_set(err, ERROR_CORRUPT, "%s: labels[%zu] must be an id up to %zu, above the one before",
                             reading->place, i, reading->size - 1);
        last = json_integer_value(value);
        if (is_special(reading, (uint32_t)last))
            return error_set(err, ERROR_CORRUPT, "%s: labels[%zu] is the id of a special token", reading->place, i);
        reading->label[last] = 1;
    }
    return true;
}

static bool bad_token(const struct vocabulary_reading *reading, size_t id, const char *what, struct error *err)
{
    return error_set(err, ERROR_CORRUPT, "%s: tokens[%zu] %s", reading->place, id, what);
}

static bool add_label(const struct vocabulary_reading *reading, struct vocabulary *vocabulary, size_t id,
                      const json_t *value, struct error *err)
{
    bool added;
    const char *name = json_string_value(value);
    size_t n = json_string_length(value);
    if (n == 0 || strlen(name) != n) return bad_token(reading, id, "is not a label: empty, or with U+0000", err);
    if (!vocabulary_add_label(vocabulary, name, n, &added, err)) return false;
    return added || bad_token(reading, id, "is a label that came before", err);
}

static bool add_text(const struct vocabulary_reading *reading, struct vocabulary *vocabulary, size_t id,
                     const json_t *value, struct error *err)
{
    const char *text = json_string_value(value);
    size_t n = json_string_length(value);
    uint32_t code = 0;
    bool one = n && utf8_decode(text, n, &code) == n;
    char byte = (char)code;
    if (n == 0) return bad_token(reading, id, "is empty", err);
    if (reading->level == TOKEN_LEVEL_CHAR && !one) return bad_token(reading, id, "is not one character", err);
    if (reading->level == TOKEN_LEVEL_BYTE) {
        if (!one || code > 0xFF) return bad_token(reading, id, "is not one character up to U+00FF", err);
        text = &byte;
        n = 1;
    }
    bool added;
    if (!vocabulary_add_text(vocabulary, text, n, &added, err)) return false;
    return added || bad_token(reading, id, "came before", err);
}

static bool add_tokens(const struct vocabulary_reading *reading, struct vocabulary *vocabulary, struct error *err)
{
    const json_t *value;
    size_t id;
    json_array_foreach(reading->tokens, id, value)
    {
        if (!json_is_string(value)) return bad_token(reading, id, "is not a string", err);
        bool ok;
        if (reading->label[id])
            ok = add_label(reading, vocabulary, id, value, err);
        else if (is_special(reading, (uint32_t)id))
            ok = vocabulary_add_special(vocabulary, json_string_value(value), json_string_length(value), err);
        else
            ok = add_text(reading, vocabulary, id, value, err);
        if (!ok) return false;
    }
    return true;
}

static struct vocabulary *make_vocabulary(const struct vocabulary_reading *reading, struct error *err)
{
    struct vocabulary *vocabulary =
        vocabulary_new(reading->level, reading->lower, reading->filters, (uint32_t)reading->size, err);
    if (!vocabulary) return NULL;
    vocabulary->eos = reading->eos;
    vocabulary->eos_only_ends = reading->eos_only_ends;
    vocabulary->pad = reading->pad;
    vocabulary->unknown = reading->unknown;
    if (add_tokens(reading, vocabulary, err)) return vocabulary;
    vocabulary_free(vocabulary);
    return NULL;
}

struct vocabulary *vocabulary_from_json(const char *json, size_t n, const char *place, struct error *err)
{
    struct vocabulary_reading reading = {.place = place};
    struct vocabulary *vocabulary = NULL;
    if (parse_json(&reading, json, n, err) && check_keys(&reading, err) && read_level(&reading, err) &&
        read_rules(&reading, err) && read_size(&reading, err) && read_specials(&reading, err) &&
        read_eos_starts(&reading, err) && read_labels(&reading, err))
        vocabulary = make_vocabulary(&reading, err);
    free(reading.label);
    json_decref(reading.root);
    return vocabulary;
}

/* ---- writing ---- */

static json_t *token_to_json(const struct vocabulary *vocabulary, uint32_t id)
{
    size_t n;
    const char *text = vocabulary_token(vocabulary, id, &n);
    if (vocabulary->level != TOKEN_LEVEL_BYTE || vocabulary->special[id]) return json_stringn(text, n);
    char character[UTF8_MAX_BYTES];
    return json_stringn(character, utf8_encode((unsigned char)*text, character));
}

static json_t *tokens_to_json(const struct vocabulary *vocabulary)
{
    json_t *tokens = json_array();
    for (uint32_t id = 0; tokens && id < vocabulary->tokens.count; id++) {
        if (json_array_append_new(tokens, token_to_json(vocabulary, id)) == 0) continue;
        json_decref(tokens);
        return NULL;
    }
    return tokens;
}

static json_t *labels_to_json(const struct vocabulary *vocabulary)
{
    json_t *labels = json_array();
    for (uint32_t i = 0; labels && i < vocabulary->label_names.count; i++) {
        if (json_array_append_new(labels, json_integer(vocabulary->labels[i])) == 0) continue;
        json_decref(labels);
        return NULL;
    }
    return labels;
}

static json_t *id_to_json(uint32_t id)
{
    return id == TOKEN_NONE ? json_null() : json_integer(id);
}

/* The fields always come in this order. NULL: no memory. */
static json_t *vocabulary_to_object(const struct vocabulary *vocabulary)
{
    json_t *root = json_object();
    bool words = vocabulary->level == TOKEN_LEVEL_WORD, lower = vocabulary->rules.lower;
    int failed = json_object_set_new(root, "level", json_string(token_level_name(vocabulary->level)));
    if (words || lower) failed |= json_object_set_new(root, "lower", json_boolean(lower));
    if (words) failed |= json_object_set_new(root, "filters", json_string(vocabulary->rules.filters));
    failed |= json_object_set_new(root, "tokens", tokens_to_json(vocabulary));
    failed |= json_object_set_new(root, "eos", id_to_json(vocabulary->eos));
    if (vocabulary->eos_only_ends) failed |= json_object_set_new(root, "eos_starts", json_false());
    failed |= json_object_set_new(root, "pad", id_to_json(vocabulary->pad));
    failed |= json_object_set_new(root, "unknown", id_to_json(vocabulary->unknown));
    if (vocabulary->label_names.count) failed |= json_object_set_new(root, "labels", labels_to_json(vocabulary));
    if (!failed) return root;
    json_decref(root);
    return NULL;
}

char *vocabulary_to_json(const struct vocabulary *vocabulary, size_t *n, struct error *err)
{
    json_t *root = vocabulary_to_object(vocabulary);
    size_t size = root ? json_dumpb(root, NULL, 0, 0) : 0;
    char *text = size ? malloc(size + 2) : NULL;
    if (text && json_dumpb(root, text, size, 0) == size) {
        memcpy(text + size, "\n", 2);
        *n = size + 1;
    } else {
        error_set_no_memory(err, vocabulary->tokens.text_size, "the JSON of a vocabulary");
        free(text);
        text = NULL;
    }
    json_decref(root);
    return text;
}
