#include "tests/unit/generate/generate_support.h"

#include <string.h>

struct vocabulary *vocabulary_of(const char *json)
{
    struct error err = {0};
    struct vocabulary *vocabulary = vocabulary_from_json(json, strlen(json), "test", &err);
    if (!vocabulary) fail_msg("%s", err.message);
    return vocabulary;
}

struct generation_request prompt_of(const char *prompt, size_t length)
{
    return (struct generation_request){.prompt = prompt, .prompt_bytes = strlen(prompt), .length = length, .seed = 1};
}

void generation_begin(struct generation *generation, const struct vocabulary *vocabulary,
                      const struct generation_request *request)
{
    struct error err = {0};
    if (!generation_open(generation, vocabulary, request, NULL, &err)) fail_msg("%s", err.message);
}

void generation_play(struct generation *generation, uint32_t token)
{
    float logits[16] = {0};
    logits[token] = 9;
    generation_advance(generation, generation_wants_logits(generation) ? logits : NULL);
}

void assert_refused(const struct vocabulary *vocabulary, const struct generation_request *request, const char *field,
                    enum error_code code, const char *part)
{
    struct generation generation;
    struct error err = {0};
    const char *wrong = NULL;
    assert_false(generation_open(&generation, vocabulary, request, &wrong, &err));
    generation_close(&generation);
    assert_int_equal(err.code, code);
    assert_non_null(wrong);
    assert_string_equal(wrong, field);
    if (!strstr(err.message, part)) fail_msg("\"%s\" is not in \"%s\"", part, err.message);
}
