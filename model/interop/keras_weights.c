#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "model/interop/keras.h"

#define MAX_PATH    1024
#define KINDS       3           /* kinds of tensors: kernel, recurrent kernel, bias */
#define MAX_WEIGHTS (4 * KINDS) /* if every gate has its own */

/* The tensors of one layer in the file. */
struct source {
    const struct keras_layer *layer;
    size_t count;
    char paths[MAX_WEIGHTS][MAX_PATH];
    struct hdf5_shape shapes[MAX_WEIGHTS];
    bool cudnn; /* the gates have the layout of CuDNN */
    bool apart; /* every gate has its own three tensors */
};

struct keras_reading {
    const struct keras_model *model;
    struct hdf5 *file;
    enum keras_layout layout;
    const char *place;
    struct architecture architecture;
};

static bool refuse_layer(const struct keras_reading *reading, const struct keras_layer *layer, struct error *err,
                         const char *problem)
{
    return error_set(err, ERROR_CORRUPT, "%s: layer \"%.64s\" (%.64s): %.300s", reading->place, layer->name,
                     layer->kind, problem);
}

static size_t expected_count(const struct keras_layer *layer)
{
    return (layer->role == KERAS_RECURRENT ? 2u : 1u) + layer->bias;
}

/* --- Where a layer's tensors are --- */

static bool join_path(const struct keras_reading *reading, const struct keras_layer *layer, char path[MAX_PATH],
                      struct error *err, const char *a, const char *b)
{
    int n = snprintf(path, MAX_PATH, "%s/%s", a, b);
    return (n >= 0 && n < MAX_PATH) || refuse_layer(reading, layer, err, "the path of a tensor is too long");
}

/* Whether every gate has its own W, U and b, one gate after the other, as Keras 1 writes them (consume_less "cpu", its
 * default, or "mem"). */
static bool gates_are_apart(const struct keras_reading *reading, const struct keras_layer *layer, size_t count)
{
    const size_t gates = architecture_gates(&reading->architecture);
    return reading->model->gates_apart && layer->role == KERAS_RECURRENT && layer->bias && gates > 1 &&
           count == gates * KINDS;
}

static bool name_group(const struct keras_reading *reading, const struct keras_layer *layer, char group[MAX_PATH],
                       struct error *err)
{
    if (reading->layout == KERAS_BY_NAME) return join_path(reading, layer, group, err, "model_weights", layer->name);
    const int n = snprintf(group, MAX_PATH, "%s", layer->name);
    return (n >= 0 && n < MAX_PATH) || refuse_layer(reading, layer, err, "its name is too long");
}

static bool find_by_name(const struct keras_reading *reading, struct source *source, struct error *err)
{
    const struct keras_layer *layer = source->layer;
    struct hdf5_texts names;
    char group[MAX_PATH], problem[160];
    if (!name_group(reading, layer, group, err)) return false;
    if (!hdf5_texts(reading->file, group, "weight_names", &names, err)) return false;
    source->apart = gates_are_apart(reading, layer, names.count);
    if (source->apart) source->count = names.count;
    if (names.count != source->count) {
        (void)snprintf(problem, sizeof problem, "the file has %zu tensors for it, but its configuration asks for %zu",
                       names.count, source->count);
        return refuse_layer(reading, layer, err, problem);
    }
    for (size_t i = 0; i < names.count; i++) {
        if (!join_path(reading, layer, source->paths[i], err, group, names.items[i])) return false;
        for (size_t k = 0; k < i; k++)
            if (strcmp(names.items[i], names.items[k]) == 0)
                return refuse_layer(reading, layer, err, "its weight_names have a tensor twice");
    }
    return true;
}

/* Reads the number in "lstm" (0) or "lstm_2" (2). False for names of another class. */
static bool member_number(const char *member, const char *stem, unsigned long *number)
{
    size_t n = strlen(stem);
    *number = 0;
    if (strncmp(member, stem, n) != 0) return false;
    if (member[n] == '\0') return true;
    if (member[n] != '_' || strspn(member + n + 1, "0123456789") != strlen(member + n + 1)) return false;
    *number = strtoul(member + n + 1, NULL, 10);
    return member[n + 1] != '\0';
}

