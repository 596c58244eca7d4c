#include "model/step.h"

#include <assert.h>
#include <string.h>

#include "base/size.h"

/* State vectors of one layer: h, and c for LSTM. */
static size_t state_parts(const struct stepper *stepper)
{
    return stepper->architecture.cell == CELL_LSTM ? 2 : 1;
}

bool stepper_open_as(struct stepper *stepper, const struct network *network, const struct kernels *kernels,
                     enum kernel_format format, struct error *err)
{
    memset(stepper, 0, sizeof *stepper);
    stepper->architecture = network->architecture;
    stepper->kernels = kernels;
    if (!step_weights_open(&stepper->weights, network, kernels, format, err)) return false;
    stepper->state_size = network->architecture.layers * state_parts(stepper) * stepper->weights.hidden;
    stepper->logits_size = stepper->weights.vocabulary;
    return true;
}

bool stepper_open(struct stepper *stepper, const struct network *network, const struct kernels *kernels,
                  struct error *err)
{
    return stepper_open_as(stepper, network, kernels, KERNEL_F32, err);
}

void stepper_close(struct stepper *stepper)
{
    step_weights_close(&stepper->weights);
}

bool step_scratch_open(struct step_scratch *scratch, const struct stepper *stepper, size_t max_batch, struct error *err)
{
    struct arena *arena = &scratch->arena;
    const size_t width = stepper->weights.hidden;
    size_t values;
    memset(scratch, 0, sizeof *scratch);
    scratch->max_batch = max_batch;
    if (!size_multiply(max_batch, width, &values))
        return error_set(err, ERROR_TOO_LARGE, "a batch of %zu sequences is more than memory can hold", max_batch);
#define TAKE(field, count)                                                                                             \
    if ((scratch->field = arena_alloc(arena, (count), sizeof *scratch->field, "stepping", err)) == NULL) return false
    TAKE(h[0], values);
    TAKE(h[1], values);
    if (stepper->weights.format == KERNEL_INT8) {
        TAKE(h_integers, values);
        TAKE(x_integers, values);
    }
    TAKE(start, max_batch);
    TAKE(h_previous, max_batch);
    TAKE(x, max_batch);
    TAKE(hidden_input, max_batch);
    TAKE(h_rows, max_batch);
    TAKE(c, max_batch);
    TAKE(wanted, max_batch);
#undef TAKE
    return true;
}

void step_scratch_close(struct step_scratch *scratch)
{
    arena_free(&scratch->arena);
}

/* inputs[b] = row b of h as a product reads it: itself, or its integers, which are put into `integers`. */
static void prepare_input(const struct stepper *stepper, size_t batch, const float *const *h, int16_t *integers,
                          const void **inputs)
{
    const struct step_weights *weights = &stepper->weights;
    const size_t width = weights->hidden;
    for (size_t b = 0; b < batch; b++) {
        inputs[b] = h[b];
        if (weights->format != KERNEL_INT8) continue;
        stepper->kernels->quantize(width, h[b], (float)weights->limit, weights->limit, integers + b * width);
        inputs[b] = integers + b * width;
    }
}

static void prepare_tokens(const struct stepper *stepper, struct step_scratch *scratch, size_t batch,
                           const uint32_t *tokens)
{
    const struct step_weights *weights = &stepper->weights;
    const struct step_layer *layer = &weights->layers[0];
    const size_t size = step_input_size(weights->format, weights->embedding_width);
    for (size_t b = 0; b < batch; b++) {
        if (layer->table != NULL) {
            scratch->start[b] = layer->table + tokens[b] * weights->gate_row;
        } else {
            scratch->start[b] = layer->bias;
            scratch->x[b] = (const char *)weights->embedding + tokens[b] * size;
        }
    }
}

static void run_kernel(const struct stepper *stepper, const struct kernel_step *arguments)
{
    switch (stepper->architecture.cell) {
    case CELL_LSTM:
        stepper->kernels->lstm_step(arguments);
        break;
    case CELL_GRU:
        stepper->kernels->gru_step(arguments);
        break;
    case CELL_RNN:
        stepper->kernels->rnn_step(arguments);
        break;
    }
}

/* One layer; start and x are prepared. The kernel reads h of the last step for every unit, so the new h is put beside
 * it and copied afterwards. */
static void step_layer(const struct stepper *stepper, struct step_scratch *scratch, size_t layer, size_t batch,
                       float *const *states)
{
    const struct step_weights *weights = &stepper->weights;
    const size_t width = weights->hidden, first = layer * state_parts(stepper) * width;
    for (size_t b = 0; b < batch; b++) {
        scratch->h_previous[b] = states[b] + first;
        scratch->c[b] = states[b] + first + width;
        scratch->h_rows[b] = scratch->h[layer % 2] + b * width;
    }
    prepare_input(stepper, batch, scratch->h_previous, scratch->h_integers, scratch->hidden_input);
    const struct kernel_step arguments = {.rows = batch,
                                          .blocks = width / KERNEL_BLOCK,
                                          .input = weights->layers[layer].input,
                                          .hidden = weights->layers[layer].hidden,
                                          .start = scratch->start,
                                          .bias_hh = weights->layers[layer].bias_hh,
                                          .x = scratch->x,
                                          .hidden_input = scratch->hidden_input,
                                          .h_previous = scratch->h_previous,
                                          .h = scratch->h_rows,
                                          .c = scratch->c};
    run_kernel(stepper, &arguments);
    for (size_t b = 0; b < batch; b++) memcpy(states[b] + first, scratch->h_rows[b], width * sizeof(float));
}

/* The output layer for the rows that want it, from the top layer's h in h_rows. */
static void output(const struct stepper *stepper, struct step_scratch *scratch, size_t batch, float *const *logits)
{
    const struct step_weights *weights = &stepper->weights;
    size_t n = 0;
    for (size_t b = 0; b < batch; b++) {
        if (logits[b] == NULL) continue;
        scratch->h_previous[n] = scratch->h_rows[b];
        scratch->wanted[n++] = logits[b];
    }
    if (n == 0) return;
    prepare_input(stepper, n, scratch->h_previous, scratch->x_integers, scratch->x);
    stepper->kernels->project(n, weights->vocabulary / KERNEL_BLOCK, &weights->output, weights->output_bias, scratch->x,
                              scratch->wanted);
}

void step(const struct stepper *stepper, struct step_scratch *scratch, size_t batch, const uint32_t *tokens,
          float *const *states, float *const *logits)
{
    assert(batch >= 1 && batch <= scratch->max_batch);
    prepare_tokens(stepper, scratch, batch, tokens);
    for (size_t layer = 0; layer < stepper->architecture.layers; layer++) {
        if (layer > 0) {
            prepare_input(stepper, batch, (const float *const *)scratch->h_rows, scratch->x_integers, scratch->x);
            for (size_t b = 0; b < batch; b++) scratch->start[b] = stepper->weights.layers[layer].bias;
        }
        step_layer(stepper, scratch, layer, batch, states);
    }
    if (logits != NULL) output(stepper, scratch, batch, logits);
}
