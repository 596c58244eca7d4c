#include "model/generate/prompt_scores.h"

#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "base/size.h"
#include "model/generate/reading.h"

bool prompt_scores_open(struct prompt_scores *scores, size_t first, size_t count, size_t alternative_count,
                        struct error *err)
{
    const size_t tokens = count - first;
    size_t items, bytes;
    *scores =
        (struct prompt_scores){.first = first, .count = count, .ready = first, .alternative_count = alternative_count};
    if (!size_multiply(tokens, alternative_count, &items) ||
        !size_multiply(items, sizeof *scores->alternatives, &bytes))
        return error_set(err, ERROR_TOO_LARGE, "log-probabilities of %zu tokens are more than memory can hold", tokens);
    scores->logprobs = calloc(tokens, sizeof *scores->logprobs);
    scores->alternatives = calloc(items, sizeof *scores->alternatives);
    return (scores->logprobs && scores->alternatives) || error_set_no_memory(err, bytes, "log-probabilities");
}

void prompt_scores_close(struct prompt_scores *scores)
{
    free(scores->logprobs);
    free(scores->alternatives);
    *scores = (struct prompt_scores){0};
}

/* Puts the token in its place among the likeliest; the last one falls out. */
static void insert_token(struct scored_token *top, size_t last, struct scored_token token)
{
    size_t at = last;
    for (; at > 0 && token.logprob > top[at - 1].logprob; at--) top[at] = top[at - 1];
    top[at] = token;
}

void prompt_scores_add(struct prompt_scores *scores, const float *logits, size_t vocabulary_size, uint32_t id)
{
    assert(scores->ready < scores->count);
    const size_t at = scores->ready++ - scores->first, most = scores->alternative_count;
    struct scored_token *top = scores->alternatives + at * most;
    const struct reading_softmax softmax = reading_softmax(logits, vocabulary_size);
    scores->logprobs[at] = reading_softmax_log(&softmax, logits[id]);
    for (size_t v = 0, filled = 0; v < vocabulary_size && most > 0; v++) {
        const double logprob = reading_softmax_log(&softmax, logits[v]);
        if (filled == most && !(logprob > top[most - 1].logprob)) continue;
        if (filled < most) filled++;
        insert_token(top, filled - 1, (struct scored_token){(uint32_t)v, logprob});
    }
}
