/* Checks the prompt, the label, the biases and the session beside the model. One answer names all that is wrong.
 *
 * Encoding a prompt costs about as much as parsing the body it came in. Both happen in the HTTP thread where the body
 * is small, and in the worker where it is large (server/http/http.h), so neither waits behind a long prompt. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>

#include "base/clock.h"
#include "server/api/completion_internal.h"

static uint64_t completion_random_seed(void)
{
    uint64_t seed = 0;
    /* getrandom() gives so few bytes whenever the system is up. If it fails, 0 is a seed like any other. */
    if (getrandom(&seed, sizeof seed, 0) < 0) return 0;
    return seed & (uint64_t)FIELDS_MAX_INTEGER;
}

static bool completion_check_prompt(const struct completion *completion, struct problem *problem)
{
    const size_t size = completion->fields.prompt.size, most = (size_t)completion->services->config->max_prompt;
    return size <= most || problem_add_field(problem, "prompt", "has %zu bytes; limits.max_prompt is %zu", size, most);
}

/* Finds the vocabulary's own text of the label. For an unknown one the error lists the labels of the model. */
static void completion_check_label(struct completion *completion, struct problem *problem)
{
    const struct vocabulary *vocabulary = completion->served->model.vocabulary;
    const struct field_text label = completion->fields.label;
    const uint32_t count = vocabulary_label_count(vocabulary);
    char known[256] = "";
    for (uint32_t i = 0, used = 0; label.data && i < count; i++) {
        size_t n;
        const char *name = vocabulary_token(vocabulary, vocabulary_label(vocabulary, i), &n);
        if (n == label.size && memcmp(name, label.data, n) == 0) {
            completion->label = name;
            return;
        }
        if (used < sizeof known)
            used += (uint32_t)snprintf(known + used, sizeof known - used, "%s\"%s\"", i ? ", " : "", name);
    }
    if (!label.data) return;
    if (count == 0)
        problem_add_field(problem, "label", "the model has no labels");
    else
        problem_add_field(problem, "label", "there is no such label; the model has %s", known);
}

static bool completion_add_bias(struct completion *completion, const char *name, size_t size, const json_t *value,
                                struct problem *problem)
{
    struct error err = {0};
    uint32_t id;
    if (!completion->dialect->find_token(completion->served->model.vocabulary, name, size, &id, &err)) {
        if (err.code != ERROR_INVALID) return problem_set_error(problem, &err);
        return problem_add_field(problem, "logit_bias", "%s", err.message);
    }
    const double bias = json_number_value(value);
    if (!json_is_number(value) || !(bias >= -SAMPLER_MAX_BIAS && bias <= SAMPLER_MAX_BIAS))
        return problem_add_field(problem, "logit_bias", "\"%.*s\" must have a number from %g to %g",
                                 (int)(size < 64 ? size : 64), name, -SAMPLER_MAX_BIAS, SAMPLER_MAX_BIAS);
    completion->bias[completion->bias_count++] = (struct logit_bias){id, (float)bias};
    return true;
}

static void completion_check_bias(struct completion *completion, struct problem *problem)
{
    json_t *object = completion->fields.logit_bias;
    const size_t count = json_object_size(object);
    if (count == 0) return;
    completion->bias = calloc(count, sizeof *completion->bias);
    if (!completion->bias) {
        problem_set(problem, 503, "out of memory");
        return;
    }
    for (void *at = json_object_iter(object); at; at = json_object_iter_next(object, at))
        completion_add_bias(completion, json_object_iter_key(at), json_object_iter_key_len(at),
                            json_object_iter_value(at), problem);
}

/* Takes the session last, so that no error of the request can leave it busy. */
static bool completion_begin_session(struct completion *completion, struct problem *problem)
{
    const struct field_text *name = &completion->fields.session;
    if (!name->data) return true;
    if (completion->fields.n > 1) return problem_add_field(problem, "session", "goes on with one text: n must be 1");
    if (problem->status) return true;
    const struct served *served = completion->served;
    if (served->stepper.architecture.window.size > 0)
        return problem_add_field(
            problem, "session", "this model keeps no state: it sees the last %u tokens; send the text so far as prompt",
            served->stepper.architecture.window.size);
    struct error err = {0};
    const struct session_key key = {.model = served->name_id,
                                    .version = served->version,
                                    .name = name->data,
                                    .name_size = name->size,
                                    .state_size = served->stepper.state_size};
    completion->session = sessions_begin(completion->services->sessions, &key, clock_monotonic_ns(), &err);
    completion->session_lost = completion->session && session_was_lost(completion->session);
    if (completion->session) return true;
    return err.code == ERROR_INVALID ? problem_add_field(problem, "session", "%s", err.message)
                                     : problem_set_error(problem, &err);
}

