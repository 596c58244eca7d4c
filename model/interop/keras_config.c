#include <stdlib.h>
#include <string.h>

#include "base/json.h"
#include "model/interop/keras.h"
#include "model/interop/keras_chain.h"

/* What lstmd does with layers of a class. */
enum part {
    PART_NOTHING,    /* does nothing when the model is used */
    PART_INPUT,      /* InputLayer */
    PART_MASKING,    /* Masking */
    PART_EMBEDDING,  /* Embedding */
    PART_RECURRENT,  /* a class of cells.h */
    PART_DENSE,      /* Dense */
    PART_ACTIVATION, /* Activation */
    PART_SOFTMAX,    /* Softmax */
};

static const struct keras_class {
    const char *name;
    enum part part;
    const char *stem; /* its name in archives; NULL: it has no weights */
    enum cell_kind cell;
    bool cudnn; /* the configuration names no activations: tanh and sigmoid, with the reset after the product */
} classes[] = {
    /* without the recurrent ones: find_recurrent() */
    {"InputLayer", PART_INPUT, NULL, 0, false},
    {"Masking", PART_MASKING, NULL, 0, false},
    {"Embedding", PART_EMBEDDING, "embedding", 0, false},
    {"Dense", PART_DENSE, "dense", 0, false},
    {"TimeDistributedDense", PART_DENSE, "dense", 0, false}, /* in Keras 1 */
    {"Activation", PART_ACTIVATION, NULL, 0, false},
    {"Softmax", PART_SOFTMAX, NULL, 0, false},
    {"Dropout", PART_NOTHING, NULL, 0, false},
    {"SpatialDropout1D", PART_NOTHING, NULL, 0, false},
    {"GaussianDropout", PART_NOTHING, NULL, 0, false},
    {"GaussianNoise", PART_NOTHING, NULL, 0, false},
    {"AlphaDropout", PART_NOTHING, NULL, 0, false},
    {"ActivityRegularization", PART_NOTHING, NULL, 0, false},
};

#define SUPPORTED                                                                                                      \
    "a chain of Embedding, LSTM, GRU or SimpleRNN (CuDNN's too), Dropout and its kin, Masking, TimeDistributed, "      \
    "Dense, "                                                                                                          \
    "Activation and Softmax is imported"

/* A walk along the chain. */
struct walk {
    const struct keras_chain *chain;
    const struct keras_entry *entry; /* the current layer */
    struct keras_class class;        /* its class */
    struct keras_model *model;
    unsigned major;
    const struct keras_entry *recurrent; /* the last recurrent layer so far */
    uint32_t embedding_rows;
    bool softmax; /* a softmax came; nothing may follow */
};

#define REFUSE(walk, err, ...) keras_refuse((walk)->chain, (walk)->entry, (err), __VA_ARGS__)

static bool is_named(const char *class, const char *name)
{
    return class && strcmp(class, name) == 0;
}

static bool find_recurrent(const char *name, struct keras_class *class)
{
    for (size_t i = 0; i < CELL_COUNT; i++) {
        const struct cell_keras *keras = &cell_table[i].keras;
        const bool cudnn = is_named(keras->cudnn_class, name);
        if (!cudnn && !is_named(keras->class, name)) continue;
        *class = (struct keras_class){.name = name,
                                      .part = PART_RECURRENT,
                                      .stem = cudnn ? keras->cudnn_name : keras->name,
                                      .cell = (enum cell_kind)i,
                                      .cudnn = cudnn};
        return true;
    }
    return false;
}

static bool find_class(const char *name, struct keras_class *class)
{
    for (size_t i = 0; i < sizeof classes / sizeof classes[0]; i++) {
        if (strcmp(classes[i].name, name) != 0) continue;
        *class = classes[i];
        return true;
    }
    return find_recurrent(name, class);
}

/* --- Fields of a layer's configuration --- */

/* Fields whose names Keras 1 did not know yet, and what it called them. (An Embedding's output_dim has kept its
 * name.) */
static const char *name_of_keras1(const char *key)
{
    static const char *const names[][2] = {
        {"units", "output_dim"}, {"use_bias", "bias"}, {"recurrent_activation", "inner_activation"}};
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++)
        if (strcmp(names[i][0], key) == 0) return names[i][1];
    return key;
}

static const json_t *config_field(const struct walk *walk, const char *key)
{
    return json_object_get(walk->entry->config, walk->major < 2 ? name_of_keras1(key) : key);
}

