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

/* Where a matrix is packed to. */
struct packed_pair {
    bool plain;             /* for a library (kernels.h): both as rows */
    size_t inputs, outputs; /* in whole blocks */
    float *forward;         /* [outputs/16][inputs][16]; plain: [inputs][outputs] */
    float *transpose;       /* [inputs/16][outputs][16]; plain: [outputs][inputs] */
};

/* A matrix of gates, as the network has it and as it is packed. */
struct gate_matrix {
    bool hidden_part;     /* W_hh; else W_ih */
    const float *weights; /* [G*H][columns] */
    size_t columns;
    struct packed_pair packed;
};

/* rows [count][columns]: those of one block. */
static void pack_block(const struct kernels *kernels, const struct packed_pair *to, size_t block, const float *rows,
                       size_t count, size_t columns)
{
    if (to->plain) {
        kernels->transpose(count, columns, rows, columns, to->forward + block * BLOCK, to->outputs);
        for (size_t r = 0; r < count; r++)
            memcpy(to->transpose + (block * BLOCK + r) * to->inputs, rows + r * columns, columns * sizeof(float));
        return;
    }
    kernels->transpose(count, columns, rows, columns, to->forward + block * to->inputs * BLOCK, BLOCK);
    for (size_t i = 0; i < columns; i += BLOCK) {
        float *out = to->transpose + (i / BLOCK * to->outputs + block * BLOCK) * BLOCK;
        for (size_t r = 0; r < count; r++)
            memcpy(out + r * BLOCK, rows + r * columns + i, rows_of_block(i, columns) * sizeof(float));
    }
}

static void pack_gates(const struct packed_network *packed, const struct packed_job *job,
                       const struct gate_matrix *matrix)
{
    const size_t H = packed->architecture.hidden_size;
    for (size_t block = job->part; block < packed->gate_row / BLOCK; block += job->parts) {
        const struct gates_place place = gates_place(packed->architecture.cell, matrix->hidden_part, block);
        const float *rows = matrix->weights + (place.gate * H + place.unit) * matrix->columns;
        pack_block(job->kernels, &matrix->packed, block, rows, rows_of_block(place.unit, H), matrix->columns);
    }
}

/* As pack_gates(), of layer k's recurrent weights with the masks of weight drop. */
static void pack_dropped(const struct packed_network *packed, const struct packed_job *job, size_t k,
                         const struct gate_matrix *matrix)
{
    const size_t H = packed->architecture.hidden_size, Hp = packed->hidden;
    float *rows = job->scratch, *mask = rows + BLOCK * Hp;
    for (size_t block = job->part; block < packed->gate_row / BLOCK; block += job->parts) {
        const struct gates_place place = gates_place(packed->architecture.cell, true, block);
        const size_t first = place.gate * H + place.unit, count = rows_of_block(place.unit, H);
        for (size_t r = 0; r < count; r++) {
            dropout_draw(job->weight_drop, DROPOUT_WEIGHTS, dropout_weight_row(k, first + r), Hp, mask);
            for (size_t i = 0; i < H; i++) rows[r * H + i] = matrix->weights[(first + r) * H + i] * mask[i];
        }
        pack_block(job->kernels, &matrix->packed, block, rows, count, H);
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

/* Layer 0 of a one-hot input: table[v] = column v of W_ih, plus the bias. */
static void pack_table(const struct packed_network *packed, const struct packed_job *job)
{
    const size_t H = packed->architecture.hidden_size, V = packed->architecture.vocabulary_size;
    const float *weights = job->network->weight_ih[0], *bias = job->network->bias[0];
    for (size_t block = job->part; block < packed->gate_row / BLOCK; block += job->parts) {
        const struct gates_place place = gates_place(packed->architecture.cell, false, block);
        const size_t row = place.gate * H + place.unit, count = rows_of_block(place.unit, H);
        float *out = packed->layers[0].table + block * BLOCK;
        job->kernels->transpose(count, V, weights + row * V, V, out, packed->gate_row);
        for (size_t v = 0; v < V; v++)
            for (size_t r = 0; r < count; r++) out[v * packed->gate_row + r] += bias[row + r];
    }
}

static void pack_layer(struct packed_network *packed, const struct packed_job *job, size_t k)
{
    const struct network *network = job->network;
    const struct packed_layer *layer = &packed->layers[k];
    const struct gate_matrix hidden = {.hidden_part = true,
                                       .weights = network->weight_hh[k],
                                       .columns = packed->architecture.hidden_size,
                                       .packed = {.plain = job->kernels->plain_step,
                                                  .inputs = packed->hidden,
                                                  .outputs = packed->gate_row,
                                                  .forward = layer->weight_hh,
                                                  .transpose = layer->weight_hh_t}};
    const struct gate_matrix input = {.hidden_part = false,
                                      .weights = network->weight_ih[k],
                                      .columns = architecture_input(&packed->architecture, k),
                                      .packed = {.plain = job->kernels->plain_window,
                                                 .inputs = layer->input,
                                                 .outputs = packed->gate_row,
                                                 .forward = layer->weight_ih,
                                                 .transpose = layer->weight_ih_t}};
    if (job->weight_drop->probability > 0) {
        pack_dropped(packed, job, k, &hidden);
    } else {
        pack_gates(packed, job, &hidden);
    }
    if (layer->table) {
        pack_table(packed, job);
    } else {
        pack_gates(packed, job, &input);
    }
    if (job->part != k % job->parts) return;
    pack_bias(packed, false, network->bias[k], layer->bias);
    if (layer->bias_hh) pack_bias(packed, true, network->bias_hh[k], layer->bias_hh);
}

static void pack_output(struct packed_network *packed, const struct packed_job *job)
{
    const size_t H = packed->architecture.hidden_size, V = packed->architecture.vocabulary_size;
    const struct packed_pair to = {.plain = job->kernels->plain_window,
                                   .inputs = packed->hidden,
                                   .outputs = packed->vocabulary,
                                   .forward = packed->output,
                                   .transpose = packed->output_t};
    for (size_t block = job->part; block < packed->vocabulary / BLOCK; block += job->parts) {
        const float *rows = job->network->output_weight + block * BLOCK * H;
        pack_block(job->kernels, &to, block, rows, rows_of_block(block * BLOCK, V), H);
    }
}

void packed_update(struct packed_network *packed, const struct packed_job *job)
{
    const struct architecture *a = &packed->architecture;
    const struct network *network = job->network;
    for (size_t k = 0; k < a->layers; k++) pack_layer(packed, job, k);
    pack_output(packed, job);
    if (job->part != 0) return;
    memcpy(packed->output_bias, network->output_bias, a->vocabulary_size * sizeof(float));
    for (size_t v = 0; packed->embedding && v < a->vocabulary_size; v++)
        memcpy(packed->embedding + v * packed->embedding_width, network->embedding + v * a->embedding_size,
               a->embedding_size * sizeof(float));
}
