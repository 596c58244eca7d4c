/* A pattern tells which tokens may come next, so that the whole text matches a regular expression or is one of several
 * choices.
 *
 * pattern_new() follows all paths of the vocabulary's tokens through the expression (regex_table.h) and keeps those
 * that lead to a match: after every allowed token, the vocabulary can still complete a match. So a step costs one
 * look-up per token, and a text never gets stuck; only `length` may end it before a match.
 *
 * Spaces: a word has a space before it, except the first word of the text, whether or not there was a prompt. The
 * expression describes the text without that first space. Byte-level vocabularies match bytes, all others characters.
 *
 * Memory: V bits and V numbers of 32 bits per state. A pattern never changes, so it is thread-safe: several generations
 * share one.
 */
#ifndef LSTMD_MODEL_GENERATE_PATTERN_H
#define LSTMD_MODEL_GENERATE_PATTERN_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/error.h"
#include "model/generate/stop.h"
#include "model/text/vocabulary.h"

struct pattern; /* opaque */

struct pattern_options {
    uint32_t max_states;       /* most states of the expression */
    size_t max_steps;          /* of tokens through the expression, a character or a token each: bounds the time */
    const uint32_t *forbidden; /* [forbidden_count] tokens that are never allowed; borrowed while the pattern is made */
    size_t forbidden_count;
};
#define PATTERN_MAX_STATES 2000
#define PATTERN_MAX_STEPS  100000000

#define PATTERN_START 0u /* the state before the first token */

/* Errors: ERROR_INVALID (the expression is wrong, or the vocabulary's tokens can make no text that matches),
 * ERROR_TOO_LARGE (beyond the limits), ERROR_NO_MEMORY. regex: [n] and a NUL. */
struct pattern *pattern_new(const char *regex, size_t n, const struct vocabulary *vocabulary,
                            const struct pattern_options *options, struct error *err);
/* The text is one of choices[count], count >= 1. ERROR_INVALID also if the tokens cannot make one of them. */
struct pattern *pattern_new_choices(const struct text_span *choices, size_t count, const struct vocabulary *vocabulary,
                                    const struct pattern_options *options, struct error *err);
void pattern_free(struct pattern *pattern); /* NULL allowed */

/* Whether the text so far matches, so that it may end here. */
bool pattern_is_complete(const struct pattern *pattern, uint32_t state);
/* Whether nothing can follow. */
bool pattern_is_final(const struct pattern *pattern, uint32_t state);
/* False for all special tokens (<eos>, labels, ...); pattern_is_complete() tells whether <eos> may come. */
bool pattern_allows(const struct pattern *pattern, uint32_t state, uint32_t token);
/* The state after an allowed token. */
uint32_t pattern_next(const struct pattern *pattern, uint32_t state, uint32_t token);
/* Sets logits[V] of all tokens that are not allowed to minus infinity; <eos> keeps its logit if the text is
 * complete. */
void pattern_mask(const struct pattern *pattern, uint32_t state, float *logits);

uint32_t pattern_state_count(const struct pattern *pattern);

#endif
