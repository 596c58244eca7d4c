#include "model/generate/step_weights.h"

#include <math.h>
#include <string.h>

#include "base/size.h"
#include "model/network/gates.h"
#include "model/network/quantize.h"

#define BLOCK KERNEL_BLOCK

static const size_t weight_sizes[] = {
    [KERNEL_F32] = sizeof(float), [KERNEL_BF16] = sizeof(uint16_t), [KERNEL_INT8] = sizeof(int8_t)};

size_t step_input_size(enum kernel_format format, size_t width)
{
    return width * (format == KERNEL_INT8 ? sizeof(int16_t) : sizeof(float));
}

int32_t step_input_limit(size_t width)
{
    return KERNEL_INT8_LIMIT((int64_t)width);
}

/* What one unit of an input's integers is worth (INT8). */
static float input_unit(size_t width)
{
    return 1.0f / (float)step_input_limit(width);
}

/* A matrix that is being filled in. */
struct target {
    size_t outputs, inputs, group;
    enum kernel_format format;
    void *weights;
    float *scale;
    int8_t *row; /* [inputs] scratch of INT8 */
};

/* Where input k of an output lies, in weights (kernels.h). */
static size_t place_of(const struct target *t, size_t output, size_t k)
{
    const size_t block = output / BLOCK, together = t->format == KERNEL_F32 ? 1 : 2;
    const size_t row = block / t->group * (t->inputs / together) + k / together;
    return ((row * t->group + block % t->group) * BLOCK + output % BLOCK) * together + k % together;
}

/* Output `output` of the matrix is values[n]. factor: what one unit of the input's integers is worth (INT8). */
static void put_row(const struct target *t, size_t output, size_t n, const float *values, float factor)
{
    float *floats = t->weights;
    uint16_t *halves = t->weights;
    int8_t *bytes = t->weights;
    switch (t->format) {
    case KERNEL_F32:
        for (size_t k = 0; k < n; k++) floats[place_of(t, output, k)] = values[k];
        break;
    case KERNEL_BF16:
        for (size_t k = 0; k < n; k++) halves[place_of(t, output, k)] = quantize_bf16(values[k]);
        break;
    case KERNEL_INT8:
        t->scale[output] = quantize_int8(n, values, t->row) * factor;
        for (size_t k = 0; k < n; k++) bytes[place_of(t, output, k)] = t->row[k];
        break;
    }
}

/* Takes memory for outputs x inputs, and describes it to the kernels. The sizes of a valid architecture do not
 * overflow. */
static bool open_matrix(struct step_weights *weights, struct target *t, struct kernel_matrix *matrix, struct error *err)
{
    struct arena *arena = &weights->arena;
    t->format = weights->format;
    t->weights = arena_alloc(arena, t->outputs * t->inputs, weight_sizes[t->format], "weights", err);
    if (!t->weights) return false;
    if (t->format == KERNEL_INT8) {
        t->scale = arena_alloc(arena, t->outputs, sizeof(float), "the scales of weights", err);
        t->row = arena_alloc(arena, t->inputs, 1, "a row of weights", err);
        if (!t->scale || !t->row) return false;
    }
    *matrix =
        (struct kernel_matrix){.format = t->format, .inputs = t->inputs, .weights = t->weights, .scale = t->scale};
    return true;
}

size_t step_weights_gate(const struct step_weights *weights, size_t k, bool hidden_part, size_t row)
{
    const size_t H = architecture_hidden(&weights->architecture, k);
    if (weights->fused) return gates_index(weights->architecture.cell, H, hidden_part, row);
    return row / H * weights->layers[k].width + row % H;
}

static size_t gate_rows(const struct step_weights *weights, size_t k)
{
    return architecture_gates(&weights->architecture) * architecture_hidden(&weights->architecture, k);
}

/* Weights of a layer's gates in the file. */
struct gate_weights {
    bool hidden_part;
    const float *values; /* [G*H][columns] */
    size_t columns;
    float unit; /* INT8: what one unit of the input's integers is worth */
};

