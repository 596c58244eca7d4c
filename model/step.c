#include "model/step.h"

#include <assert.h>
#include <string.h>

#include "base/size.h"
#include "model/cell.h"

#define BLOCK KERNEL_BLOCK

/* State vectors of one layer: h, and c for LSTM. */
static size_t state_parts(const struct stepper *stepper)
{
    return stepper->architecture.cell == CELL_LSTM ? 2 : 1;
}

bool stepper_open(struct stepper *stepper, const struct network *network, const struct kernels *kernels,
                  struct error *err)
{
    memset(stepper, 0, sizeof *stepper);
    stepper->architecture = network->architecture;
    stepper->kernels = kernels;
    if (!packed_open(&stepper->packed, &network->architecture, PACKED_INFERENCE, err)) return false;
    packed_update(&stepper->packed, network, kernels, 0, 1);
    stepper->state_size = network->architecture.layers * state_parts(stepper) * stepper->packed.hidden;
    stepper->logits_size = stepper->packed.vocabulary;
    return true;
}

void stepper_close(struct stepper *stepper)
{
    packed_close(&stepper->packed);
}

/* `rows` rows of `width` floats. */
static float *take_rows(struct arena *arena, size_t rows, size_t width, struct error *err)
{
    size_t count;
    if (!size_multiply(rows, width, &count)) {
        error_set(err, ERROR_TOO_LARGE, "a batch of %zu sequences is more than memory can hold", rows);
        return NULL;
    }
    return arena_alloc(arena, count, sizeof(float), "stepping", err);
}

bool step_scratch_open(struct step_scratch *scratch, const struct stepper *stepper, size_t max_batch, struct error *err)
{
    const struct packed_network *packed = &stepper->packed;
    struct arena *arena = &scratch->arena;
    memset(scratch, 0, sizeof *scratch);
    scratch->max_batch = max_batch;

    if ((scratch->gates = take_rows(arena, max_batch, packed->gate_row, err)) == NULL) return false;
    if ((scratch->state = take_rows(arena, max_batch, stepper->state_size, err)) == NULL) return false;
    if ((scratch->top = take_rows(arena, max_batch, packed->hidden, err)) == NULL) return false;
    if ((scratch->logits = take_rows(arena, max_batch, STEP_LOGITS_TILE, err)) == NULL) return false;
    scratch->wanted = arena_alloc(arena, max_batch, sizeof(float *), "stepping", err);
    if (scratch->wanted == NULL) return false;
    if (stepper->architecture.cell == CELL_GRU) {
        if ((scratch->gates_h = take_rows(arena, max_batch, packed->gate_row, err)) == NULL) return false;
    }
    if (packed->embedding != NULL) {
        scratch->embedding = take_rows(arena, max_batch, packed->embedding_width, err);
        if (scratch->embedding == NULL) return false;
    }
    return true;
}

void step_scratch_close(struct step_scratch *scratch)
{
    arena_free(&scratch->arena);
}

/* Copies n vectors of `width` floats; vector i of a sequence's state is vector i * batch + b of the gathered ones. */
static void gather(const struct stepper *stepper, size_t batch, float *const *states, float *gathered)
{
    const size_t width = stepper->packed.hidden, vectors = stepper->state_size / width;
    for (size_t i = 0; i < vectors; i++)
        for (size_t b = 0; b < batch; b++)
            memcpy(gathered + (i * batch + b) * width, states[b] + i * width, width * sizeof(float));
}

static void scatter(const struct stepper *stepper, size_t batch, const float *gathered, float *const *states)
{
    const size_t width = stepper->packed.hidden, vectors = stepper->state_size / width;
    for (size_t i = 0; i < vectors; i++)
        for (size_t b = 0; b < batch; b++)
            memcpy(states[b] + i * width, gathered + (i * batch + b) * width, width * sizeof(float));
}

static void embed(const struct stepper *stepper, struct step_scratch *scratch, size_t batch, const uint32_t *tokens)
{
    const size_t width = stepper->packed.embedding_width;
    for (size_t b = 0; b < batch; b++)
        memcpy(scratch->embedding + b * width, stepper->packed.embedding + tokens[b] * width, width * sizeof(float));
}

