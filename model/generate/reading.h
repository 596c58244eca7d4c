/* Reading a text that is there: its tokens are fed one after the other, and each step gives what the model expects
 * next. It draws nothing and writes no text (model/generate/generate.h does).
 *
 * With a window (model/generate/window.h), the tokens of the window are fed anew where logits are wanted, and nothing
 * is fed where they are not. A reading belongs to one thread at a time; feeding never allocates.
 */
#ifndef LSTMD_MODEL_GENERATE_READING_H
#define LSTMD_MODEL_GENERATE_READING_H

#include <stddef.h>
#include <stdint.h>

#include "base/arena.h"
#include "base/error.h"
#include "model/generate/step.h"

struct reading {
    const struct stepper *stepper; /* borrowed */
    const uint32_t *ids;           /* borrowed: the tokens of the text */
    uint32_t pad;                  /* the vocabulary's, for windows; TOKEN_NONE: none */
    struct step_scratch scratch;
    float *state;  /* [stepper->state_size] zero at first; the caller may put another one there before it feeds */
    float *logits; /* [stepper->logits_size] */
    struct arena arena;
};

/* Takes all memory; keep_gates: step_gates() is wanted. Close with reading_close(), also after a failure.
 * Errors: ERROR_NO_MEMORY. */
bool reading_open(struct reading *reading, const struct stepper *stepper, const uint32_t *ids, uint32_t pad,
                  bool keep_gates, struct error *err);
void reading_close(struct reading *reading);

/* Feeds token i, behind tokens 0 .. i-1 that were fed before; wanted: logits and state after it are. */
void reading_feed(struct reading *reading, size_t i, bool wanted);

/* The softmax of some logits, in double precision relative to the largest. */
struct reading_softmax {
    float largest;
    double log_sum; /* log of the sum of exp(logit - largest) */
    double entropy; /* nats: -sum of p log p */
};

/* logits [vocabulary] */
struct reading_softmax reading_softmax(const float *logits, size_t vocabulary);

/* The log of the probability of the token with this logit, in nats. */
double reading_softmax_log(const struct reading_softmax *softmax, float logit);

/* Both at once: of token `id`. */
double reading_log_probability(const float *logits, size_t vocabulary, uint32_t id);

#endif
