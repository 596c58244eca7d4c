/* The JSON answer of one request: what POST /generate sends and `lstmd generate --json` prints. It is written a piece
 * at a time, so it may be of any size.
 *
 * {id, model, text, completion, finish_reason, seed, state, logprobs[], choices[], usage{prompt_tokens, cached_tokens,
 * completion_tokens}, timings{queue_ms, prompt_ms, generate_ms, tokens_per_second}, warnings[]}, keys in this order.
 *
 * If there is more than one continuation, choices[] has {index, text, completion, finish_reason, seed, logprobs, state}
 * of each, and the answer's own text, completion, finish_reason and seed are those of the first; else there are no
 * choices. logprobs and state stand in the choices if there are any, and only if they were asked for.
 * Where there are several prompts, each choice has its own prompt in `text`, and `prompt_index` behind `index`.
 * prompt_tokens counts all that the sequence begins with (<eos> and label, or a session's pending token, included),
 * once for each prompt; cached_tokens is what was skipped of it, for the first continuation of each; completion_tokens
 * is the sum of all. Text that is not valid UTF-8 gets U+FFFD.
 */
#ifndef LSTMD_MODEL_GENERATE_ANSWER_H
#define LSTMD_MODEL_GENERATE_ANSWER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/json_writer.h"
#include "model/generate/generate.h"

struct answer_choice {
    const struct generation *generation; /* finished */
    const char *prompt;                  /* [prompt_bytes] */
    size_t prompt_bytes, prompt_index;
    uint64_t seed; /* below 2^53 */
};

struct answer {
    const char *id;                      /* of the request */
    const char *model;                   /* name */
    const char *warning;                 /* stands before those of the prompts; or NULL */
    const struct answer_choice *choices; /* [count] those of a prompt stand beside one another */
    size_t count;                        /* >= 1 */
    bool has_prompts;                    /* the request had several prompts, or one in a list of them */
    bool has_no_seed;                    /* the random generator of a carried state went on: seed is null */
    const struct state_owner *owner;     /* NULL: states are not wanted */
    double queue_ms, prompt_ms, generate_ms;
};

/* How far an answer is written. `struct answer_writer w = {.answer = &answer};` begins. */
struct answer_writer {
    const struct answer
        *answer;  /* borrowed, with all that it points to; the id only until the first piece is written */
    size_t block; /* 0: the answer's own members; k: those of the k-th choice */
    enum {
        ANSWER_BEGIN,      /* the beginning of the block */
        ANSWER_TEXT,       /* "text": prompt and completion */
        ANSWER_COMPLETION, /* "completion" */
        ANSWER_FACTS,      /* the other members of the block */
        ANSWER_LOGPROBS,   /* log-probabilities of the tokens */
        ANSWER_END,        /* the numbers of the whole answer */
    } stage;
    size_t at; /* bytes of a text, or tokens, that are written */
    struct json_string string;
};

/* Appends the next piece. False: that was all. */
bool answer_write(struct answer_writer *writer, struct json_writer *out);

/* The members that a stream ends with, without braces: finish_reason, seed, state, usage, timings, warnings. */
void answer_write_end(const struct answer *answer, struct json_writer *out);

/* The state that the generation ended with, as a JSON string (state_text.h). */
void answer_write_state(const struct state_owner *owner, const struct generation *generation, struct json_writer *out);

/* "warnings":[...], of all prompts of the answer: where there are several, each begins with "prompt[i]: ". */
void answer_write_all_warnings(const struct answer *answer, struct json_writer *out);

/* Tokens of all prompts, those of them that were cached, and new tokens of all choices. */
struct answer_usage {
    size_t prompt, cached, completion;
};
struct answer_usage answer_usage(const struct answer *answer);

/* "warnings":[...], of the generation's prompt and of what else there is to say (NULL: nothing). */
void answer_write_warnings(const struct generation *generation, const char *prompt, const char *warning,
                           struct json_writer *out);

/* [{id, token, logprob, top_logprobs[{id, token, logprob}]}] of the generated tokens first .. first + count - 1, for a
 * generation that was asked for logprobs. token: the token's own text as the vocabulary has it, without the space that
 * stands before a word. A probability of zero is -9999. */
void answer_write_logprobs(const struct generation *generation, size_t first, size_t count, struct json_writer *out);

/* A log-probability as JSON has it: -9999 stands for all below. */
double answer_logprob(float logprob);

#endif
