#include "model/train/gradients.h"

#include <string.h>

#include "model/network/gates.h"

#define BLOCK KERNEL_BLOCK

bool gradients_open(struct gradients *gradients, const struct packed_network *packed, struct arena *arena,
                    struct error *err)
{
    const size_t V = packed->architecture.vocabulary_size, G = packed->gate_row, Hp = packed->hidden;
    memset(gradients, 0, sizeof *gradients);
#define TAKE(field, count)                                                                                             \
    if (!(gradients->field = arena_alloc(arena, (count), sizeof(float), "gradients", err))) return false
    for (size_t k = 0; k < packed->architecture.layers; k++) {
        const struct packed_layer *layer = &packed->layers[k];
        TAKE(layers[k].weight_hh, G * Hp);
        if (layer->table) {
            TAKE(layers[k].table, V * G);
        } else {
            TAKE(layers[k].weight_ih, G * layer->input);
            TAKE(layers[k].bias, G);
        }
        if (layer->bias_hh) TAKE(layers[k].bias_hh, G);
    }
    if (packed->embedding) TAKE(embedding, V * packed->embedding_width);
    TAKE(output, V * Hp);
    TAKE(output_bias, packed->vocabulary);
    TAKE(scratch, BLOCK * V > (BLOCK + 1) * Hp ? BLOCK * V : (BLOCK + 1) * Hp);
#undef TAKE
    return true;
}

struct gradients_share gradients_share(const struct tensor *tensor, size_t part, size_t parts)
{
    const size_t first = tensor->rows * part / parts;
    return (struct gradients_share){.first = first, .rows = tensor->rows * (part + 1) / parts - first};
}

/* A worker's gradient of one row of a tensor, where rows lie as rows (not for the one-hot table). */
static const float *row_of(const struct gradients *gradients, const struct packed_network *packed,
                           const struct tensor *tensor, size_t row)
{
    const struct architecture *a = &packed->architecture;
    const struct layer_gradients *layer = &gradients->layers[tensor->layer];
    switch (tensor->kind) {
    case TENSOR_embedding:
        return gradients->embedding + row * packed->embedding_width;
    case TENSOR_weight_ih:
        return layer->weight_ih +
               gates_index(a->cell, a->hidden_size, false, row) * packed->layers[tensor->layer].input;
    case TENSOR_weight_hh:
        return layer->weight_hh + gates_index(a->cell, a->hidden_size, true, row) * packed->hidden;
    case TENSOR_bias:
        return layer->bias + gates_index(a->cell, a->hidden_size, false, row);
    case TENSOR_bias_hh:
        return layer->bias_hh + gates_index(a->cell, a->hidden_size, true, row);
    case TENSOR_output_weight:
        return gradients->output + row * packed->hidden;
    case TENSOR_dense_weight:
    case TENSOR_dense_bias: /* packed_open() refuses them */
    case TENSOR_output_bias:
        break;
    }
    return gradients->output_bias + row;
}

static void sum_rows(struct gradients *const *workers, size_t count, const struct packed_network *packed,
                     const struct kernels *kernels, const struct tensor *tensor, struct gradients_share share)
{
    const bool tied = tensor->kind == TENSOR_embedding && packed->architecture.tie_weights;
    for (size_t row = share.first; row < share.first + share.rows; row++) {
        float *out = tensor->data + row * tensor->columns;
        memcpy(out, row_of(workers[0], packed, tensor, row), tensor->columns * sizeof(float));
        for (size_t w = 1; w < count; w++) kernels->add(tensor->columns, row_of(workers[w], packed, tensor, row), out);
        for (size_t w = 0; tied && w < count; w++)
            kernels->add(tensor->columns, workers[w]->output + row * packed->hidden, out);
    }
}

/* The gradient of a weight that was dropped is zero, of one that was kept it is scaled as the weight was. */
static void mask_rows(const struct dropout *drop, const struct packed_network *packed, const struct tensor *tensor,
                      struct gradients_share share, float *mask)
{
    for (size_t row = share.first; row < share.first + share.rows; row++) {
        dropout_draw(drop, DROPOUT_WEIGHTS, dropout_weight_row(tensor->layer, row), packed->hidden, mask);
        for (size_t i = 0; i < tensor->columns; i++) tensor->data[row * tensor->columns + i] *= mask[i];
    }
}

/* Rows from `row` on that lie in one block of gates. */
static size_t run_length(const struct packed_network *packed, size_t row, size_t rows)
{
    const size_t H = packed->architecture.hidden_size, unit = row % H;
    size_t run = BLOCK - unit % BLOCK;
    if (run > H - unit) run = H - unit;
    return run < rows ? run : rows;
}

/* One-hot layer 0: weight_ih is the transpose of the table, the bias is the sum of the table's rows. */
static void sum_table(struct gradients *const *workers, size_t count, const struct packed_network *packed,
                      const struct kernels *kernels, const struct tensor *tensor, struct gradients_share share,
                      float *scratch)
{
    const struct architecture *a = &packed->architecture;
    const size_t V = a->vocabulary_size, end = share.first + share.rows;
    for (size_t row = share.first, run; row < end; row += run) {
        run = run_length(packed, row, end - row);
        const size_t column = gates_index(a->cell, a->hidden_size, false, row);
        float *out = tensor->data + row * tensor->columns;
        memset(out, 0, run * tensor->columns * sizeof(float));
        for (size_t w = 0; w < count; w++) {
            const float *table = workers[w]->layers[0].table + column;
            if (tensor->kind == TENSOR_bias) {
                for (size_t v = 0; v < V; v++) kernels->add(run, table + v * packed->gate_row, out);
            } else {
                kernels->transpose(V, run, table, packed->gate_row, scratch, V);
                kernels->add(run * V, scratch, out);
            }
        }
    }
}

double gradients_reduce(struct gradients *const *workers, const struct packed_network *packed,
                        const struct kernels *kernels, struct network *sum, size_t part, size_t parts,
                        const struct dropout *weight_drop)
{
    double squares = 0;
    for (size_t t = 0; t < sum->tensor_count; t++) {
        const struct tensor *tensor = &sum->tensors[t];
        const struct gradients_share share = gradients_share(tensor, part, parts);
        const bool table = tensor->layer == 0 && packed->layers[0].table &&
                           (tensor->kind == TENSOR_weight_ih || tensor->kind == TENSOR_bias);
        if (table) {
            sum_table(workers, parts, packed, kernels, tensor, share, workers[part]->scratch);
        } else {
            sum_rows(workers, parts, packed, kernels, tensor, share);
        }
        if (weight_drop->probability > 0 && tensor->kind == TENSOR_weight_hh)
            mask_rows(weight_drop, packed, tensor, share, workers[part]->scratch);
        squares += kernels->sum_of_squares(share.rows * tensor->columns, tensor->data + share.first * tensor->columns);
    }
    return squares;
}
