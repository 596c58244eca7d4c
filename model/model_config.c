#include "model/model_config.h"

#include <float.h>
#include <stdlib.h>
#include <string.h>

#include "model/json_text.h"
#include "model/quantize.h"

/* Not to be taken from elsewhere when a configuration is written: we set these, or leave them out for a reason. */
static const char *const our_keys[] = {
    "format",      "cell",        "layers",  "hidden_size",       "embedding_size", "vocabulary_size", "token_level",
    "tie_weights", "reset_after", "weights", "vocabulary_sha256", "labels",         "training",
};

static bool out_of_memory(struct error *err)
{
    return error_set(err, ERROR_NO_MEMORY, "out of memory for a model's configuration");
}

/* ---- reading ---- */

static const char *read_text(const json_t *json, const char *key, struct error *err)
{
    const char *text = json_string_value(json_object_get(json, key));
    if (!text) error_set(err, ERROR_CORRUPT, "%s is missing or not a string", key);
    return text;
}

static bool read_count(const json_t *json, const char *key, uint32_t *count, struct error *err)
{
    const json_t *value = json_object_get(json, key);
    if (!json_is_integer(value)) return error_set(err, ERROR_CORRUPT, "%s is missing or not an integer", key);
    json_int_t number = json_integer_value(value);
    if (number < 0 || number > UINT32_MAX)
        return error_set(err, ERROR_CORRUPT, "%s is %" JSON_INTEGER_FORMAT ", which is out of range", key, number);
    *count = (uint32_t)number;
    return true;
}

static bool read_bool(const json_t *json, const char *key, bool *truth, struct error *err)
{
    const json_t *value = json_object_get(json, key);
    if (!json_is_boolean(value)) return error_set(err, ERROR_CORRUPT, "%s is missing, or not true or false", key);
    *truth = json_is_true(value);
    return true;
}

static bool check_format(const json_t *json, struct error *err)
{
    const char *format = read_text(json, "format", err);
    if (!format) return false;
    if (strcmp(format, CHECKPOINT_FORMAT) == 0) return true;
    return error_set(err, ERROR_CORRUPT, "format is \"%.64s\", but \"%s\" is what this program reads", format,
                     CHECKPOINT_FORMAT);
}

static bool read_architecture(struct architecture *a, const json_t *json, struct error *err)
{
    const char *cell = read_text(json, "cell", err);
    if (!cell) return false;
    if (!cell_parse(cell, &a->cell))
        return error_set(err, ERROR_CORRUPT, "cell is \"%.64s\", but must be lstm, gru or rnn", cell);
    if (!read_count(json, "layers", &a->layers, err) || !read_count(json, "hidden_size", &a->hidden_size, err) ||
        !read_count(json, "embedding_size", &a->embedding_size, err) ||
        !read_count(json, "vocabulary_size", &a->vocabulary_size, err) ||
        !read_bool(json, "tie_weights", &a->tie_weights, err))
        return false;
    struct error cause = {0};
    return architecture_validate(a, &cause) || error_set(err, ERROR_CORRUPT, "%s", cause.message);
}

/* Where the field is there, it must be what the program computes. */
static bool check_function(const json_t *json, const char *key, const char *computed, struct error *err)
{
    if (!json_object_get(json, key)) return true;
    const char *name = read_text(json, key, err);
    if (!name) return false;
    if (strcmp(name, computed) == 0) return true;
    return error_set(err, ERROR_CORRUPT, "%s is \"%.64s\", but %s alone is supported", key, name, computed);
}

static bool check_variant(const struct architecture *a, const json_t *json, struct error *err)
{
    if (!check_function(json, "activation", "tanh", err)) return false;
    if (!check_function(json, "recurrent_activation", "sigmoid", err)) return false;
    if (a->cell != CELL_GRU || !json_object_get(json, "reset_after")) return true;
    bool reset_after = false;
    if (!read_bool(json, "reset_after", &reset_after, err)) return false;
    return reset_after || error_set(err, ERROR_CORRUPT, "reset_after is false, but true alone is supported");
}

static bool read_vocabulary(struct model_config *config, const json_t *json, struct error *err)
{
    const char *level = read_text(json, "token_level", err);
    if (!level) return false;
    if (!token_level_parse(level, &config->token_level))
        return error_set(err, ERROR_CORRUPT, "token_level is \"%.64s\", but must be char, word or byte", level);
    const char *hash = read_text(json, "vocabulary_sha256", err);
    if (!hash) return false;
    if (strlen(hash) != SHA256_TEXT_SIZE - 1 || strspn(hash, "0123456789abcdef") != SHA256_TEXT_SIZE - 1)
        return error_set(err, ERROR_CORRUPT, "vocabulary_sha256 must be 64 lower-case hexadecimal digits");
    memcpy(config->vocabulary_sha256, hash, SHA256_TEXT_SIZE);
    return true;
}

/* Where there is no such field: float32. */
static bool read_format(struct model_config *config, const json_t *json, struct error *err)
{
    config->weights = KERNEL_F32;
    if (!json_object_get(json, "weights")) return true;
    const char *name = read_text(json, "weights", err);
    if (!name) return false;
    return kernel_format_parse(name, &config->weights) ||
           error_set(err, ERROR_CORRUPT, "weights is \"%.64s\", but must be f32, bf16 or int8", name);
}

