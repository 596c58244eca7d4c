/* Logits -> token.
 *
 * Temperature 0 is the argmax (the lowest id among equals). Otherwise one uniform number picks from
 * softmax(logits / temperature), computed relative to the largest logit in double precision, so any temperature from
 * 0.01 to 100 is stable. Forbidden tokens have probability zero at any temperature. A logit that is not a number counts
 * as forbidden; infinite ones share all the probability. Pure functions of their arguments: thread-safe as long as each
 * sequence has its own rng.
 */
#ifndef LSTMD_MODEL_SAMPLER_H
#define LSTMD_MODEL_SAMPLER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "model/rng.h"
#include "model/vocabulary.h"

#define SAMPLER_MAX_TEMPERATURE 100.0

struct sampler_options {
    double temperature; /* 0 .. SAMPLER_MAX_TEMPERATURE */
};

/* Sets the logits of tokens that a continuation may never contain (pad, unknown, labels) to -infinity. eos stays. */
void sampler_forbid(const struct vocabulary *vocabulary, float *logits);

/* Picks a token from logits[V]; at least one of them must be finite (else the answer is 0, at no use to anybody).
 * `scratch` has room for V doubles. At temperature 0 the rng is not used; otherwise exactly one number is drawn. */
uint32_t sampler_pick(const struct sampler_options *options, const float *logits, size_t vocabulary_size,
                      struct rng *rng, double *scratch);

/* The lowest id among those with the largest logit. */
uint32_t sampler_argmax(const float *logits, size_t vocabulary_size);

/* probabilities[V] = softmax(logits / temperature) in double precision (temperature > 0). */
void sampler_softmax(const float *logits, size_t vocabulary_size, double temperature, double *probabilities);

#endif
