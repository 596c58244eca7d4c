/* Logits -> token.
 *
 * The sampler changes the V logits of a step and picks a token, in this order:
 *   1. repetition penalty: for each token that occurs in the window, logit > 0 ? logit / r : logit * r.
 *      Source: Keskar et al. 2019, "CTRL" (arXiv:1909.05858), section 4.1, which divides; a negative logit is
 *      multiplied, or the penalty would raise it.
 *   2. logit -= presence_penalty * [count > 0] + frequency_penalty * count, count: occurrences in the window, or, with
 *      counts_written, in all that was picked so far.
 *      Source: the OpenAI API reference, "frequency and presence penalties".
 *   3. logit += bias; a bias of -100 or less forbids the token (probability zero at any temperature).
 *   4. temperature 0: the answer is the largest logit, the lowest id among equals. Else w = exp((logit - largest) / T).
 *   5. top_k: the k largest are kept (lowest ids first among equals).
 *   6. top_p: of what is left, renormalised, the smallest set of largest that has probability >= p; at least one token.
 *      Source: Holtzman et al. 2020, "The Curious Case of Neural Text Degeneration" (arXiv:1904.09751), section 3.1.
 *   7. min_p: of what is left, the tokens with at least min_p times the probability of the likeliest.
 *      Source: Nguyen et al. 2024, "Turning Up the Heat: Min-p Sampling" (arXiv:2407.01082), section 3.
 *   8. one uniform number picks from w, renormalised.
 * The window is the last `repetition_window` tokens that sampler_see() was told: prompt and completion alike.
 *
 * Precision: weights come from the float kernels->exp, relative to the largest logit, so any temperature is stable; the
 * draw sums them in double precision. The distribution drawn from differs from the exact one by less than 1e-6 in total
 * variation (tested), which no chi-square over fewer than 1e11 draws can see. Tokens less likely than e^-80 times the
 * likeliest are never drawn. A logit that is not a number counts as forbidden; infinite ones share all the probability.
 *
 * A struct sampler belongs to one sequence, thus to one thread at a time. Picking never allocates.
 */
#ifndef LSTMD_MODEL_GENERATE_SAMPLER_H
#define LSTMD_MODEL_GENERATE_SAMPLER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/arena.h"
#include "base/error.h"
#include "base/rng.h"
#include "model/generate/sampler_options.h"
#include "model/kernels/kernels.h"

struct sampler {
    struct sampler_options options; /* bias: the sampler's own copy */
    const struct kernels *kernels;
    size_t vocabulary_size;
    float *weights;    /* [V, rounded up to KERNEL_BLOCK; zeros there] */
    double *sums;      /* [blocks of weights] */
    uint32_t *order;   /* [V] a heap of ids, if top_k or top_p is on */
    uint32_t *counts;  /* [V] occurrences in the window, if a penalty counts these */
    uint32_t *window;  /* [window_size] a ring of the last tokens seen */
    uint32_t *written; /* [V] how often each was written, if a penalty counts that */
    size_t window_size, seen;
    struct arena arena;
};

/* Allocates all memory. options: must pass sampler_options_check(). kernels: borrowed. history: how often sampler_see()
 * is called at most (a longer window needs no more room). Close also after a failure. Errors: ERROR_INVALID (a bias has
 * an id that is not a token, or biases forbid every token), ERROR_NO_MEMORY, ERROR_TOO_LARGE. */
bool sampler_open(struct sampler *sampler, const struct sampler_options *options, const struct kernels *kernels,
                  size_t vocabulary_size, size_t history, struct error *err);
void sampler_close(struct sampler *sampler);

/* Tells the penalties the next token of the sequence; written: it is not part of the prompt. */
void sampler_see(struct sampler *sampler, uint32_t id, bool written);

/* Picks a token from logits[V] and changes them. At least one must be finite and not forbidden; otherwise the result is
 * 0 and has no meaning. At temperature 0 the rng is not used; otherwise exactly one number is drawn. */
uint32_t sampler_pick(struct sampler *sampler, float *logits, struct rng *rng);

/* The lowest id among those with the largest logit. */
uint32_t sampler_argmax(const float *logits, size_t vocabulary_size);

/* probabilities[V] = softmax(logits / temperature) in double precision (temperature > 0). */
void sampler_softmax(const float *logits, size_t vocabulary_size, double temperature, double *probabilities);

/* The model's own distribution (temperature 1, nothing changed): log-probabilities in nats. */
struct token_probability {
    uint32_t id;
    float logprob;
};

/* top[count]: the likeliest tokens, likeliest first, lowest ids first among equals; count <= V. Returns log sum
 * exp(logits); a token's log-probability is its logit minus this. Absolute error below 1e-6 + 1e-7 |logit|. Uses the
 * sampler's memory and changes nothing else. */
double sampler_logprobs(struct sampler *sampler, const float *logits, size_t count, struct token_probability *top);

#endif
