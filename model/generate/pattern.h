/* A pattern: which tokens may come next, so that the text as a whole matches a regular expression or is one of several
 * choices.
 *
 * pattern_new() follows every way that the vocabulary's tokens can take through the expression (regex_table.h) and
 * keeps those that lead to a match: where a token is allowed, a match can still be reached with the tokens there are.
 * So a step costs one look-up per token and no way ends nowhere, except where `length` is over first.
 *
 * Text. A word that comes next has a space before it, but not the first word of the text, wherever the prompt ended:
 * the expression describes the text without that space. Byte-level vocabularies match bytes, all others characters.
 *
 * Memory: V bits and V numbers of 32 bits per state. Immutable once made, so thread-safe: several generations share
 * one.
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
    uint32_t max_states;       /* of the expression */
    size_t max_steps;          /* states * characters of the vocabulary: what building costs in time */
    const uint32_t *forbidden; /* [forbidden_count] tokens that may not come; borrowed while the pattern is made */
    size_t forbidden_count;
};
#define PATTERN_MAX_STATES 2000
#define PATTERN_MAX_STEPS  100000000

#define PATTERN_START 0u /* the state before the first token */

/* Errors: ERROR_INVALID (the expression is wrong, or the vocabulary's tokens can make no text that matches),
 * ERROR_TOO_LARGE (beyond the limits), ERROR_NO_MEMORY. regex: [n] and a NUL. */
struct pattern *pattern_new(const char *regex, size_t n, const struct vocabulary *vocabulary,
                            const struct pattern_options *options, struct error *err);
/* The text is one of choices[count], count >= 1. Also ERROR_INVALID where the tokens cannot make one of them. */
struct pattern *pattern_new_choices(const struct text_span *choices, size_t count, const struct vocabulary *vocabulary,
                                    const struct pattern_options *options, struct error *err);
void pattern_free(struct pattern *pattern); /* NULL allowed */

/* The text so far matches: it may end here. */
bool pattern_is_complete(const struct pattern *pattern, uint32_t state);
/* Nothing can follow. */
bool pattern_is_final(const struct pattern *pattern, uint32_t state);
/* Special tokens (<eos>, labels, ...) are never allowed: whether <eos> may come says pattern_is_complete(). */
bool pattern_allows(const struct pattern *pattern, uint32_t state, uint32_t token);
/* The state after a token that is allowed. */
uint32_t pattern_next(const struct pattern *pattern, uint32_t state, uint32_t token);
/* logits[V]: minus infinity for each token that is not allowed; <eos> stays where the text is complete. */
void pattern_mask(const struct pattern *pattern, uint32_t state, float *logits);

uint32_t pattern_state_count(const struct pattern *pattern);

#endif