/* The group of that ordinal in its class, by the numbers in the names. */
static const char *nth_member(const struct hdf5_texts *members, const char *stem, size_t ordinal)
{
    const char *found = NULL;
    for (unsigned long least = 0, best = 0;; least = best + 1) {
        found = NULL;
        for (size_t i = 0; i < members->count; i++) {
            unsigned long number;
            if (!member_number(members->items[i], stem, &number) || number < least || (found && number >= best))
                continue;
            found = members->items[i];
            best = number;
        }
        if (!found || ordinal-- == 0) return found;
    }
}

/* The group of a layer: "layers/lstm_1" is the second LSTM. Keras 2 also counts layers in a group of another name, so
 * the numbers there have gaps. */
static bool find_group(const struct keras_reading *reading, const struct keras_layer *layer, char group[MAX_PATH],
                       struct error *err)
{
    static const char keras2[] = "_layer_checkpoint_dependencies";
    struct hdf5_texts members;
    char member[64];
    if (!hdf5_exists(reading->file, keras2)) {
        (void)snprintf(member, sizeof member, "%s", layer->stem);
        if (layer->ordinal > 0) (void)snprintf(member, sizeof member, "%s_%zu", layer->stem, layer->ordinal);
        return join_path(reading, layer, group, err, "layers", member);
    }
    if (!hdf5_members(reading->file, keras2, &members, err)) return false;
    const char *found = nth_member(&members, layer->stem, layer->ordinal);
    if (!found) return refuse_layer(reading, layer, err, "the archive has no weights for it");
    return join_path(reading, layer, group, err, keras2, found);
}

static bool find_by_class(const struct keras_reading *reading, struct source *source, struct error *err)
{
    char group[MAX_PATH], variable[32];
    if (!find_group(reading, source->layer, group, err)) return false;
    for (size_t i = 0; i < source->count; i++) {
        (void)snprintf(variable, sizeof variable, "%svars/%zu", source->layer->inside, i);
        if (!join_path(reading, source->layer, source->paths[i], err, group, variable)) return false;
    }
    return true;
}

/* --- What shapes they must have --- */

static bool shape_is(const struct hdf5_shape *shape, size_t rows, size_t columns)
{
    if (columns == 0) return shape->rank == 1 && shape->dimensions[0] == rows;
    return shape->rank == 2 && shape->dimensions[0] == rows && shape->dimensions[1] == columns;
}

static bool wrong_shape(const struct keras_reading *reading, const struct source *source, size_t i, size_t rows,
                        size_t columns, struct error *err)
{
    const struct hdf5_shape *shape = &source->shapes[i];
    char problem[300], found[100] = "";
    for (size_t k = 0, n = 0; k < shape->rank && n < sizeof found; k++)
        n += (size_t)snprintf(found + n, sizeof found - n, "%s%zu", k > 0 ? ", " : "", shape->dimensions[k]);
    if (source->layer->role == KERAS_RECURRENT && source->layer->index == 0 && i == 0 && shape->rank == 2 &&
        reading->architecture.embedding_size == 0)
        (void)snprintf(
            problem, sizeof problem,
            "it reads %zu number%s per step, but the model predicts %u tokens; without an Embedding lstmd feeds "
            "one-hot vectors as wide as the vocabulary%s",
            shape->dimensions[0], shape->dimensions[0] == 1 ? "" : "s", reading->architecture.vocabulary_size,
            shape->dimensions[0] == 1 ? ", or " INTEROP_SCALED_IDS : "");
    else if (columns > 0)
        (void)snprintf(problem, sizeof problem, "tensor %zu is [%s], where its configuration asks for [%zu, %zu]", i,
                       found, rows, columns);
    else
        (void)snprintf(problem, sizeof problem, "tensor %zu is [%s], where its configuration asks for [%zu]", i, found,
                       rows);
    return refuse_layer(reading, source->layer, err, problem);
}

static bool check_shape(const struct keras_reading *reading, const struct source *source, size_t i, size_t rows,
                        size_t columns, struct error *err)
{
    if (shape_is(&source->shapes[i], rows, columns)) return true;
    return wrong_shape(reading, source, i, rows, columns, err);
}