/* gates = W_ih x + b of a layer; x [batch][layer->input], unused where the input is one-hot. */
static void input_gates(const struct stepper *stepper, struct step_scratch *scratch, size_t layer, size_t batch,
                        const uint32_t *tokens, const float *x)
{
    const struct packed_layer *weights = &stepper->packed.layers[layer];
    const size_t row = stepper->packed.gate_row;
    for (size_t b = 0; b < batch; b++) {
        const float *start = weights->table != NULL ? weights->table + tokens[b] * row : weights->bias;
        memcpy(scratch->gates + b * row, start, row * sizeof(float));
    }
    if (weights->table != NULL) return;
    stepper->kernels->product(batch, row / BLOCK, weights->input, x, weights->input, weights->weight_ih,
                              weights->input * BLOCK, scratch->gates, row, true);
}

/* All layers; states [layers][h, c][batch][Hp], in place. Returns h of the top layer. */
static const float *step_layers(const struct stepper *stepper, struct step_scratch *scratch, size_t batch,
                                const uint32_t *tokens, float *states)
{
    const size_t vector = batch * stepper->packed.hidden, parts = state_parts(stepper);
    const float *x = scratch->embedding;

    if (x != NULL) embed(stepper, scratch, batch, tokens);
    for (size_t layer = 0; layer < stepper->architecture.layers; layer++) {
        float *h = states + layer * parts * vector, *c = parts == 2 ? h + vector : NULL;
        input_gates(stepper, scratch, layer, batch, tokens, x);
        const struct cell_rows rows = {.n = batch,
                                       .gates_x = scratch->gates,
                                       .gates_h = scratch->gates_h,
                                       .h_previous = h,
                                       .c_previous = c,
                                       .h = h,
                                       .c = c};
        cell_forward(&stepper->packed, stepper->kernels, layer, &rows);
        x = h;
    }
    return x;
}

/* y [n][ldy] = the logits of blocks first .. first + blocks of n rows of h. */
static void output_product(const struct stepper *stepper, size_t n, const float *h, size_t first, size_t blocks,
                           float *y, size_t ldy)
{
    const struct packed_network *packed = &stepper->packed;
    for (size_t i = 0; i < n; i++)
        memcpy(y + i * ldy, packed->output_bias + first * BLOCK, blocks * BLOCK * sizeof(float));
    stepper->kernels->product(n, blocks, packed->hidden, h, packed->hidden,
                              packed->output + first * packed->hidden * BLOCK, packed->hidden * BLOCK, y, ldy, true);
}

/* The logits of several rows: computed together, a tile at a time, and handed out. */
static void output_rows(const struct stepper *stepper, struct step_scratch *scratch, size_t n)
{
    const size_t width = stepper->logits_size;
    for (size_t first = 0; first < width; first += STEP_LOGITS_TILE) {
        const size_t tile = width - first < STEP_LOGITS_TILE ? width - first : STEP_LOGITS_TILE;
        output_product(stepper, n, scratch->top, first / BLOCK, tile / BLOCK, scratch->logits, tile);
        for (size_t i = 0; i < n; i++)
            memcpy(scratch->wanted[i] + first, scratch->logits + i * tile, tile * sizeof(float));
    }
}

static void output(const struct stepper *stepper, struct step_scratch *scratch, size_t batch, const float *top,
                   float *const *logits)
{
    const size_t width = stepper->packed.hidden;
    size_t n = 0;
    for (size_t b = 0; b < batch; b++) {
        if (logits[b] == NULL) continue;
        memcpy(scratch->top + n * width, top + b * width, width * sizeof(float));
        scratch->wanted[n++] = logits[b];
    }
    if (n == 1) {
        output_product(stepper, 1, scratch->top, 0, stepper->logits_size / BLOCK, scratch->wanted[0],
                       stepper->logits_size);
    } else if (n > 1) {
        output_rows(stepper, scratch, n);
    }
}

void step(const struct stepper *stepper, struct step_scratch *scratch, size_t batch, const uint32_t *tokens,
          float *const *states, float *const *logits)
{
    assert(batch >= 1 && batch <= scratch->max_batch);
    /* The gathered layout of one sequence is the sequence's own: no copies. */
    float *gathered = batch == 1 ? states[0] : scratch->state;
    if (batch > 1) gather(stepper, batch, states, gathered);
    const float *top = step_layers(stepper, scratch, batch, tokens, gathered);
    if (batch > 1) scatter(stepper, batch, gathered, states);
    if (logits != NULL) output(stepper, scratch, batch, top, logits);
}
