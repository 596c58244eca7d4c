/* How likely a model finds the tokens of a text, one after the other: what /score and `echo` with `logprobs` show. The
 * caller steps the model and hands in the logits before each token. All is in double precision, so that both show the
 * same bits. Memory alone; belongs to one thread at a time. `struct prompt_scores s = {0};` is one without tokens. */
#ifndef LSTMD_MODEL_GENERATE_PROMPT_SCORES_H
#define LSTMD_MODEL_GENERATE_PROMPT_SCORES_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/error.h"

struct scored_token {
    uint32_t id;
    double logprob; /* nats; of the model's own distribution */
};

struct prompt_scores {
    size_t first, count;      /* the text's tokens [first .. count) have scores */
    size_t ready;             /* [first .. ready) are there */
    size_t alternative_count; /* per token */
    double *logprobs;         /* [count - first] */
    struct scored_token
        *alternatives; /* [count - first][alternative_count], likeliest first, lowest ids among equals */
};

/* alternative_count: at most the size of the vocabulary. Close also after a failure. Errors: ERROR_NO_MEMORY,
 * ERROR_TOO_LARGE. */
bool prompt_scores_open(struct prompt_scores *scores, size_t first, size_t count, size_t alternative_count,
                        struct error *err);
void prompt_scores_close(struct prompt_scores *scores);

/* The next token is `id`; logits[V]: those before it. */
void prompt_scores_add(struct prompt_scores *scores, const float *logits, size_t vocabulary_size, uint32_t id);

#endif
