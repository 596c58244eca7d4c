#include "model/generate/step_piece.h"

#include <assert.h>
#include <string.h>

#include "base/size.h"
#include "model/generate/step_internal.h"
#include "model/kernels/blas.h"
#include "model/network/gates.h"
#include "model/network/plain_step.h"

/* Limits of step_piece_most(). From 32 rows on, products hardly become faster. */
#define PIECE_LEAST   16
#define PIECE_MOST    64
#define PIECE_WEIGHTS ((size_t)1 << 27)

size_t step_piece_most(const struct stepper *stepper)
{
    const size_t most = PIECE_WEIGHTS / (step_weights_bytes(&stepper->weights) / sizeof(float) + 1);
    return most < PIECE_LEAST ? PIECE_LEAST : most > PIECE_MOST ? PIECE_MOST : most;
}

bool step_piece_has_library(const struct stepper *stepper)
{
    return stepper->library && stepper->weights.fused && stepper->weights.format == KERNEL_F32;
}

/* ------------------------------------------------------------------ memory */

/* The biases of layer k, if its cell keeps the products apart: all gates but the last one, whose hidden part stays
 * apart, start with both biases, and the steps behind the input products do not add the second one again. */
static bool open_biases(struct step_piece *piece, size_t k, struct error *err)
{
    const struct architecture *a = &piece->stepper->architecture;
    const struct step_layer *layer = &piece->stepper->weights.layers[k];
    const size_t H = architecture_hidden(a, k), added = (architecture_gates(a) - 1) * H;
    if (layer->table || !cell_table[a->cell].apart) return true;
    piece->start[k] = arena_alloc(&piece->arena, layer->gate_row, sizeof(float), "biases", err);
    piece->bias_hh[k] = arena_alloc(&piece->arena, layer->gate_row, sizeof(float), "biases", err);
    if (!piece->start[k] || !piece->bias_hh[k]) return false;
    memcpy(piece->start[k], layer->bias, layer->gate_row * sizeof(float));
    memcpy(piece->bias_hh[k], layer->bias_hh, layer->gate_row * sizeof(float));
    for (size_t row = 0; row < added; row++) {
        float *second = &piece->bias_hh[k][gates_index(a->cell, H, true, row)];
        piece->start[k][gates_index(a->cell, H, false, row)] += *second;
        *second = 0;
    }
    return true;
}

static bool open_rows(struct step_piece *piece, struct error *err)
{
    const struct step_weights *weights = &piece->stepper->weights;
    struct arena *arena = &piece->arena;
    size_t gate_row = 0, values;
    piece->width = weights->largest_width;
    if (weights->embedding_width > piece->width) piece->width = weights->embedding_width;
    for (size_t k = 0; k < weights->architecture.layers; k++)
        if (weights->layers[k].gate_row > gate_row) gate_row = weights->layers[k].gate_row;
    if (!size_multiply(piece->tokens, piece->width, &values))
        return error_set(err, ERROR_TOO_LARGE, "a piece of %zu tokens is more than memory can hold", piece->tokens);
    for (size_t i = 0; i < 2; i++) {
        piece->rows[i] = arena_alloc(arena, values, sizeof(float), "reading", err);
        if (!piece->rows[i]) return false;
    }
    if (weights->format == KERNEL_INT8) {
        piece->integers = arena_alloc(arena, values, sizeof(int16_t), "reading", err);
        if (!piece->integers) return false;
    }
    piece->gates = arena_alloc(arena, piece->tokens, gate_row * sizeof(float), "reading", err);
    return piece->gates;
}

bool step_piece_open(struct step_piece *piece, const struct stepper *stepper, size_t tokens, bool library, bool logits,
                     struct error *err)
{
    const size_t most = step_piece_most(stepper);
    *piece = (struct step_piece){.stepper = stepper, .library = library && step_piece_has_library(stepper)};
    piece->tokens = tokens < 1 ? 1 : tokens < most ? tokens : most;
    if (!step_scratch_open(&piece->scratch, stepper, 1, err)) return false;
    if (logits) {
        piece->logits = arena_alloc(&piece->arena, piece->tokens, stepper->logits_size * sizeof(float), "logits", err);
        if (!piece->logits) return false;
    }
    if (!stepper->weights.fused) return true;
    if (!open_rows(piece, err)) return false;
    for (size_t k = 0; k < stepper->architecture.layers; k++)
        if (!open_biases(piece, k, err)) return false;
    return true;
}

void step_piece_close(struct step_piece *piece)
{
    step_scratch_close(&piece->scratch);
    arena_free(&piece->arena);
}

/* ------------------------------------------------------------------ products */

/* Rows [n][width] as a product reads them: INT8: their integers. */
static const void *prepare_rows(struct step_piece *piece, size_t n, size_t width, const float *rows)
{
    const struct stepper *stepper = piece->stepper;
    const int32_t limit = step_input_limit(width);
    if (stepper->weights.format != KERNEL_INT8) return rows;
    for (size_t t = 0; t < n; t++)
        stepper->kernels->quantize(width, rows + t * width, (float)limit, limit, piece->integers + t * width);
    return piece->integers;
}

/* The embeddings of n tokens, in the format of an input. */
static const void *gather_embeddings(struct step_piece *piece, size_t n, const uint32_t *tokens)
{
    const struct step_weights *weights = &piece->stepper->weights;
    const size_t size = step_input_size(weights->format, weights->embedding_width);
    char *rows = weights->format == KERNEL_INT8 ? (char *)piece->integers : (char *)piece->rows[1];
    for (size_t t = 0; t < n; t++) memcpy(rows + t * size, (const char *)weights->embedding + tokens[t] * size, size);
    return rows;
}