static struct sampler_options completion_sampler_options(const struct completion *completion)
{
    struct sampler_options options = completion->fields.sampler;
    options.counts_written = completion->dialect->is_openai;
    options.bias = completion->bias;
    options.bias_count = completion->bias_count;
    return options;
}

static bool completion_open_part(struct completion *completion, size_t i, const struct generation_request *wanted,
                                 struct problem *problem)
{
    const char *field = NULL;
    struct error err = {0};
    struct generation_request own = *wanted;
    struct rng rng;
    own.seed = generation_seed(completion->fields.seed, i);
    completion_set_state(completion, i, &rng, &own);
    if (completion_compares(completion)) { /* the pattern leaves no choice but this text, whatever it costs */
        own.pattern = completion->patterns[i];
        own.length = json_string_length(json_array_get(completion->fields.choices, i));
        own.stop_count = 0;
        own.sampler = (struct sampler_options){0};
        own.logprobs = own.logprobs > 0 ? own.logprobs : 1;
    }
    if (generation_open(&completion->parts[i].job.generation, completion->served->model.vocabulary, &own, &field, &err))
        return true;
    if (!field || err.code != ERROR_INVALID) return problem_set_error(problem, &err);
    if (strcmp(field, "length") == 0) field = completion->dialect->rows[COMPLETION_ROW_LENGTH].name;
    return problem_add_field(problem, field, "%s", err.message);
}

static bool completion_open_parts(struct completion *completion, struct problem *problem)
{
    const struct completion_fields *fields = &completion->fields;
    const bool continues = completion->session && !session_is_fresh(completion->session);
    struct text_span stop[FIELD_MAX_TEXTS];
    for (size_t i = 0; i < fields->stop.count; i++)
        stop[i] = (struct text_span){fields->stop.items[i].data, fields->stop.items[i].size};
    const struct generation_request wanted = {
        .prompt = fields->prompt.data ? fields->prompt.data : "",
        .prompt_bytes = fields->prompt.size,
        .label = completion->label,
        .length = fields->length,
        .sampler = completion_sampler_options(completion),
        .unknown_is_error = fields->unknown == 1,
        .continues = continues,
        .pending = continues ? session_pending(completion->session) : 0,
        .start_state = continues ? session_state(completion->session) : NULL,
        .end_state = completion->session ? session_next_state(completion->session) : NULL,
        .stop = stop,
        .stop_count = fields->stop.count,
        .pattern = completion->patterns ? completion->patterns[0] : NULL,
        .window = completion->served->stepper.architecture.window,
        .ignore_eos = fields->ignore_eos,
        .logprobs = fields->logprobs,
        .kernels = completion->served->stepper.kernels,
    };
    const size_t count = completion_compares(completion) ? completion->pattern_count : fields->n;
    completion->parts = calloc(count, sizeof *completion->parts);
    if (!completion->parts) return problem_set(problem, 503, "out of memory");
    completion->count = completion->shown = count;
    if (!completion_take_states(completion, problem)) return false;
    for (size_t i = 0; i < completion->count; i++)
        if (!completion_open_part(completion, i, &wanted, problem)) return false;
    return true;
}

bool completion_check(struct completion *completion, struct problem *problem)
{
    if (!completion->fields.seed_given) completion->fields.seed = completion_random_seed();
    /* The prompt is encoded even if other fields are wrong, so that one answer names all errors. */
    completion->served = completion_acquire(completion->services, &completion->fields.model, problem);
    if (completion->served) {
        completion_check_label(completion, problem);
        completion_check_bias(completion, problem);
        const bool patterns = completion_build_patterns(completion, problem);
        const bool states = completion_read_state(completion, problem);
        if (completion_check_prompt(completion, problem) && patterns && states &&
            completion_begin_session(completion, problem))
            completion_open_parts(completion, problem);
    }
    return !problem->status;
}
