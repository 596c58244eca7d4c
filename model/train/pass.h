/* One worker's way through a window: forward through time, loss, backward through time, for its n streams.
 *
 * A row is one stream at one time step. Rows are time-major: row t * n + b. Forward keeps what backward needs: the
 * activations of every gate, and the states before and after every step. The state before a step is zero where the
 * input is the reset token, and no gradient flows back through such a step.
 * pass_open() takes all memory. A pass belongs to one worker thread at a time.
 */
#ifndef LSTMD_MODEL_TRAIN_PASS_H
#define LSTMD_MODEL_TRAIN_PASS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/arena.h"
#include "base/error.h"
#include "model/train/gradients.h"
#include "model/train/packed.h"

/* What a pass is opened with. */
struct pass_options {
    size_t streams;       /* n */
    size_t window;        /* the longest T */
    size_t first_stream;  /* of the learner's B streams; names the dropout's random numbers */
    uint32_t reset_token; /* <eos>, or TOKEN_NONE: never reset */
    double dropout;       /* 0 .. <1 */
    uint64_t seed;
};

/* One window of the pass's streams. */
struct pass_window {
    size_t T;                /* steps, at most options.window */
    const uint32_t *inputs;  /* [T][n] */
    const uint32_t *targets; /* [T][n] */
    bool train;              /* dropout is on, and gradients are wanted */
    uint64_t step;           /* names the dropout's random numbers */
};

/* Where the streams' carried state lies: values[(layer * kinds + kind) * stride + b * Hp], kind 0: h, 1: c. */
struct pass_state {
    float *values; /* of the pass's first stream */
    size_t stride; /* B * Hp */
};

/* Where logits go: row t * n + b to values + t * stride + b * V. */
struct pass_logits {
    float *values;
    size_t stride;
};

struct pass_layer {
    float *gates_x, *gates_h; /* [rows][G*Hp]; gates_h: GRU, else NULL */
    float *h, *h_previous;    /* [rows][Hp] */
    float *c, *c_previous;    /* [rows][Hp] cells with two states, else NULL */
};

/* The input of a layer, or of the output layer. Without dropout it is the lower layer's h itself. */
struct pass_input {
    size_t width;  /* floats per row; 0: one-hot */
    float *values; /* [rows][width], own memory where there is dropout or an embedding; else NULL */
    float *mask;   /* [rows][width] 0 or 1 / (1 - dropout); NULL without dropout */
};

struct pass {
    const struct packed_network *packed; /* borrowed */
    const struct kernels *kernels;
    struct pass_options options;
    struct pass_layer layers[NETWORK_MAX_LAYERS];
    struct pass_input inputs[NETWORK_MAX_LAYERS + 1]; /* the last one: of the output layer */
    float *gradient, *gradient_below;                 /* [rows][widest] of a layer's output and of its input */
    float *dh, *dc;                                   /* [n][Hp] on the way back through time */
    float *logits;                                    /* [chunk][Vp] */
    size_t chunk;                                     /* rows whose logits are kept at once */
    float *scratch;                                   /* of product_over_rows() */
    struct gradients gradients;
};

/* The arena owns the memory. ERROR_TOO_LARGE where sizes overflow, ERROR_NO_MEMORY. */
bool pass_open(struct pass *pass, const struct packed_network *packed, const struct kernels *kernels,
               const struct pass_options *options, struct arena *arena, struct error *err);

/* Bytes that pass_open() would take; false on overflow. */
bool pass_bytes(const struct architecture *architecture, const struct pass_options *options, size_t *bytes);

/* Reads and then replaces the carried state. */
void pass_forward(struct pass *pass, const struct pass_window *window, struct pass_state state);

/* The sum of -log p(target) over all rows, after pass_forward(). Where the window trains, also the gradient of loss *
 * scale by the output layer's weights and by its input. logits: NULL, or where they are written to. */
double pass_loss(struct pass *pass, const struct pass_window *window, float scale, const struct pass_logits *logits);

/* After pass_loss() of a window that trains: all other gradients, of this window alone. */
void pass_backward(struct pass *pass, const struct pass_window *window);

#endif
