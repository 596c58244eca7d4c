/* `regex` and `choices` of a request: the patterns that its texts match.
 *
 * Making a pattern takes milliseconds, or tens of them for a large one. So completion_run.c runs the check of such a
 * request in a worker. */
#include <stdlib.h>
#include <string.h>

#include "server/api/completion_internal.h"

static const char *regex_name(const struct completion *completion)
{
    return completion->dialect->is_openai ? "guided_regex" : "regex";
}

static const char *choices_name(const struct completion *completion)
{
    return completion->dialect->is_openai ? "guided_choice" : "choices";
}

bool completion_wants_pattern(const struct completion *completion)
{
    return completion->fields.regex.data || completion->fields.choices;
}

/* One text each for all choices, to find the likeliest. */
bool completion_compares(const struct completion *completion)
{
    return completion->fields.choices && completion->fields.choice_mode == COMPLETION_LIKELIEST;
}

static bool check_fields(const struct completion *completion, struct problem *problem)
{
    const struct completion_fields *fields = &completion->fields;
    if (fields->regex.data && fields->choices)
        return problem_add_field(problem, choices_name(completion), "cannot be joined with %s", regex_name(completion));
    if (!fields->choices && fields->choice_mode == COMPLETION_LIKELIEST)
        return problem_add_field(problem, "choice_mode", "is for choices, and there are none");
    if (!completion_compares(completion)) return true;
    if (fields->n > 1) return problem_add_field(problem, "n", "must be 1: there is one likeliest choice");
    if (fields->best_of > 1)
        return problem_add_field(problem, "best_of", "cannot be joined with choice_mode \"likeliest\"");
    if (fields->stream) return problem_add_field(problem, "stream", "must be false: the likeliest is known at the end");
    if (fields->session.data)
        return problem_add_field(problem, "session", "cannot be joined with choice_mode \"likeliest\"");
    return true;
}

/* Borrows the texts of the array. The caller frees *spans. */
static bool read_choices(const struct completion *completion, struct text_span **spans, size_t *count,
                         struct problem *problem)
{
    const json_t *array = completion->fields.choices;
    const char *name = choices_name(completion);
    const size_t most = completion_compares(completion) ? COMPLETION_MAX_N : COMPLETION_MAX_CHOICES;
    const uint64_t max_bytes = completion->services->config->max_pattern;
    size_t bytes = 0;
    *count = json_array_size(array);
    if (*count < 1 || *count > most)
        return problem_add_field(problem, name, "must have 1 to %zu texts, not %zu", most, *count);
    *spans = calloc(*count, sizeof **spans);
    if (!*spans) return problem_set(problem, 503, "out of memory");
    for (size_t i = 0; i < *count; i++) {
        const json_t *item = json_array_get(array, i);
        if (!json_is_string(item) || json_string_length(item) == 0)
            return problem_add_field(problem, name, "[%zu] must be a text that is not empty", i);
        (*spans)[i] = (struct text_span){json_string_value(item), json_string_length(item)};
        bytes += (*spans)[i].bytes;
    }
    return bytes <= max_bytes || problem_add_field(problem, name, "have %zu bytes; limits.max_pattern is %llu", bytes,
                                                   (unsigned long long)max_bytes);
}

/* Tokens that logit_bias forbids: the pattern takes no way through them. The caller frees *ids. */
static bool list_forbidden(const struct completion *completion, uint32_t **ids, size_t *count)
{
    *count = 0;
    *ids = calloc(completion->bias_count + 1, sizeof **ids);
    for (size_t i = 0; *ids && i < completion->bias_count; i++)
        if (completion->bias[i].bias <= SAMPLER_FORBID) (*ids)[(*count)++] = completion->bias[i].id;
    return *ids;
}

static bool add_pattern(struct completion *completion, struct pattern *pattern, const char *field,
                        const struct error *err, struct problem *problem)
{
    if (pattern)
        completion->patterns[completion->pattern_count++] = pattern;
    else if (err->code == ERROR_NO_MEMORY)
        return problem_set_error(problem, err);
    else
        return problem_add_field(problem, field, "%s%s", err->message,
                                 err->code == ERROR_TOO_LARGE ? " (limits.max_pattern_states)" : "");
    return true;
}

static bool build_choices(struct completion *completion, const struct pattern_options *options, struct problem *problem)
{
    const struct vocabulary *vocabulary = completion->served->model.vocabulary;
    const char *name = choices_name(completion);
    struct text_span *spans = NULL;
    size_t count;
    bool built = read_choices(completion, &spans, &count, problem);
    const size_t each = completion_compares(completion) ? 1 : count;
    for (size_t i = 0; built && i < count; i += each) {
        struct error err = {0};
        struct pattern *pattern = pattern_new_choices(spans + i, each, vocabulary, options, &err);
        if (!pattern && each < count) error_add_context(&err, "choice %zu", i);
        built = add_pattern(completion, pattern, name, &err, problem);
    }
    free(spans);
    return built;
}

static bool build_regex(struct completion *completion, const struct pattern_options *options, struct problem *problem)
{
    const struct field_text *regex = &completion->fields.regex;
    const uint64_t most = completion->services->config->max_pattern;
    struct error err = {0};
    if (regex->size > most)
        return problem_add_field(problem, regex_name(completion), "has %zu bytes; limits.max_pattern is %llu",
                                 regex->size, (unsigned long long)most);
    struct pattern *pattern =
        pattern_new(regex->data, regex->size, completion->served->model.vocabulary, options, &err);
    return add_pattern(completion, pattern, regex_name(completion), &err, problem);
}

bool completion_build_patterns(struct completion *completion, struct problem *problem)
{
    struct pattern_options options = {.max_states = (uint32_t)completion->services->config->max_pattern_states,
                                      .max_steps = PATTERN_MAX_STEPS};
    uint32_t *forbidden = NULL;
    if (!check_fields(completion, problem)) return false;
    if (!completion_wants_pattern(completion)) return true;
    completion->patterns = calloc(COMPLETION_MAX_N, sizeof(struct pattern *));
    if (!completion->patterns || !list_forbidden(completion, &forbidden, &options.forbidden_count)) {
        free(forbidden);
        return problem_set(problem, 503, "out of memory");
    }
    options.forbidden = forbidden;
    const bool built = completion->fields.regex.data ? build_regex(completion, &options, problem)
                                                     : build_choices(completion, &options, problem);
    free(forbidden);
    return built;
}
