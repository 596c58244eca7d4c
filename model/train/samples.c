#include "model/train/samples.h"

#include <stdlib.h>

#include "base/rng.h"
#include "model/generate/generate.h"
#include "model/generate/step.h"

#define PROMPT_TOKENS 40
#define PROMPT_WORDS  8
#define SAMPLE_STREAM UINT64_C(0x73616d706c65) /* keeps the prompts' numbers apart from all others */
static const double temperatures[TRAINING_SAMPLES] = {0.2, 0.5, 1.0, 1.2};

/* A sample of documents begins with an empty prompt. A sample of one running text begins with a piece of its middle.
 * Caller frees. */
static char *choose_prompt(const struct training_run *run, size_t *n, struct error *err)
{
    const struct dataset *dataset = &run->data.dataset;
    const struct vocabulary *vocabulary = run->data.vocabulary;
    size_t tokens = run->options.level == TOKEN_LEVEL_WORD ? PROMPT_WORDS : PROMPT_TOKENS;
    if (!dataset->one_stream || dataset->token_count <= tokens) tokens = 0;
    char *prompt = calloc(tokens + 1, vocabulary_max_token_bytes(vocabulary) + 1);
    if (!prompt) {
        error_set_no_memory(err, tokens + 1, "a prompt");
        return NULL;
    }
    struct rng rng;
    rng_seed(&rng, run->options.seed ^ SAMPLE_STREAM, run->state.epoch);
    size_t start = tokens ? (size_t)rng_below(&rng, dataset->token_count - tokens) : 0;
    *n = 0;
    for (size_t i = 0; i < tokens; i++)
        *n += vocabulary_decode(vocabulary, tokens_get(&dataset->tokens, start + i), *n == 0, prompt + *n);
    prompt[*n] = 0;
    return prompt;
}

static bool go_on_until_stopped(void *context, const char *text, size_t n)
{
    (void)text;
    (void)n;
    return !training_run_stopped(context);
}

/* One sample: prompt [n], and what the model makes of it. */
static bool write_sample(struct training_run *run, const struct stepper *stepper, double temperature,
                         const char *prompt, size_t n, struct error *err)
{
    const struct generation_request request = {.prompt = prompt,
                                               .prompt_bytes = n,
                                               .length = run->options.sample_length,
                                               .seed = run->options.seed + run->state.epoch,
                                               .sampler = {.temperature = temperature}};
    struct generation generation;
    bool ok = generation_open(&generation, run->data.vocabulary, &request, NULL, err) &&
              generation_run(&generation, stepper, go_on_until_stopped, run, err);
    if (ok) {
        const struct trainer_sample told = {
            .epoch = training_run_epoch(run), .temperature = temperature, .prompt = prompt, .text = generation.text};
        run->callbacks->sample(run->callbacks->context, &told);
    }
    generation_close(&generation);
    return ok;
}

bool training_samples(struct training_run *run, struct error *err)
{
    if (!run->callbacks->sample) {
        run->state.samples_due = false;
        return true;
    }
    struct stepper stepper;
    size_t n = 0;
    const uint64_t begun_ns = training_run_now(run);
    char *prompt = choose_prompt(run, &n, err);
    if (!prompt) return false;
    bool ok = stepper_open(&stepper, training_run_model(run), run->kernels, err);
    for (size_t i = 0; ok && i < TRAINING_SAMPLES; i++)
        ok = write_sample(run, &stepper, temperatures[i], prompt, n, err);
    if (ok) run->state.samples_due = false;
    run->samples_seconds = (double)(training_run_now(run) - begun_ns) / 1e9;
    stepper_close(&stepper);
    free(prompt);
    return ok;
}