static bool read_size(const struct walk *walk, const char *key, uint32_t *size, struct error *err)
{
    const json_t *value = config_field(walk, key);
    if (!json_is_integer(value) || json_integer_value(value) < 1 || json_integer_value(value) > UINT32_MAX)
        return REFUSE(walk, err, "%s is not a positive integer", key);
    *size = (uint32_t)json_integer_value(value);
    return true;
}

/* Absent means `otherwise`. */
static bool read_flag(const struct walk *walk, const char *key, bool otherwise, bool *flag, struct error *err)
{
    const json_t *value = config_field(walk, key);
    *flag = value ? json_is_true(value) : otherwise;
    return !value || json_is_boolean(value) || REFUSE(walk, err, "%s is neither true nor false", key);
}

static bool refuse_flag(const struct walk *walk, const char *key, struct error *err)
{
    bool flag;
    if (!read_flag(walk, key, false, &flag, err)) return false;
    return !flag || REFUSE(walk, err, "%s is not imported", key);
}

/* The name of an activation: a text, or a function in the form of Keras 3. Absent or null means linear. */
static const char *activation_text(const json_t *value)
{
    if (!value || json_is_null(value)) return "linear";
    if (json_is_object(value)) value = json_object_get(value, "config");
    return json_is_string(value) ? json_string_value(value) : NULL;
}

/* `softmax` NULL: softmax is not allowed here. */
static bool read_activation(const struct walk *walk, const char *key, enum activation *activation, bool *softmax,
                            struct error *err)
{
    const char *name = activation_text(config_field(walk, key));
    if (softmax) *softmax = name && strcmp(name, "softmax") == 0;
    *activation = ACTIVATION_LINEAR;
    if (softmax && *softmax) return true;
    if (!name || strcmp(name, "hard_sigmoid_keras2") == 0 || !activation_parse(name, activation))
        return REFUSE(walk, err, "%s %.64s is not one of tanh, sigmoid, relu, linear, hard_sigmoid%s", key,
                      name ? name : "is not a name and", softmax ? ", softmax" : "");
    if (*activation == ACTIVATION_HARD_SIGMOID && walk->major < 3) *activation = ACTIVATION_HARD_SIGMOID_KERAS2;
    return true;
}

/* --- The parts of a model --- */

static bool add_layer(struct walk *walk, enum keras_role role, size_t index, const char *inside, bool bias,
                      struct error *err)
{
    if (walk->model->layer_count == KERAS_MAX_WEIGHED) return REFUSE(walk, err, "there are too many layers before it");
    bool distributed = walk->entry->distributed;
    walk->model->layers[walk->model->layer_count++] = (struct keras_layer){
        .role = role,
        .index = index,
        .bias = bias,
        .name = walk->entry->name,
        .kind = walk->entry->kind,
        .stem = distributed ? "time_distributed" : walk->class.stem,
        .inside = distributed ? "layer/" : inside,
        .ordinal = walk->entry->ordinal,
    };
    return true;
}

/* The length of the sequences that the model was built for, where a layer says it. */
static void note_window(const struct walk *walk)
{
    const json_t *shape = config_field(walk, walk->major < 3 ? "batch_input_shape" : "batch_shape");
    if (!shape) shape = config_field(walk, "batch_shape");
    const json_t *length = shape ? json_array_get(shape, 1) : config_field(walk, "input_length");
    json_int_t n = json_is_integer(length) ? json_integer_value(length) : 0;
    if (n >= 2 && n <= NETWORK_MAX_WINDOW) walk->model->window = (uint32_t)n;
}

static bool take_embedding(struct walk *walk, struct error *err)
{
    struct keras_model *model = walk->model;
    if (model->layer_count > 0) return REFUSE(walk, err, "it is not the first layer with weights");
    return read_size(walk, "input_dim", &walk->embedding_rows, err) &&
           read_size(walk, "output_dim", &model->architecture.embedding_size, err) &&
           read_flag(walk, "mask_zero", false, &model->mask_zero, err) &&
           add_layer(walk, KERAS_EMBEDDING, 0, "", false, err);
}

/* Checks what all recurrent layers must agree in. */
struct recurrent {
    enum cell_kind kind;
    enum activation activation, recurrent;
    bool reset_before;
};

static bool read_cell(const struct walk *walk, struct recurrent *cell, struct error *err)
{
    bool reset_after = false;
    *cell = (struct recurrent){walk->class.cell, ACTIVATION_TANH, ACTIVATION_SIGMOID, false};
    if (walk->class.cudnn) return true;
    if (!read_activation(walk, "activation", &cell->activation, NULL, err)) return false;
    if (!cell_table[cell->kind].gated) return true;
    if (!read_activation(walk, "recurrent_activation", &cell->recurrent, NULL, err)) return false;
    if (!cell_table[cell->kind].may_reset_before) return true;
    if (!read_flag(walk, "reset_after", false, &reset_after, err)) return false;
    cell->reset_before = !reset_after;
    return true;
}