static bool read_fields(struct model_config *config, const json_t *json, struct error *err)
{
    if (!check_format(json, err) || !read_architecture(&config->architecture, json, err) ||
        !check_variant(&config->architecture, json, err) || !read_format(config, json, err) ||
        !read_vocabulary(config, json, err))
        return false;
    const json_t *training = json_object_get(json, "training");
    return !training || json_is_object(training) || error_set(err, ERROR_CORRUPT, "training is not an object");
}

json_t *model_config_parse(struct model_config *config, const char *text, size_t n, const char *place,
                           struct error *err)
{
    json_error_t problem;
    json_t *json = json_loadb(text, n, JSON_REJECT_DUPLICATES, &problem);
    if (!json && problem.text[0] == '\0') {
        out_of_memory(err);
    } else if (!json) {
        error_set(err, ERROR_CORRUPT, "%s:%d:%d: not JSON: %s", place, problem.line, problem.column, problem.text);
    } else if (!json_is_object(json)) {
        error_set(err, ERROR_CORRUPT, "%s: not a JSON object", place);
    } else if (read_fields(config, json, err)) {
        return json;
    } else {
        error_add_context(err, "%s", place);
    }
    json_decref(json);
    return NULL;
}

static bool is_label(const struct vocabulary *vocabulary, uint32_t index, const json_t *value)
{
    size_t n;
    const char *label = vocabulary_token(vocabulary, vocabulary_label(vocabulary, index), &n);
    return json_is_string(value) && json_string_length(value) == n && memcmp(json_string_value(value), label, n) == 0;
}

bool model_config_check_labels(const json_t *json, const struct vocabulary *vocabulary, const char *place,
                               struct error *err)
{
    const json_t *labels = json_object_get(json, "labels");
    uint32_t count = vocabulary_label_count(vocabulary);
    bool same = labels ? json_is_array(labels) && json_array_size(labels) == count : count == 0;
    for (uint32_t i = 0; same && i < count; i++) same = is_label(vocabulary, i, json_array_get(labels, i));
    if (same) return true;
    return error_set(err, ERROR_CORRUPT, "%s: its %u labels are not those of config.json", place, count);
}

/* ---- writing ---- */

static bool put(json_t *json, const char *key, json_t *value)
{
    return json_object_set_new(json, key, value) == 0;
}

static json_t *labels_of(const struct vocabulary *vocabulary)
{
    json_t *labels = json_array();
    uint32_t count = vocabulary_label_count(vocabulary);
    for (uint32_t i = 0; i < count; i++) {
        size_t n;
        const char *label = vocabulary_token(vocabulary, vocabulary_label(vocabulary, i), &n);
        if (json_array_append_new(labels, json_stringn(label, n)) == 0) continue;
        json_decref(labels);
        return NULL;
    }
    return labels;
}

static bool put_fields(json_t *json, const struct model_config *config, const struct vocabulary *vocabulary)
{
    const struct architecture *a = &config->architecture;
    if (!put(json, "format", json_string(CHECKPOINT_FORMAT)) || !put(json, "cell", json_string(cell_name(a->cell))) ||
        !put(json, "layers", json_integer(a->layers)) || !put(json, "hidden_size", json_integer(a->hidden_size)) ||
        !put(json, "embedding_size", json_integer(a->embedding_size)) ||
        !put(json, "vocabulary_size", json_integer(a->vocabulary_size)) ||
        !put(json, "token_level", json_string(token_level_name(config->token_level))) ||
        !put(json, "tie_weights", json_boolean(a->tie_weights)))
        return false;
    if (a->cell == CELL_GRU && !put(json, "reset_after", json_true())) return false;
    if (config->weights != KERNEL_F32 && !put(json, "weights", json_string(kernel_format_name(config->weights))))
        return false;
    if (!put(json, "vocabulary_sha256", json_string(config->vocabulary_sha256))) return false;
    return vocabulary_label_count(vocabulary) == 0 || put(json, "labels", labels_of(vocabulary));
}

static bool is_our_key(const char *key)
{
    for (size_t i = 0; i < sizeof our_keys / sizeof our_keys[0]; i++)
        if (strcmp(key, our_keys[i]) == 0) return true;
    return false;
}

/* Copies, because a value that is counted by two owners is no longer the borrowed object that its owner gave. */
static bool put_extra(json_t *json, const json_t *extra)
{
    const char *key;
    json_t *value;
    json_object_foreach((json_t *)extra, key, value)
    {
        if (!is_our_key(key) && !put(json, key, json_deep_copy(value))) return false;
    }
    return true;
}

char *model_config_print(const struct model_config *config, const struct vocabulary *vocabulary, const json_t *training,
                         const json_t *extra, size_t *n, struct error *err)
{
    char *text = NULL;
    json_t *json = json_object();
    if (json && put_fields(json, config, vocabulary) &&
        (!training || put(json, "training", json_deep_copy(training))) && (!extra || put_extra(json, extra)))
        text = json_text_print(json, JSON_INDENT(2) | JSON_REAL_PRECISION(DBL_DIG), n, err);
    json_decref(json);
    if (!text) {
        out_of_memory(err);
        return NULL;
    }
    text[(*n)++] = '\n'; /* in the place of the NUL: a text file ends its last line */
    return text;
}
