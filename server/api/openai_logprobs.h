/* The `logprobs` of a choice as OpenAI's completions have them: {tokens, token_logprobs, top_logprobs, text_offset},
 * lists with an item per token. With `echo`, the prompt's tokens stand before the new ones. The first of the prompt has
 * null: nothing of the text is before it. And <eos>, if it ended the text, stands behind them, so that a text with
 * max_tokens 1 always has one item behind the prompt's. Not POST /generate's form (model/generate/answer.h).
 *
 * Written an item at a time. It reads the choice and changes nothing; belongs to one thread. */
#ifndef LSTMD_SERVER_API_OPENAI_LOGPROBS_H
#define LSTMD_SERVER_API_OPENAI_LOGPROBS_H

#include "server/api/completion.h"

enum openai_list {
    OPENAI_TOKENS,       /* "tokens" */
    OPENAI_VALUES,       /* "token_logprobs" */
    OPENAI_ALTERNATIVES, /* "top_logprobs" */
    OPENAI_OFFSETS,      /* "text_offset" */
    OPENAI_LISTS,        /* their number */
};

struct openai_logprobs {
    const struct generation *generation;
    const char *prompt; /* [prompt_bytes] of the choice; NULL: it is not shown */
    size_t prompt_bytes;
    size_t text_end;     /* bytes of the new text; SIZE_MAX while it runs: no token is cut yet */
    size_t alternatives; /* per token, at most */
    size_t prompt_count; /* tokens of the prompt that are shown */
    size_t first, count; /* new tokens, <eos> behind them included */
    bool has_eos;
    enum openai_list list;    /* that is being written */
    size_t at;                /* its next item */
    size_t prompt_at, offset; /* bytes of the prompt, and characters of the text, before the next token */
};

/* piece: the part of a stream that the lists belong to; NULL: the whole choice. */
struct openai_logprobs openai_logprobs_begin(const struct completion *completion, size_t choice,
                                             const struct completion_piece *piece);

/* Appends the next item. False: that was all. */
bool openai_logprobs_write(struct openai_logprobs *lists, struct json_writer *out);

#endif
