#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/json.h"
#include "model/interop/export.h"
#include "model/interop/hdf5.h"

#define MAX_LAYERS (NETWORK_MAX_LAYERS + NETWORK_MAX_DENSE + 2)
#define NAME_SIZE  32
#define PATH_SIZE  128

struct writing {
    const struct network *network;
    bool keras3; /* the version of Keras, which says what hard_sigmoid is */
    struct hdf5 *file;
    json_t *layers;                    /* the list in model_config */
    char names[MAX_LAYERS][NAME_SIZE]; /* of the layers with weights */
    size_t count;
};

/* A tensor of a Keras layer: the transpose of [blocks*rows][columns], with the blocks in another order. columns 0: a
 * bias [blocks*rows]; unless NULL, a second bias follows. */
struct weight {
    const char *name;
    size_t blocks, rows, columns;
    const unsigned char *order; /* [n]: our number of Keras's block n */
    const float *data, *beside;
};

static const unsigned char one_block[] = {0};

static bool out_of_memory(struct error *err)
{
    return error_set(err, ERROR_NO_MEMORY, "out of memory for a Keras model");
}

/* --- Tensors --- */

/* out[column][block][row] */
static void arrange_weight(const struct weight *w, const float *data, float *out)
{
    const size_t columns = w->columns > 0 ? w->columns : 1, width = w->blocks * w->rows;
    for (size_t block = 0; block < w->blocks; block++)
        for (size_t row = 0; row < w->rows; row++)
            for (size_t column = 0; column < columns; column++)
                out[column * width + block * w->rows + row] =
                    data[(w->order[block] * w->rows + row) * columns + column];
}

static bool write_weight(struct writing *writing, const char *path, const struct weight *w, struct error *err)
{
    const size_t width = w->blocks * w->rows, lines = w->beside ? 2 : w->columns;
    const struct hdf5_shape flat = {.rank = 1, .dimensions = {width}, .count = width};
    const struct hdf5_shape shape = {.rank = 2, .dimensions = {lines, width}, .count = lines * width};
    const size_t count = lines > 0 ? lines * width : width;
    float *values = malloc(count * sizeof *values);
    if (!values) return error_set_no_memory(err, count * sizeof *values, "a tensor");
    arrange_weight(w, w->data, values);
    if (w->beside) arrange_weight(w, w->beside, values + width);
    const bool done = hdf5_write(writing->file, path, lines > 0 ? &shape : &flat, values, err);
    free(values);
    return done;
}

/* Writes the group of a layer: its tensors, under names like "lstm/lstm_cell/kernel:0". `inside`: "" or
 * "lstm_cell/". */
static bool write_layer(struct writing *writing, const char *name, const char *inside, const struct weight *weights,
                        size_t count, struct error *err)
{
    char names[3][PATH_SIZE], path[4 * PATH_SIZE], group[PATH_SIZE];
    const char *items[3];
    (void)snprintf(group, sizeof group, "model_weights/%s", name);
    for (size_t i = 0; i < count; i++) {
        (void)snprintf(names[i], sizeof names[i], "%s/%s%s:0", name, inside, weights[i].name);
        (void)snprintf(path, sizeof path, "%s/%s", group, names[i]);
        items[i] = names[i];
        if (!write_weight(writing, path, &weights[i], err)) return false;
    }
    (void)snprintf(writing->names[writing->count++], NAME_SIZE, "%s", name);
    return hdf5_write_texts(writing->file, group, "weight_names", &(struct hdf5_texts){items, count}, err);
}

/* --- Layers --- */

/* Appends a layer to model_config. The list steals `config`, also after a failure. */
static bool add_layer(struct writing *writing, const char *kind, json_t *config, struct error *err)
{
    json_t *layer = json_pack("{s:s, s:o}", "class_name", kind, "config", config);
    return json_array_append_new(writing->layers, layer) == 0 || out_of_memory(err);
}

/* Keras's name of an activation. Both hard sigmoids have the same; the version tells them apart. */
static const char *keras_activation(enum activation activation)
{
    return activation == ACTIVATION_HARD_SIGMOID_KERAS2 ? "hard_sigmoid" : activation_name(activation);
}

