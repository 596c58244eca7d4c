#include "model/train/packed.h"

#include <string.h>

#include "base/size.h"
#include "model/network/gates.h"

#define BLOCK KERNEL_BLOCK

static bool open_layer(struct packed_network *packed, size_t k, struct error *err)
{
    struct packed_layer *layer = &packed->layers[k];
    const struct architecture *a = &packed->architecture;
    const bool one_hot = k == 0 && a->embedding_size == 0;
    const size_t H = packed->hidden, row = packed->gate_row;

    layer->input = one_hot ? 0 : k == 0 ? packed->embedding_width : H;
#define TAKE(field, count)                                                                                             \
    if (!(layer->field = arena_alloc(&packed->arena, (count), sizeof(float), "packed " #field, err))) return false
    TAKE(bias, row);
    TAKE(weight_hh, row * H);
    TAKE(weight_hh_t, row * H);
    if (one_hot) {
        TAKE(table, a->vocabulary_size * row);
    } else {
        TAKE(weight_ih, row * layer->input);
        TAKE(weight_ih_t, row * layer->input);
    }
    if (cell_table[a->cell].apart) TAKE(bias_hh, row);
#undef TAKE
    return true;
}

void packed_layout(struct packed_network *packed, const struct architecture *architecture)
{
    /* The bounds of a valid architecture keep these far from overflowing 64 bits, and their products too. */
    *packed = (struct packed_network){
        .architecture = *architecture,
        .hidden = size_round_up(architecture->hidden_size, BLOCK),
        .embedding_width = size_round_up(architecture->embedding_size, BLOCK),
        .vocabulary = size_round_up(architecture->vocabulary_size, BLOCK),
        .gates = architecture_gates(architecture),
    };
    packed->gate_row = packed->gates * packed->hidden;
}

bool packed_open(struct packed_network *packed, const struct architecture *architecture, struct error *err)
{
    *packed = (struct packed_network){0};
    if (!architecture_validate(architecture, err)) return false;
    if (!architecture_is_standard(architecture))
        return error_set(err, ERROR_INVALID,
                         "only networks with tanh and sigmoid, reset_after, layers of one size, no dense layers and no "
                         "window can be trained");
    packed_layout(packed, architecture);

    struct arena *arena = &packed->arena;
    const size_t V = architecture->vocabulary_size, output = packed->vocabulary * packed->hidden;
    packed->output = arena_alloc(arena, output, sizeof(float), "packed output weights", err);
    packed->output_bias = arena_alloc(arena, packed->vocabulary, sizeof(float), "packed output bias", err);
    packed->output_t = arena_alloc(arena, output, sizeof(float), "packed output weights", err);
    if (!packed->output || !packed->output_bias || !packed->output_t) return false;
    if (architecture->embedding_size > 0) {
        packed->embedding = arena_alloc(arena, V * packed->embedding_width, sizeof(float), "packed embedding", err);
        if (!packed->embedding) return false;
    }
    for (size_t k = 0; k < architecture->layers; k++)
        if (!open_layer(packed, k, err)) return false;
    return true;
}

void packed_close(struct packed_network *packed)
{
    arena_free(&packed->arena);
}

static size_t rows_of_block(size_t first, size_t rows)
{
    return rows - first < BLOCK ? rows - first : BLOCK;
}

static void pack_gate_block(const struct packed_network *packed, const struct kernels *kernels, size_t block,
                            const float *rows, size_t count, size_t columns, size_t inputs, float *forward,
                            float *transpose)
{
    kernels->transpose(count, columns, rows, columns, forward + block * inputs * BLOCK, BLOCK);
    for (size_t i = 0; i < columns; i += BLOCK) {
        float *out = transpose + (i / BLOCK * packed->gate_row + block * BLOCK) * BLOCK;
        for (size_t r = 0; r < count; r++)
            memcpy(out + r * BLOCK, rows + r * columns + i, rows_of_block(i, columns) * sizeof(float));
    }
}

/* The share of the gate blocks of W [G*H][columns] that `part` packs: forward blocks [gate_row/16][inputs][16] and the
 * transpose [inputs/16][gate_row][16]. */
static void pack_gates(const struct packed_network *packed, const struct kernels *kernels, bool hidden_part,
                       const float *weights, size_t columns, size_t inputs, float *forward, float *transpose,
                       size_t part, size_t parts)
{
    const size_t H = packed->architecture.hidden_size;
    for (size_t block = part; block < packed->gate_row / BLOCK; block += parts) {
        const struct gates_place place = gates_place(packed->architecture.cell, hidden_part, block);
        const float *rows = weights + (place.gate * H + place.unit) * columns;
        pack_gate_block(packed, kernels, block, rows, rows_of_block(place.unit, H), columns, inputs, forward,
                        transpose);
    }
}

/* The same of layer k's recurrent weights, with the masks of weight drop. scratch: [17][Hp], the last row for a mask.
 */
static void pack_dropped(const struct packed_network *packed, const struct kernels *kernels, size_t k,
                         const float *weights, const struct dropout *drop, float *scratch, size_t part, size_t parts)
{
    const struct packed_layer *layer = &packed->layers[k];
    const size_t H = packed->architecture.hidden_size, Hp = packed->hidden;
    float *mask = scratch + BLOCK * Hp;
    for (size_t block = part; block < packed->gate_row / BLOCK; block += parts) {
        const struct gates_place place = gates_place(packed->architecture.cell, true, block);
        const size_t first = place.gate * H + place.unit, count = rows_of_block(place.unit, H);
        for (size_t r = 0; r < count; r++) {
            dropout_draw(drop, DROPOUT_WEIGHTS, dropout_weight_row(k, first + r), Hp, mask);
            for (size_t i = 0; i < H; i++) scratch[r * H + i] = weights[(first + r) * H + i] * mask[i];
        }
        pack_gate_block(packed, kernels, block, scratch, count, H, Hp, layer->weight_hh, layer->weight_hh_t);
    }
}

static void pack_bias(const struct packed_network *packed, bool hidden_part, const float *bias, float *out)
{
    const size_t H = packed->architecture.hidden_size;
    for (size_t block = 0; block < packed->gate_row / BLOCK; block++) {
        const struct gates_place place = gates_place(packed->architecture.cell, hidden_part, block);
        memcpy(out + block * BLOCK, bias + place.gate * H + place.unit, rows_of_block(place.unit, H) * sizeof(float));
    }
}

/* table[v] = column v of W_ih, plus the bias. */
static void pack_table(const struct packed_network *packed, const struct kernels *kernels, const float *weights,
                       const float *bias, float *table, size_t part, size_t parts)
{
    const size_t H = packed->architecture.hidden_size, V = packed->architecture.vocabulary_size;
    for (size_t block = part; block < packed->gate_row / BLOCK; block += parts) {
        const struct gates_place place = gates_place(packed->architecture.cell, false, block);
        const size_t row = place.gate * H + place.unit, count = rows_of_block(place.unit, H);
        float *out = table + block * BLOCK;
        kernels->transpose(count, V, weights + row * V, V, out, packed->gate_row);
        for (size_t v = 0; v < V; v++)
            for (size_t r = 0; r < count; r++) out[v * packed->gate_row + r] += bias[row + r];
    }
}

static void pack_output(struct packed_network *packed, const struct kernels *kernels, const float *weights, size_t part,
                        size_t parts)
{
    const size_t H = packed->architecture.hidden_size, V = packed->architecture.vocabulary_size;
    for (size_t block = part; block < packed->vocabulary / BLOCK; block += parts) {
        const float *rows = weights + block * BLOCK * H;
        const size_t count = rows_of_block(block * BLOCK, V);
        kernels->transpose(count, H, rows, H, packed->output + block * packed->hidden * BLOCK, BLOCK);
        for (size_t i = 0; i < H; i += BLOCK) {
            float *out = packed->output_t + (i / BLOCK * packed->vocabulary + block * BLOCK) * BLOCK;
            for (size_t r = 0; r < count; r++)
                memcpy(out + r * BLOCK, rows + r * H + i, rows_of_block(i, H) * sizeof(float));
        }
    }
}

void packed_update(struct packed_network *packed, const struct network *network, const struct kernels *kernels,
                   size_t part, size_t parts, const struct dropout *weight_drop, float *scratch)
{
    const struct architecture *a = &packed->architecture;
    for (size_t k = 0; k < a->layers; k++) {
        struct packed_layer *layer = &packed->layers[k];
        if (weight_drop->probability > 0) {
            pack_dropped(packed, kernels, k, network->weight_hh[k], weight_drop, scratch, part, parts);
        } else {
            pack_gates(packed, kernels, true, network->weight_hh[k], a->hidden_size, packed->hidden, layer->weight_hh,
                       layer->weight_hh_t, part, parts);
        }
        if (layer->table) {
            pack_table(packed, kernels, network->weight_ih[k], network->bias[k], layer->table, part, parts);
        } else {
            pack_gates(packed, kernels, false, network->weight_ih[k], architecture_input(a, k), layer->input,
                       layer->weight_ih, layer->weight_ih_t, part, parts);
        }
        if (part != k % parts) continue;
        pack_bias(packed, false, network->bias[k], layer->bias);
        if (layer->bias_hh) pack_bias(packed, true, network->bias_hh[k], layer->bias_hh);
    }
    pack_output(packed, kernels, network->output_weight, part, parts);
    if (part != 0) return;
    memcpy(packed->output_bias, network->output_bias, a->vocabulary_size * sizeof(float));
    for (size_t v = 0; packed->embedding && v < a->vocabulary_size; v++)
        memcpy(packed->embedding + v * packed->embedding_width, network->embedding + v * a->embedding_size,
               a->embedding_size * sizeof(float));
}