static bool open_gates(struct step_weights *weights, size_t k, const struct gate_weights *from,
                       struct kernel_matrix *matrix, struct error *err)
{
    const size_t group = weights->fused ? architecture_gates(&weights->architecture) : 1, columns = from->columns;
    struct target t = {.outputs = weights->layers[k].gate_row, .inputs = size_round_up(columns, BLOCK), .group = group};
    if (!open_matrix(weights, &t, matrix, err)) return false;
    for (size_t row = 0; row < gate_rows(weights, k); row++) {
        const size_t at = step_weights_gate(weights, k, from->hidden_part, row);
        put_row(&t, at, columns, from->values + row * columns, from->unit);
    }
    return true;
}

/* values NULL: zeros. */
static const float *open_bias(struct step_weights *weights, size_t k, bool hidden_part, const float *values,
                              struct error *err)
{
    float *bias = arena_alloc(&weights->arena, weights->layers[k].gate_row, sizeof(float), "biases", err);
    for (size_t row = 0; bias && values && row < gate_rows(weights, k); row++)
        bias[step_weights_gate(weights, k, hidden_part, row)] = values[row];
    return bias;
}

/* Row v: column v of W_ih [G*H][V] of layer 0, plus the bias. */
static const float *open_table(struct step_weights *weights, const float *values, const float *bias, struct error *err)
{
    const size_t V = weights->architecture.vocabulary_size, width = weights->layers[0].gate_row;
    float *table = arena_alloc(&weights->arena, V * width, sizeof(float), "the table of the one-hot input", err);
    for (size_t row = 0; table && row < gate_rows(weights, 0); row++) {
        const size_t at = step_weights_gate(weights, 0, false, row);
        for (size_t v = 0; v < V; v++) table[v * width + at] = values[row * V + v] + bias[row];
    }
    return table;
}

static float largest_of(const float *values, size_t n)
{
    float largest = 0;
    for (size_t i = 0; i < n; i++) largest = fmaxf(largest, fabsf(values[i]));
    return largest;
}

/* The rows that layer 0 reads; *unit: what one unit of their integers is worth (INT8). */
static bool open_embedding(struct step_weights *weights, const struct network *network, const struct kernels *kernels,
                           float *unit, struct error *err)
{
    const struct architecture *a = &weights->architecture;
    const size_t V = a->vocabulary_size, E = a->embedding_size, width = weights->embedding_width;
    const size_t size = step_input_size(weights->format, width);
    const int32_t limit = step_input_limit(width);
    const float largest = largest_of(network->embedding, V * E);
    char *rows = arena_alloc(&weights->arena, V, size, "the embedding", err);
    if (!rows) return false;
    *unit = largest / (float)limit;
    for (size_t v = 0; v < V; v++) {
        const float *values = network->embedding + v * E;
        if (weights->format != KERNEL_INT8) {
            memcpy(rows + v * size, values, E * sizeof(float));
        } else if (*unit > 0) {
            kernels->quantize(E, values, 1.0f / *unit, limit, (int16_t *)(void *)(rows + v * size));
        }
    }
    weights->embedding = rows;
    return true;
}

/* embedding_unit: what one unit of the embedding's integers is worth (INT8). */
static bool open_layer(struct step_weights *weights, size_t k, const struct network *network, float embedding_unit,
                       struct error *err)
{
    struct step_layer *layer = &weights->layers[k];
    const struct architecture *a = &weights->architecture;
    layer->width = size_round_up(architecture_hidden(a, k), BLOCK);
    layer->gate_row = architecture_gates(a) * layer->width;
    if (layer->width > weights->largest_width) weights->largest_width = layer->width;
    if (k == 0 && a->embedding_size == 0) {
        layer->table = open_table(weights, network->weight_ih[k], network->bias[k], err);
        if (!layer->table) return false;
    } else {
        const struct gate_weights input = {.values = network->weight_ih[k],
                                           .columns = architecture_input(a, k),
                                           .unit = k == 0 ? embedding_unit : input_unit(weights->layers[k - 1].width)};
        layer->bias = open_bias(weights, k, false, network->bias[k], err);
        if (!layer->bias || !open_gates(weights, k, &input, &layer->input, err)) return false;
    }
    if (cell_table[a->cell].apart || !weights->fused) {
        layer->bias_hh = open_bias(weights, k, true, network->bias_hh[k], err);
        if (!layer->bias_hh) return false;
    }
    const struct gate_weights hidden = {.hidden_part = true,
                                        .values = network->weight_hh[k],
                                        .columns = architecture_hidden(a, k),
                                        .unit = input_unit(layer->width)};
    return open_gates(weights, k, &hidden, &layer->hidden, err);
}