static bool check_gates(const struct keras_reading *reading, const struct source *source, size_t inputs, size_t units,
                        struct error *err)
{
    for (size_t i = 0; i < source->count; i += KINDS)
        if (!check_shape(reading, source, i, inputs, units, err) ||
            !check_shape(reading, source, i + 1, units, units, err) ||
            !check_shape(reading, source, i + 2, units, 0, err))
            return false;
    return true;
}

/* The bias tells the layout of CuDNN from that of Keras: two halves in one dimension. */
static bool check_recurrent(const struct keras_reading *reading, struct source *source, struct error *err)
{
    const struct architecture *a = &reading->architecture;
    size_t k = source->layer->index, units = architecture_hidden(a, k), width = architecture_gates(a) * units;
    bool two = architecture_has_two_biases(a);
    if (source->apart) return check_gates(reading, source, architecture_input(a, k), units, err);
    if (!check_shape(reading, source, 0, architecture_input(a, k), width, err)) return false;
    if (!check_shape(reading, source, 1, units, width, err)) return false;
    if (!source->layer->bias) return true;
    source->cudnn = cell_table[a->cell].keras.cudnn_class && shape_is(&source->shapes[2], 2 * width, 0);
    if (!source->cudnn) return check_shape(reading, source, 2, two ? 2 : width, two ? width : 0, err);
    return !a->reset_before || refuse_layer(reading, source->layer, err,
                                            "its weights are CuDNN's, but its configuration has not reset_after");
}

static bool check_shapes(const struct keras_reading *reading, struct source *source, struct error *err)
{
    const struct architecture *a = &reading->architecture;
    const struct keras_layer *layer = source->layer;
    size_t inputs, outputs;
    switch (layer->role) {
    case KERAS_RECURRENT:
        return check_recurrent(reading, source, err);
    case KERAS_EMBEDDING:
        return check_shape(reading, source, 0, a->vocabulary_size, a->embedding_size, err);
    case KERAS_DENSE:
        inputs = architecture_dense_input(a, layer->index);
        outputs = a->dense[layer->index].size;
        break;
    case KERAS_OUTPUT:
        inputs = architecture_top(a);
        outputs = a->vocabulary_size;
        break;
    default:
        return false;
    }
    return check_shape(reading, source, 0, inputs, outputs, err) &&
           (!layer->bias || check_shape(reading, source, 1, outputs, 0, err));
}

static bool find_source(const struct keras_reading *reading, struct source *source, struct error *err)
{
    source->count = expected_count(source->layer);
    bool ok =
        reading->layout == KERAS_BY_CLASS ? find_by_class(reading, source, err) : find_by_name(reading, source, err);
    for (size_t i = 0; ok && i < source->count; i++)
        ok = hdf5_shape(reading->file, source->paths[i], &source->shapes[i], err);
    return ok && check_shapes(reading, source, err);
}

/* --- Into our layout --- */

static const unsigned char one_block[] = {0};

/* Gates of a layer in the order of the file; order[n]: our number of gate n. */
struct gate_block {
    const unsigned char *order; /* [gates] */
    size_t gates, units, inputs;
};

/* A kernel [inputs][gates*units] -> [gates*units][inputs]. In CuDNN's layout a gate's block, read row by row as Keras
 * cuts it out, already is [units][inputs]. */
static void arrange_kernel(const struct source *source, const struct gate_block *gate, const float *kernel, float *out)
{
    const size_t units = gate->units, inputs = gate->inputs, width = gate->gates * units;
    for (size_t n = 0; n < gate->gates; n++) {
        const float *block = kernel + n * units;
        float *to = out + gate->order[n] * units * inputs;
        for (size_t i = 0; i < units * inputs; i++) {
            const size_t row = i / inputs, column = i % inputs;
            to[i] = source->cudnn ? block[i / units * width + i % units] : block[column * width + row];
        }
    }
}

static void add_bias(const struct gate_block *gate, const float *bias, float *out)
{
    for (size_t n = 0; n < gate->gates; n++)
        for (size_t i = 0; i < gate->units; i++) out[gate->order[n] * gate->units + i] += bias[n * gate->units + i];
}

