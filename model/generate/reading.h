/* Reading a text that is there: its tokens are fed one after the other, and each step gives what the model expects
 * next. It draws nothing and writes no text (model/generate/generate.h does).
 *
 * The text is read in pieces (step_piece.h) from its beginning, so the first token of a piece takes the time of all.
 * With a window (model/generate/window.h), the tokens of the window are fed anew where logits are wanted, and nothing
 * is fed where they are not. A reading belongs to one thread at a time; feeding never allocates.
 */
#ifndef LSTMD_MODEL_GENERATE_READING_H
#define LSTMD_MODEL_GENERATE_READING_H

#include <stddef.h>
#include <stdint.h>

#include "base/arena.h"
#include "base/error.h"
#include "model/generate/step_piece.h"

struct reading_options {
    const uint32_t *ids; /* [count] borrowed: the tokens that are fed */
    size_t count;
    size_t wanted_from; /* token that has logits, and all behind it */
    uint32_t pad;       /* the vocabulary's, for windows; TOKEN_NONE: none */
    bool each_state;    /* the state after each token is wanted; else the one after the last token */
    bool keep_gates;    /* with each_state: step_gates(&reading->piece.scratch, ...) is wanted */
    bool carries;       /* the text goes on from a state, or another one from its state: read with our own kernels */
};

struct reading {
    const struct stepper *stepper; /* borrowed */
    struct reading_options options;
    struct step_piece piece;
    size_t first, end;   /* tokens of the last piece */
    float *state;        /* [stepper->state_size] zero at first; the caller may put another one there before it feeds */
    const float *logits; /* [stepper->logits_size] after the last token, if they were wanted */
    struct arena arena;
};

/* Takes all memory. Close with reading_close(), also after a failure. Errors: ERROR_NO_MEMORY. */
bool reading_open(struct reading *reading, const struct stepper *stepper, const struct reading_options *options,
                  struct error *err);
void reading_close(struct reading *reading);

/* Feeds token i, behind tokens 0 .. i-1 that were fed before. */
void reading_feed(struct reading *reading, size_t i);

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