static bool add_input(struct writing *writing, struct error *err)
{
    const struct architecture *a = &writing->network->architecture;
    const char *shape = writing->keras3 ? "batch_shape" : "batch_input_shape";
    json_t *config = a->embedding_size > 0
                         ? json_pack("{s:s, s:s, s:[n, n]}", "name", "input", "dtype", "float32", shape)
                         : json_pack("{s:s, s:s, s:[n, n, I]}", "name", "input", "dtype", "float32", shape,
                                     (json_int_t)a->vocabulary_size);
    return add_layer(writing, "InputLayer", config, err);
}

static bool add_embedding(struct writing *writing, struct error *err)
{
    const struct network *network = writing->network;
    const struct architecture *a = &network->architecture;
    /* Keras keeps an embedding as we do: the transpose of a transpose. */
    const struct hdf5_shape shape = {.rank = 2,
                                     .dimensions = {a->vocabulary_size, a->embedding_size},
                                     .count = (size_t)a->vocabulary_size * a->embedding_size};
    static const char *const names[] = {"embedding/embeddings:0"};
    const struct hdf5_texts list = {(const char **)names, 1};
    if (a->embedding_size == 0) return true;
    (void)snprintf(writing->names[writing->count++], NAME_SIZE, "embedding");
    return add_layer(writing, "Embedding",
                     json_pack("{s:s, s:I, s:I, s:b}", "name", "embedding", "input_dim", (json_int_t)a->vocabulary_size,
                               "output_dim", (json_int_t)a->embedding_size, "mask_zero", 0),
                     err) &&
           hdf5_write(writing->file, "model_weights/embedding/embedding/embeddings:0", &shape, network->embedding,
                      err) &&
           hdf5_write_texts(writing->file, "model_weights/embedding", "weight_names", &list, err);
}

static json_t *recurrent_config(const struct architecture *a, size_t k, const char *name)
{
    json_t *config =
        json_pack("{s:s, s:I, s:s, s:b, s:b}", "name", name, "units", (json_int_t)architecture_hidden(a, k),
                  "activation", keras_activation(a->activation), "use_bias", 1, "return_sequences", 1);
    const char *gates = cell_table[a->cell].gated ? keras_activation(a->recurrent_activation) : NULL;
    const bool ok = config &&
                    (!gates || json_object_set_new(config, "recurrent_activation", json_string(gates)) == 0) &&
                    (!cell_table[a->cell].may_reset_before ||
                     json_object_set_new(config, "reset_after", json_boolean(!a->reset_before)) == 0);
    if (ok) return config;
    json_decref(config);
    return NULL;
}

static bool add_recurrent(struct writing *writing, size_t k, struct error *err)
{
    const struct network *network = writing->network;
    const struct architecture *a = &network->architecture;
    const size_t gates = architecture_gates(a), units = architecture_hidden(a, k);
    const struct cell_keras *keras = &cell_table[a->cell].keras;
    const unsigned char *order = keras->order;
    const struct weight weights[] = {
        {"kernel", gates, units, architecture_input(a, k), order, network->weight_ih[k], NULL},
        {"recurrent_kernel", gates, units, units, order, network->weight_hh[k], NULL},
        {"bias", gates, units, 0, order, network->bias[k], network->bias_hh[k]}};
    char name[NAME_SIZE];
    (void)snprintf(name, sizeof name, k > 0 ? "%s_%zu" : "%s", keras->name, k);
    return add_layer(writing, keras->class, recurrent_config(a, k, name), err) &&
           write_layer(writing, name, keras->inside, weights, 3, err);
}

struct dense {
    size_t index; /* of the dense layers; the output is the last */
    size_t outputs, inputs;
    const char *activation;     /* as Keras calls it */
    const float *weight, *bias; /* [outputs][inputs], [outputs] */
};

