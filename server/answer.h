/* The JSON answer of one finished generation: what POST /generate sends and `lstmd generate --json` prints (api.md).
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
    const char *id;    /* of the generation, e.g. the request's */
    const char *model; /* name */
    const char *prompt;
    size_t prompt_bytes;
    const struct generation *generation; /* finished */
    uint64_t seed;                       /* below 2^53 */
    size_t cached_tokens;                /* prompt tokens whose state was already known */
    double queue_ms, prompt_ms, generate_ms;
};

/* {id, model, text, completion, finish_reason, seed, usage{prompt_tokens, cached_tokens, completion_tokens},
 * timings{queue_ms, prompt_ms, generate_ms, tokens_per_second}, warnings[]}, keys in this order. prompt_tokens counts
 * all that is fed (<eos> and label included). Text that is not valid UTF-8 gets U+FFFD. Everything in *answer is
 * borrowed; the caller owns the result. NULL with ERROR_NO_MEMORY. */
json_t *answer_build(const struct answer *answer, struct error *err);

#endif
