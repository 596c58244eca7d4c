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

/* Texts of which not all are shown, and the length of a text. */
static void completion_check_counts(const struct completion *completion, struct problem *problem)
{
    const struct completion_fields *fields = &completion->fields;
    const char *length = completion->dialect->rows[COMPLETION_ROW_LENGTH].name;
    if (fields->best_of != 0 && fields->best_of < fields->n)
        problem_add_field(problem, "best_of", "must be at least n");
    if (fields->best_of > fields->n && fields->stream)
        problem_add_field(problem, "stream", "must be false: which of best_of texts are the best is known at the end");
    if (fields->length == 0 && (fields->session.data || fields->return_state))
        problem_add_field(problem, length, "must be at least 1 with session or return_state");
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
    if (completion->fields.n > 1 || completion->fields.best_of > 1)
        return problem_add_field(problem, "session", "goes on with one text: n must be 1, and best_of");
    if (completion->prompt_count > 1)
        return problem_add_field(problem, "session", "goes on with one text: there must be one prompt");
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

/* *of_prompt: whether the error is about the part's prompt. */
static bool completion_open_part(struct completion *completion, size_t i, const struct generation_request *wanted,
                                 bool *of_prompt, struct problem *problem)
{
    const char *field = NULL;
    struct error err = {0};
    const size_t p = i / completion->made;
    const struct completion_prompt *prompt = &completion->prompts[p];
    struct generation_request own = *wanted;
    struct rng rng;
    char name[COMPLETION_PROMPT_NAME];
    own.prompt = prompt->text;
    own.prompt_bytes = prompt->bytes;
    own.ids = prompt->ids;
    own.id_count = prompt->id_count;
    own.seed = generation_seed(completion->fields.seed, completion_number(completion, i));
    completion_set_state(completion, i, &rng, &own);
    if (completion_compares(completion)) { /* the pattern leaves no choice but this text, whatever it costs */
        own.pattern = completion->patterns[i % completion->made];
        own.length = json_string_length(json_array_get(completion->fields.choices, i % completion->made));
        own.min_length = 0;
        own.stop_count = 0;
        own.sampler = (struct sampler_options){0};
    }
    if (completion_selects(completion) && own.logprobs == 0) own.logprobs = 1;
    if (generation_open(&completion->parts[i].job.generation, completion->served->model.vocabulary, &own, &field, &err))
        return true;
    if (!field || err.code != ERROR_INVALID) return problem_set_error(problem, &err);
    if (strcmp(field, "min_length") == 0)
        return problem_add_field(problem, field, "must be at most %s, which allows %llu new tokens",
                                 completion->dialect->rows[COMPLETION_ROW_LENGTH].name, (unsigned long long)own.length);
    if (strcmp(field, "length") == 0) field = completion->dialect->rows[COMPLETION_ROW_LENGTH].name;
    *of_prompt = strcmp(field, "prompt") == 0;
    if (*of_prompt) field = completion_prompt_name(completion, p, name);
    return problem_add_field(problem, field, "%s", err.message);
}

/* What the prompts' log-probabilities cost: as those of /score do. */
static bool completion_check_scores(const struct completion *completion, struct problem *problem)
{
    const size_t limit = (size_t)completion->services->config->max_score;
    const size_t window = completion->served->stepper.architecture.window.size;
    size_t tokens = 0;
    if (!completion->fields.scores_prompt) return true;
    for (size_t i = 0; i < completion->count; i++) {
        const struct generation *generation = &completion->parts[i].job.generation;
        tokens += generation->prompt.count - generation->prompt_begin;
    }
    return tokens <= limit / (window > 0 ? window : 1) ||
           problem_add_field(problem, "prompt",
                             "has %zu tokens to score, in all texts together; limits.max_score is %zu%s", tokens, limit,
                             window > 0 ? ", and each costs as many as the model's window has" : "");
}

static bool completion_open_parts(struct completion *completion, struct problem *problem)
{
    const struct completion_fields *fields = &completion->fields;
    const bool continues = completion->session && !session_is_fresh(completion->session);
    struct text_span stop[FIELD_MAX_TEXTS];
    for (size_t i = 0; i < fields->stop.count; i++)
        stop[i] = (struct text_span){fields->stop.items[i].data, fields->stop.items[i].size};
    const struct generation_request wanted = {
        .label = completion->label,
        .length = fields->length,
        .min_length = fields->min_length,
        .sampler = completion_sampler_options(completion),
        .unknown_is_error = fields->unknown == 1,
        .continues = continues,
        .pending = continues ? session_pending(completion->session) : 0,
        .start_state = continues ? session_state(completion->session) : NULL,
        .end_state = completion->session ? session_next_state(completion->session) : NULL,
        .stop = stop,
        .stop_count = fields->stop.count,
        .include_stop = fields->include_stop,
        .pattern = completion->patterns ? completion->patterns[0] : NULL,
        .window = completion->served->stepper.architecture.window,
        .ignore_eos = fields->ignore_eos,
        .logprobs = fields->logprobs,
        .scores_prompt = fields->scores_prompt,
        .kernels = completion->served->stepper.kernels,
    };
    if (!completion_take_parts(completion, problem) || !completion_take_states(completion, problem)) return false;
    bool good = true;
    for (size_t i = 0; i < completion->count; i++) {
        bool of_prompt = false;
        if (completion_open_part(completion, i, &wanted, &of_prompt, problem)) continue;
        if (!of_prompt) return false;
        good = false;
        i += completion->made - 1 - i % completion->made; /* what is wrong with a prompt is told once */
    }
    if (!good || !completion_check_scores(completion, problem)) return false;
    if (!completion_selects(completion)) completion_choose(completion);
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
        completion_check_counts(completion, problem);
        const bool prompts = completion_read_prompts(completion, problem);
        if (prompts && patterns && states && completion_begin_session(completion, problem))
            completion_open_parts(completion, problem);
    }
    return !problem->status;
}
