/* The JSON answer of one request: what POST /generate sends and `lstmd generate --json` prints (api.md).
 * Pure functions, thread-safe.
 */
#ifndef LSTMD_SERVER_ANSWER_H
#define LSTMD_SERVER_ANSWER_H

#include <jansson.h>
#include <stddef.h>
#include <stdint.h>

#include "base/error.h"
#include "model/generate.h"

struct answer {
    const char *id;    /* of the request */
    const char *model; /* name */
    const char *prompt;
    size_t prompt_bytes;
    const char *warning;                         /* NULL, or one that stands before those of the prompt */
    const struct generation *const *generations; /* [count] finished continuations of the prompt */
    size_t count;                                /* >= 1 */
    uint64_t seed;                               /* of the first, below 2^53; the others': generation_seed() */
    double queue_ms, prompt_ms, generate_ms;
};

/* {id, model, text, completion, finish_reason, seed, logprobs[], choices[], usage{prompt_tokens, cached_tokens,
 * completion_tokens}, timings{queue_ms, prompt_ms, generate_ms, tokens_per_second}, warnings[]}, keys in this order.
 *
 * Where there is more than one continuation, choices[] has {index, text, completion, finish_reason, seed, logprobs} of
 * each, and the answer's own text, completion, finish_reason and seed are those of the first; else there are no
 * choices. logprobs stand in the choices where there are any, and only where they were asked for.
 * prompt_tokens counts all that the sequence begins with (<eos> and label, or a session's pending token, included),
 * once; cached_tokens is what was skipped of it, for the first continuation; completion_tokens is the sum of all.
 * Text that is not valid UTF-8 gets U+FFFD. Everything in *answer is borrowed; the caller owns the result. NULL with
 * ERROR_NO_MEMORY. */
json_t *answer_build(const struct answer *answer, struct error *err);

/* {finish_reason, seed, usage, timings, warnings}: what a stream ends with. NULL without memory. */
json_t *answer_end(const struct answer *answer);

/* [{id, token, logprob, top_logprobs[{id, token, logprob}]}] of the generated tokens first .. first + count - 1, for a
 * generation that was asked for logprobs. token: the token's own text as the vocabulary has it, without the space that
 * stands before a word. A probability of zero is -9999. NULL without memory. */
json_t *answer_logprobs(const struct generation *generation, size_t first, size_t count);

#endif
