#include "model/generate/inspect.h"

#include "model/generate/reading.h"

/* Puts token `id` into the list of the `filled` likeliest so far, sorted. Tokens come by rising id. */
static size_t place_token(const float *logits, uint32_t id, size_t count, size_t filled, struct inspect_token *top)
{
    size_t at = filled;
    if (filled == count && logits[id] <= logits[top[count - 1].id]) return filled;
    if (filled < count) filled++;
    if (at == count) at--;
    for (; at > 0 && logits[top[at - 1].id] < logits[id]; at--) top[at] = top[at - 1];
    top[at].id = id;
    return filled;
}

struct inspect_figures inspect_logits(const float *logits, size_t vocabulary, uint32_t id, size_t count,
                                      struct inspect_token *top)
{
    const struct reading_softmax softmax = reading_softmax(logits, vocabulary);
    size_t filled = 0;
    for (uint32_t v = 0; count > 0 && v < vocabulary; v++) filled = place_token(logits, v, count, filled, top);
    for (size_t i = 0; i < filled; i++) top[i].logprob = reading_softmax_log(&softmax, logits[top[i].id]);
    return (struct inspect_figures){.logprob = reading_softmax_log(&softmax, logits[id]), .entropy = softmax.entropy};
}