/* Takes the cell of the first recurrent layer for the architecture. Later layers must have the same. */
static bool agree_on_cell(struct walk *walk, const struct recurrent *cell, struct error *err)
{
    struct architecture *a = &walk->model->architecture;
    if (!walk->recurrent) {
        a->cell = cell->kind;
        a->activation = cell->activation;
        a->recurrent_activation = cell->recurrent;
        a->reset_before = cell->reset_before;
    }
    if (a->cell == cell->kind && a->activation == cell->activation && a->recurrent_activation == cell->recurrent &&
        a->reset_before == cell->reset_before)
        return true;
    return REFUSE(
        walk, err,
        "it differs from layer \"%.64s\" (%.64s) in its cell, its activations or reset_after; lstmd has one cell "
        "for all layers",
        walk->recurrent->name, walk->recurrent->kind);
}

static bool take_recurrent(struct walk *walk, struct error *err)
{
    struct architecture *a = &walk->model->architecture;
    struct recurrent cell;
    uint32_t units = 0;
    bool bias, sequences;
    if (walk->entry->distributed) return REFUSE(walk, err, "within TimeDistributed it is not imported");
    if (a->layers == NETWORK_MAX_LAYERS)
        return REFUSE(walk, err, "more than %d recurrent layers are not imported", NETWORK_MAX_LAYERS);
    if (a->dense_layers > 0) return REFUSE(walk, err, "a Dense layer before a recurrent one is not imported");
    if (!read_size(walk, "units", &units, err) || !read_flag(walk, "use_bias", true, &bias, err) ||
        !read_flag(walk, "return_sequences", false, &sequences, err) || !refuse_flag(walk, "go_backwards", err))
        return false;
    if (!read_cell(walk, &cell, err) || !agree_on_cell(walk, &cell, err)) return false;
    a->hidden_sizes[a->layers] = units;
    walk->recurrent = walk->entry;
    return add_layer(walk, KERAS_RECURRENT, a->layers++, "cell/", bias, err);
}

/* Adds a Dense layer as a hidden one; the last of them turns out to be the output. */
static bool take_dense(struct walk *walk, struct error *err)
{
    struct architecture *a = &walk->model->architecture;
    bool bias;
    if (a->layers == 0) return REFUSE(walk, err, "a Dense layer before the first recurrent one is not imported");
    if (a->dense_layers == NETWORK_MAX_DENSE)
        return REFUSE(walk, err, "more than %d Dense layers are not imported", NETWORK_MAX_DENSE);
    struct dense_layer *dense = &a->dense[a->dense_layers];
    return read_size(walk, "units", &dense->size, err) && read_flag(walk, "use_bias", true, &bias, err) &&
           read_activation(walk, "activation", &dense->activation, &walk->softmax, err) &&
           add_layer(walk, KERAS_DENSE, a->dense_layers++, "", bias, err);
}

/* Gives a separate activation to the Dense layer before it. */
static bool take_activation(struct walk *walk, struct error *err)
{
    struct architecture *a = &walk->model->architecture;
    enum activation activation;
    if (!read_activation(walk, "activation", &activation, &walk->softmax, err)) return false;
    if (walk->softmax || activation == ACTIVATION_LINEAR) return true;
    if (a->dense_layers == 0 || a->dense[a->dense_layers - 1].activation != ACTIVATION_LINEAR)
        return REFUSE(walk, err, "an activation is imported only after a Dense layer without one");
    a->dense[a->dense_layers - 1].activation = activation;
    return true;
}

static bool take_softmax(struct walk *walk, struct error *err)
{
    const json_t *axis = config_field(walk, "axis");
    walk->softmax = true;
    if (!axis || (json_is_integer(axis) && json_integer_value(axis) == -1)) return true;
    return REFUSE(walk, err, "its axis is not the last one");
}

/* A recurrent layer that gives only its last state ends the sequence, and no other recurrent layer can follow. Keras
 * ensures that; the check is for files that somebody edited. */
static bool check_sequence(const struct walk *walk, struct error *err)
{
    if (!walk->recurrent || walk->class.part != PART_RECURRENT) return true;
    if (json_is_true(json_object_get(walk->recurrent->config, "return_sequences"))) return true;
    return REFUSE(walk, err, "the recurrent layer before it, \"%.64s\", has return_sequences false",
                  walk->recurrent->name);
}

