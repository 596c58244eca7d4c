/* A look inside a network that reads a text: what it expected before a token, and what its gates did with the token.
 * Hidden states are not computed here: they are those of the steps (model/generate/reading.h has them).
 *
 * A step of a standard cell keeps no gates, so these are computed again: from the state before the step, the products
 * with the step's weights, whatever their format, and then the cell's plain step (model/network/plain_step.h). A fused
 * kernel sums in another order, so its own gates differ by rounding; of INT8, the sums are the same.
 *
 * Source of the figures: Shannon 1948, "A Mathematical Theory of Communication", section 6: a token of probability p
 * surprises by -log p, and the entropy of a distribution is the surprise to be expected.
 */
#ifndef LSTMD_MODEL_GENERATE_INSPECT_H
#define LSTMD_MODEL_GENERATE_INSPECT_H

#include <stddef.h>
#include <stdint.h>

#include "base/arena.h"
#include "base/error.h"
#include "model/generate/step.h"

struct inspect_token {
    uint32_t id;
    double logprob; /* nats */
};

struct inspect_figures {
    double logprob; /* nats: reading_log_probability(), the same bits */
    double entropy; /* nats */
};

/* What logits[V] say of token `id`, and in top[count] the likeliest tokens, likeliest first, lowest ids first among
 * equals; count <= V. Pure. */
struct inspect_figures inspect_logits(const float *logits, size_t vocabulary, uint32_t id, size_t count,
                                      struct inspect_token *top);

/* Memory for the gates of any layer of a stepper; belongs to one thread at a time. */
struct inspect_gates {
    const struct stepper *stepper;    /* borrowed */
    float *row, *in, *gates, *h, *c;  /* [G*W], [G*W], [G*W], [W], [W]; W: the largest width */
    int16_t *x_integers, *h_integers; /* [W] INT8; else NULL */
    struct arena arena;
};

/* Close with inspect_gates_close(), also after a failure. Errors: ERROR_NO_MEMORY. */
bool inspect_gates_open(struct inspect_gates *gates, const struct stepper *stepper, struct error *err);
void inspect_gates_close(struct inspect_gates *gates);

/* The activations of a layer's gates in the step that fed `token` to the state `before` and left the state `after`.
 * Shapes: before, after [state_size]; returns [G][W] in the order of cells.h, W the layer's width, valid until the next
 * call. A gate's values are those that the equations of cells.h name: after its activation. */
const float *inspect_gates_of(struct inspect_gates *gates, size_t layer, uint32_t token, const float *before,
                              const float *after);

#endif
