/* One worker's pass over a window: forward through time, loss, backward through time, for its n streams.
 *
 * A row is one stream at one time step; rows are time-major: row t * n + b. Forward keeps what backward needs: the
 * activations of every gate, and the states before and after every step. The state before a step is zero where the
 * input is the reset token, and no gradient flows back through such a step.
 * All memory is taken by pass_open(); a pass belongs to one worker thread at a time.
 */
#ifndef LSTMD_MODEL_TRAIN_PASS_H
#define LSTMD_MODEL_TRAIN_PASS_H

#include <stdint.h>

#include "base/arena.h"
#include "base/error.h"
#include "model/train/gradients.h"
#include "model/train/packed.h"

struct pass_layer {
    float *gates_x, *gates_h; /* [rows][G*Hp]; gates_h: GRU, else NULL */
    float *h, *h_previous;    /* [rows][Hp] */
    float *c, *c_previous;    /* [rows][Hp] cells with two states, else NULL */
};

/* What stands between two layers (or embedding and layer 0, or last layer and output): the input that the upper one
 * reads. Without dropout it is the lower layer's h itself. */
struct pass_input {
    size_t width;  /* floats per row; 0: one-hot */
    float *values; /* [rows][width], own memory where there is dropout or an embedding; else NULL */
    float *mask;   /* [rows][width] 0 or 1 / (1 - dropout); NULL without dropout */
};

struct pass {
    const struct packed_network *packed; /* borrowed */
    const struct kernels *kernels;
    size_t streams, window; /* n, longest T */
    size_t first_stream;    /* of the learner's B: names the dropout's random numbers */
    uint32_t reset_token;
    double dropout;
    uint64_t seed;
    struct pass_layer layers[NETWORK_MAX_LAYERS];
    struct pass_input inputs[NETWORK_MAX_LAYERS + 1]; /* the last one: of the output layer */
    float *gradient, *gradient_below;                 /* [rows][widest] of a layer's output and of its input */
    float *dh, *dc;                                   /* [n][Hp] on the way back through time */
    float *logits;                                    /* [chunk][Vp] */
    size_t chunk;                                     /* rows whose logits are kept at once */
    float *scratch;                                   /* of product_over_rows() */
    struct gradients gradients;
};

bool pass_open(struct pass *pass, const struct packed_network *packed, const struct kernels *kernels, size_t streams,
               size_t window, double dropout, struct arena *arena, struct error *err);

/* Bytes that pass_open() would take; false on overflow. */
bool pass_bytes(const struct architecture *architecture, size_t streams, size_t window, double dropout, size_t *bytes);

/* Where a stream's carried state lies: state[(layer * kinds + kind) * stride + stream * Hp], kind 0: h, 1: c. `values`
 * points at the pass's first stream. */
struct pass_state {
    float *values;
    size_t stride; /* B * Hp */
};

/* inputs [T][n]. Reads and then replaces the carried state. `train`: dropout is on, with random numbers of `step`. */
void pass_forward(struct pass *pass, size_t T, const uint32_t *inputs, struct pass_state state, bool train,
                  uint64_t step);

/* The sum of -log p(target) over all rows, after pass_forward(). Then, of loss * scale: with `gradients`, the gradient
 * of the output layer's weights and of its input. With `logits` (not NULL), row t * n + b is written to
 * logits + t * logits_stride + b * V. */
double pass_loss(struct pass *pass, size_t T, const uint32_t *targets, float scale, bool gradients, float *logits,
                 size_t logits_stride);

/* After pass_loss() with gradients: all other gradients, of this window alone. */
void pass_backward(struct pass *pass, size_t T, const uint32_t *inputs);

#endif