static bool add_dense(struct writing *writing, const struct dense *dense, struct error *err)
{
    const struct weight weights[] = {{"kernel", 1, dense->outputs, dense->inputs, one_block, dense->weight, NULL},
                                     {"bias", 1, dense->outputs, 0, one_block, dense->bias, NULL}};
    char name[NAME_SIZE];
    (void)snprintf(name, sizeof name, dense->index > 0 ? "dense_%zu" : "dense", dense->index);
    json_t *config = json_pack("{s:s, s:I, s:s, s:b}", "name", name, "units", (json_int_t)dense->outputs, "activation",
                               dense->activation, "use_bias", 1);
    return add_layer(writing, "Dense", config, err) && write_layer(writing, name, "", weights, 2, err);
}

static bool add_layers(struct writing *writing, struct error *err)
{
    const struct network *network = writing->network;
    const struct architecture *a = &network->architecture;
    if (!add_input(writing, err) || !add_embedding(writing, err)) return false;
    for (size_t k = 0; k < a->layers; k++)
        if (!add_recurrent(writing, k, err)) return false;
    for (size_t d = 0; d < a->dense_layers; d++) {
        const struct dense dense = {.index = d,
                                    .outputs = a->dense[d].size,
                                    .inputs = architecture_dense_input(a, d),
                                    .activation = keras_activation(a->dense[d].activation),
                                    .weight = network->dense_weight[d],
                                    .bias = network->dense_bias[d]};
        if (!add_dense(writing, &dense, err)) return false;
    }
    const struct dense output = {.index = a->dense_layers,
                                 .outputs = a->vocabulary_size,
                                 .inputs = architecture_top(a),
                                 .activation = "softmax",
                                 .weight = network->output_weight,
                                 .bias = network->output_bias};
    return add_dense(writing, &output, err);
}

/* --- The file --- */

static bool write_versions(struct writing *writing, const char *path, struct error *err)
{
    return hdf5_write_text(writing->file, path, "keras_version", writing->keras3 ? "3.0.0" : "2.11.0", err) &&
           hdf5_write_text(writing->file, path, "backend", "tensorflow", err);
}

static bool write_config(struct writing *writing, struct error *err)
{
    const char *items[MAX_LAYERS];
    size_t n;
    for (size_t i = 0; i < writing->count; i++) items[i] = writing->names[i];
    json_t *config = json_pack("{s:s, s:{s:s, s:O}}", "class_name", "Sequential", "config", "name", "sequential",
                               "layers", writing->layers);
    char *text = config ? json_text_print(config, JSON_COMPACT, &n, err) : NULL;
    json_decref(config);
    if (!text) return out_of_memory(err);
    const bool done = hdf5_write_text(writing->file, "", "model_config", text, err);
    free(text);
    return done && hdf5_write_texts(writing->file, "model_weights", "layer_names",
                                    &(struct hdf5_texts){items, writing->count}, err);
}

static bool write_model(struct writing *writing, struct error *err)
{
    writing->layers = json_array();
    if (!writing->layers) return out_of_memory(err);
    return add_layers(writing, err) && write_config(writing, err) && write_versions(writing, "", err) &&
           write_versions(writing, "model_weights", err);
}

static bool uses_activation(const struct architecture *a, enum activation activation)
{
    bool used = a->activation == activation || a->recurrent_activation == activation;
    for (size_t d = 0; d < a->dense_layers; d++) used |= a->dense[d].activation == activation;
    return used;
}

bool export_keras(const struct network *network, unsigned char **data, size_t *size, struct error *err)
{
    struct writing writing = {.network = network,
                              .keras3 = uses_activation(&network->architecture, ACTIVATION_HARD_SIGMOID)};
    if (!cell_table[network->architecture.cell].keras.class)
        return error_set(err, ERROR_INVALID, "Keras has no cell like %s", cell_name(network->architecture.cell));
    if (writing.keras3 && uses_activation(&network->architecture, ACTIVATION_HARD_SIGMOID_KERAS2))
        return error_set(err, ERROR_INVALID,
                         "no version of Keras has both hard_sigmoid and hard_sigmoid_keras2, which the model needs");
    writing.file = hdf5_create(err);
    const bool done = writing.file && write_model(&writing, err) && hdf5_image(writing.file, data, size, err);
    hdf5_close(writing.file);
    json_decref(writing.layers);
    return done;
}
