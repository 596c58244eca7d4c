#include "cli/bench_pattern.h"

#include <stdio.h>
#include <string.h>

#define CALLS 256

static const char expression[] = "([A-Z][a-z]+( [a-z]{1,12}){0,9}[.,] ?|[0-9]{1,3}(\\.[0-9]{2})?;)+";

static struct vocabulary *make_vocabulary(struct error *err)
{
    char json[2048] = "{\"level\":\"char\",\"eos\":0,\"pad\":null,\"unknown\":null,\"tokens\":[\"<eos>\"";
    size_t n = strlen(json);
    for (int c = ' '; c < ' ' + BENCH_PATTERN_VOCABULARY - 1; c++)
        n += (size_t)snprintf(json + n, sizeof json - n, ",\"%s%c\"", c == '"' || c == '\\' ? "\\" : "", c);
    n += (size_t)snprintf(json + n, sizeof json - n, "]}");
    return vocabulary_from_json(json, n, "bench", err);
}

/* A step and a masked draw per token, as the engine does it. After <eos>, which ends the text, the pattern starts
 * again.
 */
static void step_masked(void *context, size_t worker)
{
    struct bench_pattern *bench = context;
    struct bench_lane *lane = &bench->stepping.lanes[worker];
    for (size_t i = CALLS; i > 0; i--) {
        step(&bench->stepping.stepper, &lane->scratch, 1, lane->tokens, lane->states, lane->logits);
        pattern_mask(bench->pattern, bench->state, lane->logits[0]);
        const uint32_t token = sampler_pick(&lane->sampler, lane->logits[0], &lane->rng);
        lane->tokens[0] = token;
        bench->state = token == 0 ? PATTERN_START : pattern_next(bench->pattern, bench->state, token);
    }
}

static void mask_alone(void *context, size_t worker)
{
    struct bench_pattern *bench = context;
    struct bench_lane *lane = &bench->stepping.lanes[worker];
    for (size_t i = CALLS; i > 0; i--) pattern_mask(bench->pattern, bench->state, lane->logits[0]);
}

bool bench_pattern_open(struct bench_pattern *bench, const struct kernels *kernels, uint32_t hidden, struct error *err)
{
    const struct bench_step_shape shape = {
        .layers = 1, .hidden = hidden, .vocabulary = BENCH_PATTERN_VOCABULARY, .batch = 1, .threads = 1};
    const struct pattern_options options = {.max_states = PATTERN_MAX_STATES, .max_steps = PATTERN_MAX_STEPS};
    *bench = (struct bench_pattern){.state = PATTERN_START};
    struct vocabulary *vocabulary = make_vocabulary(err);
    if (vocabulary) bench->pattern = pattern_new(expression, sizeof expression - 1, vocabulary, &options, err);
    vocabulary_free(vocabulary);
    if (!bench->pattern || !bench_stepping_open(&bench->stepping, kernels, &shape, err)) return false;
    bench->masked =
        (struct bench_work){.once = step_masked, .context = bench, .team = bench->stepping.work.team, .units = CALLS};
    bench->masks = bench->masked;
    bench->masks.once = mask_alone;
    return true;
}

void bench_pattern_close(struct bench_pattern *bench)
{
    bench_stepping_close(&bench->stepping);
    pattern_free(bench->pattern);
}