static void multiply(const struct step_piece *piece, const struct kernel_inputs *inputs)
{
    if (piece->library)
        blas_inputs(inputs);
    else
        piece->stepper->kernels->inputs(inputs);
}

/* The input products of layer k. x: [n] rows of its matrix's input. */
static void multiply_inputs(const struct step_piece *piece, size_t k, size_t n, const void *x)
{
    const struct step_layer *layer = &piece->stepper->weights.layers[k];
    multiply(piece, &(struct kernel_inputs){.rows = n,
                                            .blocks = layer->width / KERNEL_BLOCK,
                                            .gates = layer->gate_row / layer->width,
                                            .matrix = &layer->input,
                                            .start = piece->start[k] ? piece->start[k] : layer->bias,
                                            .x = x,
                                            .ldx = layer->input.inputs,
                                            .y = piece->gates,
                                            .ldy = layer->gate_row});
}

/* Layers without state: y[n][width] = b + W x for x[n][inputs]. */
static void multiply_dense(struct step_piece *piece, const struct step_dense *dense, size_t n, const float *x, float *y)
{
    const size_t inputs = dense->matrix.inputs;
    multiply(piece, &(struct kernel_inputs){.rows = n,
                                            .blocks = dense->width / KERNEL_BLOCK,
                                            .gates = 1,
                                            .matrix = &dense->matrix,
                                            .start = dense->bias,
                                            .x = prepare_rows(piece, n, inputs, x),
                                            .ldx = inputs,
                                            .y = y,
                                            .ldy = dense->width});
}

/* ------------------------------------------------------------------ layers */

/* Steps layer k over n tokens whose input products are there: the rows of h in piece->rows[k % 2], and the state. */
static void step_tokens(struct step_piece *piece, size_t k, size_t n, const uint32_t *tokens, float *state)
{
    const struct stepper *stepper = piece->stepper;
    const struct step_layer *layer = &stepper->weights.layers[k];
    const size_t width = layer->width;
    float *c = state + stepper->first_state[k] + width, *h = piece->rows[k % 2];
    const float *start, *previous = state + stepper->first_state[k];
    const void *hidden_input;
    const struct kernel_step arguments = {.rows = 1,
                                          .blocks = width / KERNEL_BLOCK,
                                          .input = {.format = layer->hidden.format},
                                          .hidden = layer->hidden,
                                          .start = &start,
                                          .bias_hh = piece->bias_hh[k] ? piece->bias_hh[k] : layer->bias_hh,
                                          .hidden_input = &hidden_input,
                                          .h_previous = &previous,
                                          .h = &h,
                                          .c = &c};
    for (size_t t = 0; t < n; t++, previous = h, h += width) {
        start = layer->table ? layer->table + tokens[t] * layer->gate_row : piece->gates + t * layer->gate_row;
        step_prepare_inputs(stepper, 1, width, &previous, piece->scratch.h_integers, &hidden_input);
        cell_table[stepper->architecture.cell].step(stepper->kernels, &arguments);
    }
    memcpy(state + stepper->first_state[k], previous, width * sizeof(float));
}

/* The layers above the recurrent ones, for tokens wanted .. n-1. */
static void write_logits(struct step_piece *piece, size_t n, size_t wanted)
{
    const struct stepper *stepper = piece->stepper;
    const struct architecture *a = &stepper->architecture;
    const size_t count = n - wanted;
    size_t at = a->layers - 1;
    const float *x = piece->rows[at % 2] + wanted * stepper->weights.layers[at].width;
    for (size_t d = 0; d < a->dense_layers; d++) {
        const struct step_dense *dense = &stepper->weights.dense[d];
        float *y = piece->rows[++at % 2];
        multiply_dense(piece, dense, count, x, y);
        for (size_t t = 0; t < count; t++)
            plain_activate(a->dense[d].activation, stepper->kernels, dense->width, y + t * dense->width);
        x = y;
    }
    multiply_dense(piece, &stepper->weights.output, count, x, piece->logits + wanted * stepper->logits_size);
}

/* Without fused steps, or a single token: token by token. */
static void step_each(struct step_piece *piece, size_t n, const uint32_t *tokens, float *state, size_t wanted)
{
    for (size_t t = 0; t < n; t++) {
        float *logits = t >= wanted ? piece->logits + t * piece->stepper->logits_size : NULL;
        step(piece->stepper, &piece->scratch, 1, tokens + t, &state, &logits);
    }
}

void step_piece(struct step_piece *piece, size_t n, const uint32_t *tokens, float *state, size_t wanted)
{
    const struct step_weights *weights = &piece->stepper->weights;
    assert(n >= 1 && n <= piece->tokens && (wanted >= n || piece->logits));
    if (!weights->fused || (n == 1 && !piece->library)) {
        step_each(piece, n, tokens, state, wanted);
        return;
    }
    for (size_t k = 0; k < weights->architecture.layers; k++) {
        const float *below = piece->rows[(k + 1) % 2];
        if (k > 0)
            multiply_inputs(piece, k, n, prepare_rows(piece, n, weights->layers[k - 1].width, below));
        else if (!weights->layers[k].table)
            multiply_inputs(piece, k, n, gather_embeddings(piece, n, tokens));
        step_tokens(piece, k, n, tokens, state);
    }
    if (wanted < n) write_logits(piece, n, wanted);
}
