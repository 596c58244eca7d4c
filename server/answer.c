#include "server/answer.h"

#include <stdlib.h>

#include "base/utf8.h"

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
static json_t *whole_text(const struct answer *answer)
{
    const struct generation *generation = answer->generation;
    const size_t n = answer->prompt_bytes + generation->text_bytes;
    char *joined = malloc(n + 1);
    if (joined == NULL) return NULL;
    for (size_t i = 0; i < answer->prompt_bytes; i++) joined[i] = answer->prompt[i];
    for (size_t i = 0; i < generation->text_bytes; i++) joined[answer->prompt_bytes + i] = generation->text[i];
    json_t *string = text_to_json(joined, n);
    free(joined);
    return string;
}

static json_t *warnings(const struct answer *answer)
{
    json_t *list = json_array();
    for (size_t i = 0; list != NULL && i < generation_warning_count(answer->generation); i++) {
        char text[GENERATION_WARNING_SIZE];
        generation_warning(answer->generation, answer->prompt, i, text);
        if (json_array_append_new(list, json_string(text)) != 0) {
            json_decref(list);
            return NULL;
        }
    }
    return list;
}

static double tokens_per_second(const struct answer *answer)
{
    return answer->generate_ms > 0 ? (double)answer->generation->produced / (answer->generate_ms / 1000) : 0;
}

json_t *answer_build(const struct answer *answer, struct error *err)
{
    const struct generation *generation = answer->generation;
    json_t *json = json_pack(
        "{s:s, s:s, s:o, s:o, s:s, s:I, s:{s:I, s:I, s:I}, s:{s:f, s:f, s:f, s:f}, s:o}", "id", answer->id, "model",
        answer->model, "text", whole_text(answer), "completion", text_to_json(generation->text, generation->text_bytes),
        "finish_reason", finish_reason_name(generation->finish), "seed", (json_int_t)answer->seed, "usage",
        "prompt_tokens", (json_int_t)generation->prompt.count, "cached_tokens", (json_int_t)answer->cached_tokens,
        "completion_tokens", (json_int_t)generation->produced, "timings", "queue_ms", answer->queue_ms, "prompt_ms",
        answer->prompt_ms, "generate_ms", answer->generate_ms, "tokens_per_second", tokens_per_second(answer),
        "warnings", warnings(answer));
    if (json == NULL) error_set_no_memory(err, generation->text_bytes, "the answer");
    return json;
}
