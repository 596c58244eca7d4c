/* A look inside a network that reads a text: what it expected before a token. Hidden states and gates are not computed
 * here: they are those of the steps (model/generate/reading.h has them).
 *
 * Source of the figures: Shannon 1948, "A Mathematical Theory of Communication", section 6: a token of probability p
 * surprises by -log p, and the entropy of a distribution is the surprise to be expected.
 */
#ifndef LSTMD_MODEL_GENERATE_INSPECT_H
#define LSTMD_MODEL_GENERATE_INSPECT_H

#include <stddef.h>
#include <stdint.h>

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

#endif
