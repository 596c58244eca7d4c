/* Which parts of a completion its answer shows. */
#include <math.h>
#include <stdlib.h>

#include "server/api/completion_internal.h"

bool completion_selects(const struct completion *completion)
{
    return completion_compares(completion) || completion->fields.best_of > completion->fields.n;
}

bool completion_take_parts(struct completion *completion, struct problem *problem)
{
    const struct completion_fields *fields = &completion->fields;
    const uint64_t most = (uint64_t)completion->services->config->max_texts;
    completion->made = completion_compares(completion) ? completion->pattern_count
                       : fields->best_of > fields->n   ? fields->best_of
                                                       : fields->n;
    const size_t count = completion->prompt_count * completion->made;
    completion->shown =
        completion_compares(completion) ? completion->prompt_count : completion->prompt_count * fields->n;
    if (completion->prompt_count > 1 && count > most)
        return problem_add_field(
            problem, "prompt", "%zu prompts and %zu %s for each are %zu texts; limits.max_texts is %llu",
            completion->prompt_count, completion->made, completion_compares(completion) ? "choices" : "texts", count,
            (unsigned long long)most);
    completion->parts = calloc(count, sizeof *completion->parts);
    completion->choices = calloc(completion->shown, sizeof *completion->choices);
    if (!completion->parts || !completion->choices) return problem_set(problem, 503, "out of memory");
    completion->count = count;
    return true;
}

size_t completion_number(const struct completion *completion, size_t i)
{
    return completion_compares(completion) ? i / completion->made : i;
}

/* log P(text | prompt) by the model, of the text as a whole: what compares choices. */
static double sum_logprobs(const struct generation *generation)
{
    double sum = 0;
    for (size_t i = 0; i < generation->produced; i++) sum += (double)generation->tokens[i].logprob;
    return sum;
}

/* Per token, with the <eos> that ended the text. No token: below all others. */
static double mean_logprob(const struct generation *generation)
{
    const bool ended = generation->finish == FINISH_EOS;
    const size_t tokens = generation->produced + ended;
    double sum = sum_logprobs(generation);
    if (ended) sum += (double)generation->tokens[generation->produced].logprob;
    return tokens > 0 ? sum / (double)tokens : -(double)INFINITY;
}

static double rate_part(const struct completion *completion, size_t i)
{
    const struct generation *generation = &completion->parts[i].job.generation;
    return completion_compares(completion) ? sum_logprobs(generation) : mean_logprob(generation);
}

/* The best part of [first .. first + made) that is not chosen; the lowest among equals. */
static size_t find_best(const struct completion *completion, size_t first)
{
    size_t best = SIZE_MAX;
    for (size_t i = first; i < first + completion->made; i++) {
        if (completion->parts[i].chosen) continue;
        if (best == SIZE_MAX || rate_part(completion, i) > rate_part(completion, best)) best = i;
    }
    return best;
}

void completion_choose(struct completion *completion)
{
    const bool selects = completion_selects(completion);
    const size_t each = completion->shown / completion->prompt_count;
    for (size_t k = 0; k < completion->shown; k++) {
        const size_t p = k / each, i = selects ? find_best(completion, p * completion->made) : k;
        const struct completion_prompt *prompt = &completion->prompts[p];
        struct completion_part *part = &completion->parts[i];
        part->chosen = true;
        if (selects && completion->fields.logprobs == 0) part->job.generation.alternative_count = 0;
        completion->choices[k] =
            (struct answer_choice){.generation = &part->job.generation,
                                   .prompt = prompt->text,
                                   .prompt_bytes = prompt->bytes,
                                   .prompt_index = p,
                                   .seed = generation_seed(completion->fields.seed, completion_number(completion, i))};
    }
}