/* Puts the i-th tensor of a layer whose gates have tensors of their own. */
static void arrange_gate(struct network *network, const struct source *source, size_t i, const float *read)
{
    const struct architecture *a = &network->architecture;
    const size_t k = source->layer->index, units = architecture_hidden(a, k), inputs = architecture_input(a, k);
    const size_t gate = cell_table[a->cell].keras.order_of_keras1[i / KINDS];
    const struct gate_block input = {one_block, 1, units, inputs}, hidden = {one_block, 1, units, units};
    if (i % KINDS == 0)
        arrange_kernel(source, &input, read, network->weight_ih[k] + gate * units * inputs);
    else if (i % KINDS == 1)
        arrange_kernel(source, &hidden, read, network->weight_hh[k] + gate * units * units);
    else
        add_bias(&hidden, read, network->bias[k] + gate * units);
}

/* Puts the i-th tensor of a recurrent layer. */
static void arrange_recurrent(struct network *network, const struct source *source, size_t i, const float *read)
{
    const struct architecture *a = &network->architecture;
    const size_t k = source->layer->index, gates = architecture_gates(a), units = architecture_hidden(a, k);
    const unsigned char *order = cell_table[a->cell].keras.order;
    const struct gate_block input = {order, gates, units, architecture_input(a, k)};
    const struct gate_block hidden = {order, gates, units, units};
    if (i == 0) {
        arrange_kernel(source, &input, read, network->weight_ih[k]);
    } else if (i == 1) {
        arrange_kernel(source, &hidden, read, network->weight_hh[k]);
    } else {
        add_bias(&hidden, read, network->bias[k]);
        if (source->shapes[2].count > gates * units)
            add_bias(&hidden, read + gates * units, network->bias_hh[k] ? network->bias_hh[k] : network->bias[k]);
    }
}

/* Puts the i-th tensor of a layer where it belongs in the network. */
static void arrange_tensor(struct network *network, const struct source *source, size_t i, const float *read)
{
    const struct keras_layer *layer = source->layer;
    const bool dense = layer->role == KERAS_DENSE;
    float *weight = dense ? network->dense_weight[layer->index] : network->output_weight;
    float *bias = dense ? network->dense_bias[layer->index] : network->output_bias;
    const struct hdf5_shape *shape = &source->shapes[i];
    if (source->apart) {
        arrange_gate(network, source, i, read);
    } else if (layer->role == KERAS_RECURRENT) {
        arrange_recurrent(network, source, i, read);
    } else if (layer->role == KERAS_EMBEDDING) {
        memcpy(network->embedding, read, shape->count * sizeof *read);
    } else if (i == 0) {
        const struct gate_block block = {one_block, 1, shape->dimensions[1], shape->dimensions[0]};
        arrange_kernel(source, &block, read, weight);
    } else {
        memcpy(bias, read, shape->count * sizeof *read);
    }
}

static bool read_source(const struct keras_reading *reading, struct network *network, const struct source *source,
                        struct error *err)
{
    for (size_t i = 0; i < source->count; i++) {
        size_t count = source->shapes[i].count;
        float *read = calloc(count, sizeof *read);
        if (!read) return error_set_no_memory(err, count * sizeof *read, "a tensor");
        bool ok = hdf5_read(reading->file, source->paths[i], read, count, err);
        if (ok) arrange_tensor(network, source, i, read);
        free(read);
        if (!ok) return false;
    }
    return true;
}

static bool read_all(const struct keras_reading *reading, struct source *sources, struct network *network,
                     struct error *err)
{
    const struct keras_model *model = reading->model;
    for (size_t i = 0; i < model->layer_count; i++) {
        sources[i].layer = &model->layers[i];
        if (!find_source(reading, &sources[i], err)) return false;
    }
    if (!network_open(network, &model->architecture, err)) return error_add_context(err, "%s", reading->place);
    for (size_t i = 0; i < model->layer_count; i++)
        if (!read_source(reading, network, &sources[i], err)) return false;
    return true;
}

bool keras_weights_read(struct network *network, const struct keras_model *model, struct hdf5 *file,
                        enum keras_layout layout, const char *place, struct error *err)
{
    struct keras_reading reading = {
        .model = model, .file = file, .layout = layout, .place = place, .architecture = model->architecture};
    struct source *sources = calloc(model->layer_count, sizeof *sources);
    if (!sources) return error_set_no_memory(err, model->layer_count * sizeof *sources, "the layers of a Keras model");
    bool ok = read_all(&reading, sources, network, err);
    free(sources);
    return ok;
}