static bool take_layer(struct walk *walk, struct error *err)
{
    if (!find_class(walk->entry->kind, &walk->class))
        return REFUSE(walk, err, "layers of this class are not imported: " SUPPORTED);
    if (walk->softmax && walk->class.part != PART_NOTHING)
        return REFUSE(walk, err, "a layer after the softmax is not imported");
    if (walk->entry == walk->chain->entries || walk->class.part == PART_EMBEDDING) note_window(walk);
    if (!check_sequence(walk, err)) return false;
    switch (walk->class.part) {
    case PART_NOTHING:
        return true;
    case PART_INPUT:
        return walk->entry == walk->chain->entries || REFUSE(walk, err, "it is not the first layer");
    case PART_MASKING:
        walk->model->masking = true;
        return true;
    case PART_EMBEDDING:
        return take_embedding(walk, err);
    case PART_RECURRENT:
        return take_recurrent(walk, err);
    case PART_DENSE:
        return take_dense(walk, err);
    case PART_ACTIVATION:
        return take_activation(walk, err);
    case PART_SOFTMAX:
        return take_softmax(walk, err);
    }
    return false;
}

/* Makes the last Dense layer the output: it gives the logits. */
static bool take_output(struct walk *walk, struct error *err)
{
    struct keras_model *model = walk->model;
    struct architecture *a = &model->architecture;
    if (a->dense_layers == 0)
        return error_set(err, ERROR_INVALID,
                         "%s: the model has no Dense layer after a recurrent one, so it predicts no tokens",
                         walk->chain->place);
    struct dense_layer *output = &a->dense[--a->dense_layers];
    if (output->activation != ACTIVATION_LINEAR)
        return REFUSE(walk, err, "the last Dense layer's activation is %s; softmax or linear (logits) is imported",
                      activation_name(output->activation));
    a->vocabulary_size = output->size;
    *output = (struct dense_layer){0};
    model->layers[model->layer_count - 1].role = KERAS_OUTPUT;
    if (a->embedding_size == 0 || walk->embedding_rows == a->vocabulary_size) return true;
    return REFUSE(walk, err, "it predicts %u tokens, but the Embedding reads %u; they must be the same",
                  a->vocabulary_size, walk->embedding_rows);
}

/* Two layers of one name would get the same weights where names find them. */
static bool check_names(const struct walk *walk, struct error *err)
{
    const struct keras_model *model = walk->model;
    for (size_t i = 0; i < model->layer_count; i++)
        for (size_t k = 0; k < i; k++)
            if (strcmp(model->layers[i].name, model->layers[k].name) == 0)
                return error_set(err, ERROR_CORRUPT, "%s: the model's configuration: two layers are named \"%.64s\"",
                                 walk->chain->place, model->layers[i].name);
    return true;
}

static bool walk_chain(struct walk *walk, struct error *err)
{
    for (size_t i = 0; i < walk->chain->count; i++) {
        walk->entry = &walk->chain->entries[i];
        if (!take_layer(walk, err)) return false;
    }
    if (!take_output(walk, err) || !check_names(walk, err)) return false;
    walk->model->architecture.hidden_size = walk->model->architecture.hidden_sizes[0];
    if (!architecture_check(&walk->model->architecture, err)) return error_add_context(err, "%s", walk->chain->place);
    architecture_complete(&walk->model->architecture);
    return true;
}

bool keras_model_parse(struct keras_model *model, const char *text, size_t n, unsigned major, const char *place,
                       struct error *err)
{
    *model = (struct keras_model){0};
    json_error_t problem;
    model->config = json_text_parse(text, n, 0, &problem);
    if (!model->config && json_text_lacked_memory(&problem))
        return error_set_no_memory(err, n, "the model's configuration");
    if (!model->config)
        return error_set(err, ERROR_CORRUPT, "%s: the model's configuration is not valid JSON: %s (byte %d)", place,
                         problem.text, problem.position);
    struct keras_chain chain;
    struct walk walk = {.chain = &chain, .model = model, .major = major};
    model->gates_apart = major < 2;
    bool ok = keras_chain_open(&chain, model->config, place, err) && walk_chain(&walk, err);
    keras_chain_close(&chain);
    return ok;
}

void keras_model_close(struct keras_model *model)
{
    json_decref(model->config);
    *model = (struct keras_model){0};
}

bool keras_version_parse(const char *version, unsigned *major, const char *place, struct error *err)
{
    char *end;
    unsigned long number = strtoul(version, &end, 10);
    *major = (unsigned)number;
    if (end != version && *end == '.' && number >= 1 && number < 100) return true;
    return error_set(err, ERROR_INVALID,
                     "%s: it was saved by Keras \"%.32s\"; files of Keras 1.0 and later are imported", place, version);
}
