#include "model/generate/step.h"

#include <assert.h>
#include <string.h>

#include "base/size.h"
#include "model/generate/step_internal.h"
#include "model/network/plain_step.h"

bool stepper_open_as(struct stepper *stepper, const struct network *network, const struct kernels *kernels,
                     enum kernel_format format, struct error *err)
{
    memset(stepper, 0, sizeof *stepper);
    stepper->architecture = network->architecture;
    stepper->kernels = kernels;
    if (!step_weights_open(&stepper->weights, network, kernels, format, err)) return false;
    for (size_t k = 0; k < network->architecture.layers; k++) {
        stepper->first_state[k] = stepper->state_size;
        stepper->state_size += cell_table[stepper->architecture.cell].states * stepper->weights.layers[k].width;
    }
    stepper->logits_size = stepper->weights.output.width;
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

/* Allocates the buffers that only step_variant() needs. */
static bool open_gates(struct step_scratch *scratch, const struct stepper *stepper, struct error *err)
{
    const size_t row = architecture_gates(&stepper->architecture) * stepper->weights.largest_width;
    for (size_t part = 0; part < 2; part++) {
        scratch->gates[part] = arena_alloc(&scratch->arena, scratch->max_batch, row * sizeof(float), "stepping", err);
        scratch->gate_rows[part] =
            arena_alloc(&scratch->arena, scratch->max_batch, sizeof *scratch->gate_rows[part], "stepping", err);
        if (!scratch->gates[part] || !scratch->gate_rows[part]) return false;
    }
    return true;
}

bool step_scratch_open(struct step_scratch *scratch, const struct stepper *stepper, size_t max_batch, struct error *err)
{
    struct arena *arena = &scratch->arena;
    size_t values;
    memset(scratch, 0, sizeof *scratch);
    scratch->max_batch = max_batch;
    if (!size_multiply(max_batch, stepper->weights.largest_width, &values))
        return error_set(err, ERROR_TOO_LARGE, "a batch of %zu sequences is more than memory can hold", max_batch);
#define TAKE(field, count)                                                                                             \
    if (!(scratch->field = arena_alloc(arena, (count), sizeof *scratch->field, "stepping", err))) return false
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
    return stepper->weights.fused || open_gates(scratch, stepper, err);
}

bool step_scratch_keep_gates(struct step_scratch *scratch, const struct stepper *stepper, struct error *err)
{
    struct arena *arena = &scratch->arena;
    scratch->kept_rows = arena_alloc(arena, scratch->max_batch, sizeof *scratch->kept_rows, "gates", err);
    for (size_t k = 0; scratch->kept_rows && k < stepper->architecture.layers; k++) {
        const size_t size = stepper->weights.layers[k].gate_row * sizeof(float);
        scratch->kept[k] = arena_alloc(arena, scratch->max_batch, size, "gates", err);
        if (!scratch->kept[k]) return false;
    }
    return scratch->kept_rows;
}

void step_scratch_close(struct step_scratch *scratch)
{
    arena_free(&scratch->arena);
}

void step_prepare_inputs(const struct stepper *stepper, size_t batch, size_t width, const float *const *rows,
                         int16_t *integers, const void **inputs)
{
    const int32_t limit = step_input_limit(width);
    for (size_t b = 0; b < batch; b++) {
        inputs[b] = rows[b];
        if (stepper->weights.format != KERNEL_INT8) continue;
        stepper->kernels->quantize(width, rows[b], (float)limit, limit, integers + b * width);
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
        if (layer->table) {
            scratch->start[b] = layer->table + tokens[b] * layer->gate_row;
        } else {
            scratch->start[b] = layer->bias;
            scratch->x[b] = (const char *)weights->embedding + tokens[b] * size;
        }
    }
}

static void run_layer(const struct stepper *stepper, struct step_scratch *scratch, size_t layer,
                      const struct kernel_step *arguments)
{
    if (!stepper->weights.fused) {
        step_variant(stepper, scratch, layer, arguments);
        return;
    }
    cell_table[stepper->architecture.cell].step(stepper->kernels, arguments);
}

/* Steps one layer; the caller has set start and x. Every unit reads the old h, so the new h stays in another buffer
 * until all units are done. */
static void step_layer(const struct stepper *stepper, struct step_scratch *scratch, size_t layer, size_t batch,
                       float *const *states)
{
    const struct step_layer *weights = &stepper->weights.layers[layer];
    const size_t width = weights->width, first = stepper->first_state[layer];
    for (size_t b = 0; b < batch; b++) {
        scratch->h_previous[b] = states[b] + first;
        scratch->c[b] = states[b] + first + width;
        scratch->h_rows[b] = scratch->h[layer % 2] + b * width;
        if (scratch->kept[layer]) scratch->kept_rows[b] = scratch->kept[layer] + b * weights->gate_row;
    }
    step_prepare_inputs(stepper, batch, width, scratch->h_previous, scratch->h_integers, scratch->hidden_input);
    const struct kernel_step arguments = {.rows = batch,
                                          .blocks = width / KERNEL_BLOCK,
                                          .input = weights->input,
                                          .hidden = weights->hidden,
                                          .start = scratch->start,
                                          .bias_hh = weights->bias_hh,
                                          .x = scratch->x,
                                          .hidden_input = scratch->hidden_input,
                                          .h_previous = scratch->h_previous,
                                          .h = scratch->h_rows,
                                          .c = scratch->c,
                                          .gates = scratch->kept[layer] ? scratch->kept_rows : NULL};
    run_layer(stepper, scratch, layer, &arguments);
    for (size_t b = 0; b < batch; b++) memcpy(states[b] + first, scratch->h_rows[b], width * sizeof(float));
}

/* y = W x + b for n rows; h_previous points to their x, the outputs of the layer below. */
static void project_rows(const struct stepper *stepper, struct step_scratch *scratch, size_t n,
                         const struct step_dense *dense, float *const *y)
{
    step_prepare_inputs(stepper, n, dense->matrix.inputs, scratch->h_previous, scratch->x_integers, scratch->x);
    stepper->kernels->project(n, dense->width / KERNEL_BLOCK, &dense->matrix, dense->bias, scratch->x, y);
}

/* Dense layer `dense` for n rows, from h_previous to h_previous. It writes the half of scratch->h that does not hold
 * its input. */
static void step_dense(const struct stepper *stepper, struct step_scratch *scratch, size_t dense, size_t n)
{
    const struct step_dense *weights = &stepper->weights.dense[dense];
    const size_t above = stepper->architecture.layers + dense;
    for (size_t b = 0; b < n; b++) scratch->h_rows[b] = scratch->h[above % 2] + b * weights->width;
    project_rows(stepper, scratch, n, weights, scratch->h_rows);
    for (size_t b = 0; b < n; b++) {
        plain_activate(stepper->architecture.dense[dense].activation, stepper->kernels, weights->width,
                       scratch->h_rows[b]);
        scratch->h_previous[b] = scratch->h_rows[b];
    }
}

/* Computes the layers above the recurrent ones, for the rows that want logits. h_rows holds the top layer's h. */
static void step_output(const struct stepper *stepper, struct step_scratch *scratch, size_t batch, float *const *logits)
{
    size_t n = 0;
    for (size_t b = 0; b < batch; b++) {
        if (!logits[b]) continue;
        scratch->h_previous[n] = scratch->h_rows[b];
        scratch->wanted[n++] = logits[b];
    }
    if (n == 0) return;
    for (size_t d = 0; d < stepper->architecture.dense_layers; d++) step_dense(stepper, scratch, d, n);
    project_rows(stepper, scratch, n, &stepper->weights.output, scratch->wanted);
}

void step(const struct stepper *stepper, struct step_scratch *scratch, size_t batch, const uint32_t *tokens,
          float *const *states, float *const *logits)
{
    const struct step_layer *layers = stepper->weights.layers;
    assert(batch >= 1 && batch <= scratch->max_batch);
    prepare_tokens(stepper, scratch, batch, tokens);
    for (size_t layer = 0; layer < stepper->architecture.layers; layer++) {
        if (layer > 0) {
            step_prepare_inputs(stepper, batch, layers[layer - 1].width, (const float *const *)scratch->h_rows,
                                scratch->x_integers, scratch->x);
            for (size_t b = 0; b < batch; b++) scratch->start[b] = layers[layer].bias;
        }
        step_layer(stepper, scratch, layer, batch, states);
    }
    if (logits) step_output(stepper, scratch, batch, logits);
}

void step_gates(const struct stepper *stepper, const struct step_scratch *scratch, size_t layer, float *gates)
{
    const size_t rows = architecture_gates(&stepper->architecture) * architecture_hidden(&stepper->architecture, layer);
    for (size_t row = 0; row < rows; row++)
        gates[row] = scratch->kept[layer][step_weights_gate(&stepper->weights, layer, false, row)];
}
