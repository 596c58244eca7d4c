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

/* A worker's gradient of one row of a tensor. Not for the one-hot table, whose rows are columns here. */
static const float *gradient_row(const struct gradients *gradients, const struct packed_network *packed,
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

static void sum_rows(const struct gradients_sum *sum, size_t count, const struct tensor *tensor,
                     struct gradients_share share)
{
    const struct packed_network *packed = sum->packed;
    const bool tied = tensor->kind == TENSOR_embedding && packed->architecture.tie_weights;
    for (size_t row = share.first; row < share.first + share.rows; row++) {
        float *out = tensor->data + row * tensor->columns;
        memcpy(out, gradient_row(sum->workers[0], packed, tensor, row), tensor->columns * sizeof(float));
        for (size_t w = 1; w < count; w++)
            sum->kernels->add(tensor->columns, gradient_row(sum->workers[w], packed, tensor, row), out);
        for (size_t w = 0; tied && w < count; w++)
            sum->kernels->add(tensor->columns, sum->workers[w]->output + row * packed->hidden, out);
    }
}

/* The gradient of a weight that was dropped is zero. That of a weight that was kept is scaled as the weight was.
 * mask: scratch [Hp]. */
static void mask_rows(const struct gradients_sum *sum, const struct tensor *tensor, struct gradients_share share,
                      float *mask)
{
    for (size_t row = share.first; row < share.first + share.rows; row++) {
        dropout_draw(sum->weight_drop, DROPOUT_WEIGHTS, dropout_weight_row(tensor->layer, row), sum->packed->hidden,
                     mask);
        for (size_t i = 0; i < tensor->columns; i++) tensor->data[row * tensor->columns + i] *= mask[i];
    }
}

/* How many of the `rows` rows from `row` on lie in one block of gates. */
static size_t rows_in_block(const struct packed_network *packed, size_t row, size_t rows)
{
    const size_t H = packed->architecture.hidden_size, unit = row % H;
    size_t run = BLOCK - unit % BLOCK;
    if (run > H - unit) run = H - unit;
    return run < rows ? run : rows;
}

/* One-hot layer 0: weight_ih is the transpose of the table, the bias is the sum of the table's rows. */
static void sum_table(const struct gradients_sum *sum, size_t count, const struct tensor *tensor,
                      struct gradients_share share, float *scratch)
{
    const struct packed_network *packed = sum->packed;
    const struct kernels *kernels = sum->kernels;
    const struct architecture *a = &packed->architecture;
    const size_t V = a->vocabulary_size, end = share.first + share.rows;
    for (size_t row = share.first, rows; row < end; row += rows) {
        rows = rows_in_block(packed, row, end - row);
        const size_t column = gates_index(a->cell, a->hidden_size, false, row);
        float *out = tensor->data + row * tensor->columns;
        memset(out, 0, rows * tensor->columns * sizeof(float));
        for (size_t w = 0; w < count; w++) {
            const float *table = sum->workers[w]->layers[0].table + column;
            if (tensor->kind == TENSOR_bias) {
                for (size_t v = 0; v < V; v++) kernels->add(rows, table + v * packed->gate_row, out);
            } else {
                kernels->transpose(V, rows, table, packed->gate_row, scratch, V);
                kernels->add(rows * V, scratch, out);
            }
        }
    }
}

double gradients_reduce(const struct gradients_sum *sum, size_t part, size_t parts)
{
    float *scratch = sum->workers[part]->scratch;
    double squares = 0;
    for (size_t t = 0; t < sum->network->tensor_count; t++) {
        const struct tensor *tensor = &sum->network->tensors[t];
        const struct gradients_share share = gradients_share(tensor, part, parts);
        const bool table = tensor->layer == 0 && sum->packed->layers[0].table &&
                           (tensor->kind == TENSOR_weight_ih || tensor->kind == TENSOR_bias);
        if (table) {
            sum_table(sum, parts, tensor, share, scratch);
        } else {
            sum_rows(sum, parts, tensor, share);
        }
        if (sum->weight_drop->probability > 0 && tensor->kind == TENSOR_weight_hh)
            mask_rows(sum, tensor, share, scratch);
        squares +=
            sum->kernels->sum_of_squares(share.rows * tensor->columns, tensor->data + share.first * tensor->columns);
    }
    return squares;
}
