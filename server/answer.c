#include "server/answer.h"

#include <stdlib.h>

#include "base/utf8.h"

#define LEAST_LOGPROB (-9999.0f) /* JSON has no infinity */

/* A JSON string of bytes that need not be valid UTF-8; NULL without memory. */
static json_t *text_to_json(const char *text, size_t n)
{
    char *clean = malloc(3 * n + 1);
    if (clean == NULL) return NULL;
    json_t *string = json_stringn(clean, utf8_sanitize(text, n, clean));
    free(clean);
    return string;
}

/* Prompt and completion are joined before they are cleaned: a byte-level model may finish the prompt's last character.
 */
static json_t *whole_text(const struct answer *answer, const struct generation *generation)
{
    const size_t n = answer->prompt_bytes + generation->text_bytes;
    char *joined = malloc(n + 1);
    if (joined == NULL) return NULL;
    for (size_t i = 0; i < answer->prompt_bytes; i++) joined[i] = answer->prompt[i];
    for (size_t i = 0; i < generation->text_bytes; i++) joined[answer->prompt_bytes + i] = generation->text[i];
    json_t *string = text_to_json(joined, n);
    free(joined);
    return string;
}

/* {id, token, logprob, ...} */
static json_t *token_to_json(const struct vocabulary *vocabulary, uint32_t id, float logprob)
{
    size_t n;
    const char *text = vocabulary_token(vocabulary, id, &n);
    return json_pack("{s:I, s:o, s:f}", "id", (json_int_t)id, "token", text_to_json(text, n), "logprob",
                     logprob > LEAST_LOGPROB ? (double)logprob : (double)LEAST_LOGPROB);
}

/* Appends; false without memory, and for an item that is NULL because there was none. */
static bool add(json_t *list, json_t *item)
{
    return json_array_append_new(list, item) == 0;
}

static json_t *alternatives(const struct generation *generation, size_t index)
{
    const size_t count = generation->alternative_count;
    const struct token_probability *top = generation->alternatives + index * count;
    json_t *list = json_array();
    for (size_t i = 0; list != NULL && i < count; i++) {
        if (add(list, token_to_json(generation->vocabulary, top[i].id, top[i].logprob))) continue;
        json_decref(list);
        return NULL;
    }
    return list;
}

json_t *answer_logprobs(const struct generation *generation, size_t first, size_t count)
{
    json_t *list = json_array();
    for (size_t i = first; list != NULL && i < first + count; i++) {
        const struct generated_token *token = &generation->tokens[i];
        json_t *item = token_to_json(generation->vocabulary, token->id, token->logprob);
        /* The list owns the item from here on, filled or not. */
        if (add(list, item) && json_object_set_new(item, "top_logprobs", alternatives(generation, i)) == 0) continue;
        json_decref(list);
        return NULL;
    }
    return list;
}

/* Sets text, completion, finish_reason, seed of one continuation. */
static bool set_text(json_t *json, const struct answer *answer, size_t index)
{
    const struct generation *generation = answer->generations[index];
    const uint64_t seed = generation_seed(answer->seed, index);
    return json_object_set_new(json, "text", whole_text(answer, generation)) == 0 &&
           json_object_set_new(json, "completion", text_to_json(generation->text, generation->text_bytes)) == 0 &&
           json_object_set_new(json, "finish_reason", json_string(finish_reason_name(generation->finish))) == 0 &&
           json_object_set_new(json, "seed", json_integer((json_int_t)seed)) == 0;
}

static bool set_logprobs(json_t *json, const struct generation *generation)
{
    if (generation->alternative_count == 0) return true;
    return json_object_set_new(json, "logprobs", answer_logprobs(generation, 0, generation->tokens_ready)) == 0;
}

static json_t *choices(const struct answer *answer)
{
    json_t *list = json_array();
    for (size_t i = 0; list != NULL && i < answer->count; i++) {
        json_t *item = json_pack("{s:I}", "index", (json_int_t)i);
        if (add(list, item) && set_text(item, answer, i) && set_logprobs(item, answer->generations[i])) continue;
        json_decref(list);
        return NULL;
    }
    return list;
}

static json_t *warnings(const struct answer *answer)
{
    json_t *list = answer->warning ? json_pack("[s]", answer->warning) : json_array();
    for (size_t i = 0; list != NULL && i < generation_warning_count(answer->generations[0]); i++) {
        char text[GENERATION_WARNING_SIZE];
        generation_warning(answer->generations[0], answer->prompt, i, text);
        if (json_array_append_new(list, json_string(text)) != 0) {
            json_decref(list);
            return NULL;
        }
    }
    return list;
}

static size_t completion_tokens(const struct answer *answer)
{
    size_t sum = 0;
    for (size_t i = 0; i < answer->count; i++) sum += answer->generations[i]->produced;
    return sum;
}

static json_t *usage(const struct answer *answer)
{
    const struct generation *first = answer->generations[0];
    return json_pack("{s:I, s:I, s:I}", "prompt_tokens", (json_int_t)first->prompt.count, "cached_tokens",
                     (json_int_t)first->cached, "completion_tokens", (json_int_t)completion_tokens(answer));
}

static json_t *timings(const struct answer *answer)
{
    const double seconds = answer->generate_ms / 1000;
    const double rate = seconds > 0 ? (double)completion_tokens(answer) / seconds : 0;
    return json_pack("{s:f, s:f, s:f, s:f}", "queue_ms", answer->queue_ms, "prompt_ms", answer->prompt_ms,
                     "generate_ms", answer->generate_ms, "tokens_per_second", rate);
}

static bool set_end(json_t *json, const struct answer *answer)
{
    return json_object_set_new(json, "usage", usage(answer)) == 0 &&
           json_object_set_new(json, "timings", timings(answer)) == 0 &&
           json_object_set_new(json, "warnings", warnings(answer)) == 0;
}

json_t *answer_end(const struct answer *answer)
{
    json_t *json = json_pack("{s:s, s:I}", "finish_reason", finish_reason_name(answer->generations[0]->finish), "seed",
                             (json_int_t)answer->seed);
    if (json != NULL && set_end(json, answer)) return json;
    json_decref(json);
    return NULL;
}

static bool fill(json_t *json, const struct answer *answer)
{
    const bool several = answer->count > 1;
    return set_text(json, answer, 0) && (several || set_logprobs(json, answer->generations[0])) &&
           (!several || json_object_set_new(json, "choices", choices(answer)) == 0) && set_end(json, answer);
}

json_t *answer_build(const struct answer *answer, struct error *err)
{
    json_t *json = json_pack("{s:s, s:s}", "id", answer->id, "model", answer->model);
    if (json != NULL && fill(json, answer)) return json;
    json_decref(json);
    error_set_no_memory(err, answer->generations[0]->text_bytes, "the answer");
    return NULL;
}
