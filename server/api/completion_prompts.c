/* `prompt` of a request: a text, the ids of its tokens, or a list of either. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>

#include "server/api/completion_internal.h"

const char *completion_prompt_name(const struct completion *completion, size_t i, char out[COMPLETION_PROMPT_NAME])
{
    if (!completion->has_prompts) return "prompt";
    snprintf(out, COMPLETION_PROMPT_NAME, "prompt[%zu]", i);
    return out;
}

static const char *json_kind(const json_t *value)
{
    switch (json_typeof(value)) {
    case JSON_STRING:
        return "a string";
    case JSON_ARRAY:
        return "an array";
    case JSON_OBJECT:
        return "an object";
    case JSON_INTEGER:
    case JSON_REAL:
        return "a number";
    case JSON_TRUE:
    case JSON_FALSE:
        return "a boolean";
    case JSON_NULL:
        break;
    }
    return "null";
}

static bool read_ids(struct completion *completion, size_t i, const json_t *array, struct problem *problem)
{
    struct completion_prompt *prompt = &completion->prompts[i];
    const size_t count = json_array_size(array);
    char name[COMPLETION_PROMPT_NAME];
    bool good = true;
    prompt->ids = calloc(count > 0 ? count : 1, sizeof *prompt->ids);
    if (!prompt->ids) return problem_set(problem, 503, "out of memory");
    for (size_t k = 0; k < count; k++) {
        const json_t *item = json_array_get(array, k);
        const double id = json_number_value(item);
        const char *field = completion_prompt_name(completion, i, name);
        if (!json_is_number(item))
            good =
                problem_add_field(problem, field, "[%zu] must be a token id, an integer, not %s", k, json_kind(item));
        else if (!(id >= 0 && id < TOKEN_NONE) || id != floor(id))
            good = problem_add_field(problem, field, "[%zu] must be a token id, an integer, not %.17g", k, id);
        else
            prompt->ids[k] = (uint32_t)id;
    }
    prompt->id_count = count;
    return good;
}

/* The prompt's text, as the model would have written it. Ids that are none have no text: the generation refuses them.
 */
static bool decode_ids(const struct vocabulary *vocabulary, struct completion_prompt *prompt, struct problem *problem)
{
    size_t most = 1;
    for (size_t k = 0; k < prompt->id_count; k++) {
        size_t n = 0;
        if (prompt->ids[k] < vocabulary_size(vocabulary)) vocabulary_token(vocabulary, prompt->ids[k], &n);
        most += n + 1;
    }
    char *text = malloc(most);
    if (!text) return problem_set(problem, 503, "out of memory");
    prompt->text = prompt->own_text = text;
    for (size_t k = 0; k < prompt->id_count; k++)
        if (prompt->ids[k] < vocabulary_size(vocabulary))
            prompt->bytes += vocabulary_decode(vocabulary, prompt->ids[k], prompt->bytes == 0, text + prompt->bytes);
    return true;
}

static bool read_prompt(struct completion *completion, size_t i, const json_t *value, struct problem *problem)
{
    struct completion_prompt *prompt = &completion->prompts[i];
    char name[COMPLETION_PROMPT_NAME];
    prompt->text = "";
    if (json_is_array(value))
        return read_ids(completion, i, value, problem) &&
               decode_ids(completion->served->model.vocabulary, prompt, problem);
    if (value && !json_is_string(value))
        return problem_add_field(problem, completion_prompt_name(completion, i, name),
                                 "must be a string or an array of token ids, not %s", json_kind(value));
    if (!value) return true;
    prompt->text = json_string_value(value);
    prompt->bytes = json_string_length(value);
    return true;
}

static bool check_size(const struct completion *completion, struct problem *problem)
{
    const size_t most = (size_t)completion->services->config->max_prompt;
    size_t bytes = 0;
    for (size_t i = 0; i < completion->prompt_count; i++) bytes += completion->prompts[i].bytes;
    if (bytes <= most) return true;
    return problem_add_field(problem, "prompt", "%s %zu bytes%s; limits.max_prompt is %zu",
                             completion->has_prompts ? "have" : "has", bytes,
                             completion->has_prompts ? " together" : "", most);
}

bool completion_read_prompts(struct completion *completion, struct problem *problem)
{
    const json_t *value = completion->fields.prompt;
    const bool is_list = json_is_array(value) && !json_is_number(json_array_get(value, 0));
    const size_t count = is_list ? json_array_size(value) : 1;
    const uint64_t most = (uint64_t)completion->services->config->max_texts;
    bool good = true;
    completion->has_prompts = is_list;
    if (count == 0) return problem_add_field(problem, "prompt", "is a list without a prompt");
    if (count > 1 && count > most)
        return problem_add_field(problem, "prompt", "has %zu prompts; limits.max_texts is %llu", count,
                                 (unsigned long long)most);
    completion->prompts = calloc(count, sizeof *completion->prompts);
    if (!completion->prompts) return problem_set(problem, 503, "out of memory");
    completion->prompt_count = count;
    for (size_t i = 0; i < count; i++)
        if (!read_prompt(completion, i, is_list ? json_array_get(value, i) : value, problem)) good = false;
    return good && check_size(completion, problem);
}
