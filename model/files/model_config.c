#include "model/files/model_config.h"

#include <float.h>
#include <stdlib.h>
#include <string.h>

#include "base/json.h"
#include "model/network/quantize.h"

/* Keys that lstmd sets itself, or leaves out for a reason. Writing takes none of them from elsewhere. */
static const char *const our_keys[] = {
    "format",          "cell",        "layers",      "hidden_size", "hidden_sizes",         "embedding_size",
    "vocabulary_size", "token_level", "tie_weights", "activation",  "recurrent_activation", "reset_after",
    "dense",           "window",      "weights",     "labels",      "vocabulary_sha256",    "training",
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

/* Reads a size per layer. The last one, the top layer's, must be hidden_size. */
static bool read_sizes(struct architecture *a, const json_t *json, struct error *err)
{
    const json_t *sizes = json_object_get(json, "hidden_sizes");
    if (!sizes || a->layers < 1 || a->layers > NETWORK_MAX_LAYERS) return true; /* architecture_check() names layers */
    if (!json_is_array(sizes) || json_array_size(sizes) != a->layers)
        return error_set(err, ERROR_CORRUPT, "hidden_sizes is not an array with a size for each of %u layers",
                         a->layers);
    for (size_t k = 0; k < a->layers; k++) {
        const json_int_t size = json_integer_value(json_array_get(sizes, k));
        if (size < 1 || size > NETWORK_MAX_HIDDEN)
            return error_set(err, ERROR_CORRUPT, "hidden_sizes[%zu] is not an integer from 1 to %u", k,
                             NETWORK_MAX_HIDDEN);
        a->hidden_sizes[k] = (uint32_t)size;
    }
    if (a->hidden_sizes[a->layers - 1] == a->hidden_size) return true;
    return error_set(err, ERROR_CORRUPT, "hidden_sizes ends with %u, but hidden_size, the top layer's, is %u",
                     a->hidden_sizes[a->layers - 1], a->hidden_size);
}

/* An absent field means the default. */
static bool read_activation(const json_t *json, const char *key, enum activation *activation, struct error *err)
{
    if (!json_object_get(json, key)) return true;
    const char *name = read_text(json, key, err);
    if (!name) return false;
    return activation_parse(name, activation) ||
           error_set(err, ERROR_CORRUPT,
                     "%s is \"%.64s\", but must be tanh, sigmoid, relu, linear, hard_sigmoid or hard_sigmoid_keras2",
                     key, name);
}

static bool read_dense(struct architecture *a, const json_t *json, struct error *err)
{
    const json_t *list = json_object_get(json, "dense");
    if (!list) return true;
    if (!json_is_array(list) || json_array_size(list) > NETWORK_MAX_DENSE)
        return error_set(err, ERROR_CORRUPT, "dense is not an array of at most %d layers", NETWORK_MAX_DENSE);
    a->dense_layers = (uint32_t)json_array_size(list);
    for (size_t d = 0; d < a->dense_layers; d++) {
        const json_t *layer = json_array_get(list, d);
        if (!read_count(layer, "size", &a->dense[d].size, err) ||
            !read_activation(layer, "activation", &a->dense[d].activation, err))
            return error_add_context(err, "dense[%zu]", d);
    }
    return true;
}

static bool read_window(struct architecture *a, const json_t *json, struct error *err)
{
    const json_t *window = json_object_get(json, "window");
    if (!window) return true;
    if (!read_count(window, "size", &a->window.size, err) || !read_bool(window, "masked", &a->window.masked, err))
        return error_add_context(err, "window");
    return a->window.size > 0 || error_set(err, ERROR_CORRUPT, "window: size is 0, but must be at least 1");
}

static bool read_variant(struct architecture *a, const json_t *json, struct error *err)
{
    bool reset_after = true;
    if (!read_sizes(a, json, err) || !read_activation(json, "activation", &a->activation, err) ||
        !read_activation(json, "recurrent_activation", &a->recurrent_activation, err) || !read_dense(a, json, err) ||
        !read_window(a, json, err))
        return false;
    if (json_object_get(json, "reset_after") && !read_bool(json, "reset_after", &reset_after, err)) return false;
    a->reset_before = !reset_after;
    return true;
}

static bool read_architecture(struct architecture *a, const json_t *json, struct error *err)
{
    const char *cell = read_text(json, "cell", err);
    if (!cell) return false;
    if (!cell_parse(cell, &a->cell))
        return error_set(err, ERROR_CORRUPT, "cell is \"%.64s\", but must be " CELL_NAMES, cell);
    if (!read_count(json, "layers", &a->layers, err) || !read_count(json, "hidden_size", &a->hidden_size, err) ||
        !read_count(json, "embedding_size", &a->embedding_size, err) ||
        !read_count(json, "vocabulary_size", &a->vocabulary_size, err) ||
        !read_bool(json, "tie_weights", &a->tie_weights, err) || !read_variant(a, json, err))
        return false;
    struct error cause = {0};
    return architecture_validate(a, &cause) || error_set(err, ERROR_CORRUPT, "%s", cause.message);
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

/* An absent field means float32. */
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
        !read_format(config, json, err) || !read_vocabulary(config, json, err))
        return false;
    const json_t *training = json_object_get(json, "training");
    return !training || json_is_object(training) || error_set(err, ERROR_CORRUPT, "training is not an object");
}