/* A layer without state in the file. */
struct dense_weights {
    size_t outputs, inputs;
    const float *values; /* [outputs][inputs] */
    const float *bias;   /* [outputs] */
};

static bool open_dense(struct step_weights *weights, struct step_dense *dense, const struct dense_weights *from,
                       struct error *err)
{
    dense->width = size_round_up(from->outputs, BLOCK);
    struct target t = {.outputs = dense->width, .inputs = size_round_up(from->inputs, BLOCK), .group = 1};
    float *bias = arena_alloc(&weights->arena, dense->width, sizeof(float), "biases", err);
    if (!bias || !open_matrix(weights, &t, &dense->matrix, err)) return false;
    for (size_t row = 0; row < from->outputs; row++)
        put_row(&t, row, from->inputs, from->values + row * from->inputs, input_unit(t.inputs));
    memcpy(bias, from->bias, from->outputs * sizeof(float));
    dense->bias = bias;
    return true;
}

static bool open_dense_layers(struct step_weights *weights, const struct network *network, struct error *err)
{
    const struct architecture *a = &weights->architecture;
    for (size_t d = 0; d < a->dense_layers; d++) {
        const struct dense_weights dense = {.outputs = a->dense[d].size,
                                            .inputs = architecture_dense_input(a, d),
                                            .values = network->dense_weight[d],
                                            .bias = network->dense_bias[d]};
        if (!open_dense(weights, &weights->dense[d], &dense, err)) return false;
        if (weights->dense[d].width > weights->largest_width) weights->largest_width = weights->dense[d].width;
    }
    const struct dense_weights output = {.outputs = a->vocabulary_size,
                                         .inputs = architecture_top(a),
                                         .values = network->output_weight,
                                         .bias = network->output_bias};
    return open_dense(weights, &weights->output, &output, err);
}

bool step_weights_open(struct step_weights *weights, const struct network *network, const struct kernels *kernels,
                       enum kernel_format format, struct error *err)
{
    const struct architecture *a = &network->architecture;
    float embedding_unit = 0;
    *weights = (struct step_weights){0};
    if (!architecture_validate(a, err) || !quantize_check(a, format, err)) return false;
    weights->architecture = *a;
    weights->format = format;
    weights->fused = architecture_cell_is_standard(a);
    weights->embedding_width = size_round_up(a->embedding_size, BLOCK);
    if (a->embedding_size > 0 && !open_embedding(weights, network, kernels, &embedding_unit, err)) return false;
    for (size_t k = 0; k < a->layers; k++)
        if (!open_layer(weights, k, network, embedding_unit, err)) return false;
    return open_dense_layers(weights, network, err);
}

void step_weights_close(struct step_weights *weights)
{
    arena_free(&weights->arena);
}

size_t step_weights_bytes(const struct step_weights *weights)
{
    const size_t size = weight_sizes[weights->format];
    const size_t each = weights->format == KERNEL_INT8 ? 2 * sizeof(float) : sizeof(float); /* bias and scale */
    size_t bytes = weights->output.width * (weights->output.matrix.inputs * size + each);
    for (size_t d = 0; d < weights->architecture.dense_layers; d++)
        bytes += weights->dense[d].width * (weights->dense[d].matrix.inputs * size + each);
    for (size_t k = 0; k < weights->architecture.layers; k++) {
        const struct step_layer *layer = &weights->layers[k];
        bytes += layer->gate_row * ((layer->input.inputs + layer->hidden.inputs) * size + each);
    }
    return bytes;
}