json_t *model_config_parse(struct model_config *config, const char *text, size_t n, const char *place,
                           struct error *err)
{
    json_error_t problem;
    json_t *json = json_text_parse(text, n, JSON_REJECT_DUPLICATES, &problem);
    if (!json && json_text_lacked_memory(&problem)) {
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

static bool put_value(json_t *json, const char *key, json_t *value)
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

static json_t *sizes_of(const struct architecture *a)
{
    json_t *sizes = json_array();
    for (size_t k = 0; k < a->layers; k++) {
        if (json_array_append_new(sizes, json_integer((json_int_t)architecture_hidden(a, k))) == 0) continue;
        json_decref(sizes);
        return NULL;
    }
    return sizes;
}

static json_t *dense_of(const struct architecture *a)
{
    json_t *list = json_array();
    for (size_t d = 0; d < a->dense_layers; d++) {
        json_t *layer = json_pack("{s:I, s:s}", "size", (json_int_t)a->dense[d].size, "activation",
                                  activation_name(a->dense[d].activation));
        if (json_array_append_new(list, layer) == 0) continue;
        json_decref(list);
        return NULL;
    }
    return list;
}

bool model_config_put_variant(json_t *json, const struct architecture *architecture)
{
    struct architecture complete = *architecture;
    const struct architecture *a = &complete;
    architecture_complete(&complete);
    const bool own_gates = cell_table[a->cell].gated && a->recurrent_activation != ACTIVATION_SIGMOID;
    if (!architecture_is_uniform(a) && !put_value(json, "hidden_sizes", sizes_of(a))) return false;
    if (a->activation != ACTIVATION_TANH && !put_value(json, "activation", json_string(activation_name(a->activation))))
        return false;
    if (own_gates && !put_value(json, "recurrent_activation", json_string(activation_name(a->recurrent_activation))))
        return false;
    if (cell_table[a->cell].may_reset_before && !put_value(json, "reset_after", json_boolean(!a->reset_before)))
        return false;
    if (a->dense_layers > 0 && !put_value(json, "dense", dense_of(a))) return false;
    return a->window.size == 0 ||
           put_value(json, "window",
                     json_pack("{s:I, s:b}", "size", (json_int_t)a->window.size, "masked", (int)a->window.masked));
}

static bool put_fields(json_t *json, const struct model_config *config, const struct vocabulary *vocabulary)
{
    const struct architecture *a = &config->architecture;
    if (!put_value(json, "format", json_string(CHECKPOINT_FORMAT)) ||
        !put_value(json, "cell", json_string(cell_name(a->cell))) ||
        !put_value(json, "layers", json_integer(a->layers)) ||
        !put_value(json, "hidden_size", json_integer(a->hidden_size)) ||
        !put_value(json, "embedding_size", json_integer(a->embedding_size)) ||
        !put_value(json, "vocabulary_size", json_integer(a->vocabulary_size)) ||
        !put_value(json, "token_level", json_string(token_level_name(config->token_level))) ||
        !put_value(json, "tie_weights", json_boolean(a->tie_weights)) || !model_config_put_variant(json, a))
        return false;
    if (config->weights != KERNEL_F32 && !put_value(json, "weights", json_string(kernel_format_name(config->weights))))
        return false;
    if (!put_value(json, "vocabulary_sha256", json_string(config->vocabulary_sha256))) return false;
    return vocabulary_label_count(vocabulary) == 0 || put_value(json, "labels", labels_of(vocabulary));
}

static bool is_our_key(const char *key)
{
    for (size_t i = 0; i < sizeof our_keys / sizeof our_keys[0]; i++)
        if (strcmp(key, our_keys[i]) == 0) return true;
    return false;
}

/* Copies: a shared value would no longer be the borrowed object that its owner gave. */
static bool put_extra(json_t *json, const json_t *extra)
{
    const char *key;
    json_t *value;
    json_object_foreach((json_t *)extra, key, value)
    {
        if (!is_our_key(key) && !put_value(json, key, json_deep_copy(value))) return false;
    }
    return true;
}

char *model_config_print(const struct model_config *config, const struct vocabulary *vocabulary, const json_t *training,
                         const json_t *extra, size_t *n, struct error *err)
{
    char *text = NULL;
    json_t *json = json_object();
    if (json && put_fields(json, config, vocabulary) &&
        (!training || put_value(json, "training", json_deep_copy(training))) && (!extra || put_extra(json, extra)))
        text = json_text_print(json, JSON_INDENT(2) | JSON_REAL_PRECISION(DBL_DIG), n, err);
    json_decref(json);
    if (!text) {
        out_of_memory(err);
        return NULL;
    }
    text[(*n)++] = '\n'; /* takes the place of the NUL: the last line of a text file ends, too */
    return text;
}
