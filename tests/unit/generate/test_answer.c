#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <jansson.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/utf8.h"
#include "model/generate/answer.h"
#include "tests/unit/support.h"

/* A finished generation without a model. */
static struct generation finished(char *text, size_t n)
{
    return (struct generation){
        .text = text, .text_bytes = n, .produced = 5, .finish = FINISH_EOS, .prompt = {.count = 3}, .cached = 2};
}

/* The answer, read again: a jansson that refuses doubled keys tells what is no JSON. */
static json_t *written(const struct answer *answer)
{
    struct answer_writer writer = {.answer = answer};
    struct json_writer out = {0};
    while (answer_write(&writer, &out)) continue;
    assert_false(out.failed);
    json_t *json = json_loadb(out.text, out.size, JSON_ALLOW_NUL | JSON_REJECT_DUPLICATES, NULL);
    assert_non_null(json);
    json_writer_close(&out);
    return json;
}

static json_t *logprobs(const struct generation *generation, size_t first, size_t count)
{
    struct json_writer out = {0};
    answer_write_logprobs(generation, first, count, &out);
    json_t *json = json_loadb(out.text, out.size, 0, NULL);
    json_writer_close(&out);
    return json;
}

static json_t *build(const struct generation *generation, const char *prompt)
{
    const struct answer_choice choice = {
        .generation = generation, .prompt = prompt, .prompt_bytes = strlen(prompt), .seed = 9007199254740991u};
    const struct answer answer = {.id = "r1",
                                  .model = "headlines",
                                  .choices = &choice,
                                  .count = 1,
                                  .queue_ms = 0.5,
                                  .prompt_ms = 0.25,
                                  .generate_ms = 2};
    json_t *json = written(&answer);
    assert_non_null(json);
    return json;
}

static void assert_dumps(json_t *json, const char *expected)
{
    char out[1000];
    const size_t n = json_dumpb(json, out, sizeof out, JSON_COMPACT);
    assert_true(n < sizeof out);
    out[n] = '\0';
    assert_string_equal(out, expected);
    json_decref(json);
}

static void test_answer_has_every_key_in_order(void **state)
{
    (void)state;
    char text[] = "ay\n\"x\"";
    const struct generation generation = finished(text, strlen(text));
    assert_dumps(
        build(&generation, "Tod"),
        "{\"id\":\"r1\",\"model\":\"headlines\",\"text\":\"Today\\n\\\"x\\\"\",\"completion\":\"ay\\n\\\"x\\\"\","
        "\"finish_reason\":\"eos\",\"seed\":9007199254740991,\"usage\":{\"prompt_tokens\":3,"
        "\"cached_tokens\":2,\"completion_tokens\":5},\"timings\":{\"queue_ms\":0.5,\"prompt_ms\":0.25,"
        "\"generate_ms\":2.0,\"tokens_per_second\":2500.0},\"warnings\":[]}");
}

static void test_answer_cleans_bytes_that_are_not_utf8(void **state)
{
    (void)state;
    char text[] = "\xA9 a\xC3";
    const struct generation generation = finished(text, strlen(text));
    json_t *json = build(&generation, "\xC3");
    /* The completion finishes the prompt's last character. Neither part is a character by itself. */
    assert_string_equal(json_string_value(json_object_get(json, "text")), "\xC3\xA9 a\xEF\xBF\xBD");
    assert_string_equal(json_string_value(json_object_get(json, "completion")), "\xEF\xBF\xBD a\xEF\xBF\xBD");
    json_decref(json);
}

static void test_answer_keeps_nul_characters(void **state)
{
    (void)state;
    char text[] = {'a', '\0', 'b'};
    const struct generation generation = finished(text, sizeof text);
    json_t *json = build(&generation, "");
    assert_int_equal(json_string_length(json_object_get(json, "text")), 3);
    json_decref(json);
}

static void test_answer_names_what_was_skipped(void **state)
{
    (void)state;
    char text[] = "";
    struct unknown_text items[] = {{.offset = 1, .length = 1}};
    struct generation generation = finished(text, 0);
    generation.unknown = (struct unknown_list){.items = items, .count = 1, .total = 4};
    json_t *json = build(&generation, "a~~~~"), *warnings = json_object_get(json, "warnings");
    assert_int_equal(json_array_size(warnings), 2);
    assert_non_null(strstr(json_string_value(json_array_get(warnings, 0)), "'~' (U+007E) at byte 1"));
    assert_non_null(strstr(json_string_value(json_array_get(warnings, 1)), "3 more"));
    json_decref(json);
}

/* Two tokens with two alternatives each. */
static const char json_of_vocabulary[] = "{\"level\": \"byte\", \"tokens\": [\"<eos>\", \"a\", \"\xC3\xA9\"], "
                                         "\"eos\": 0, \"pad\": null, \"unknown\": null}";
static struct generated_token some_tokens[] = {
    {.text_end = 1, .id = 1, .logprob = -0.5f}, {.text_end = 2, .id = 2, .logprob = -2}, {3, 1, -1}};
static struct token_probability some_alternatives[] = {{1, -0.5f}, {0, -INFINITY}, {2, -2}, {1, -3}, {1, -1}, {2, -2}};

static struct generation with_logprobs(char *text, size_t n, struct vocabulary **vocabulary)
{
    struct generation generation = finished(text, n);
    *vocabulary = vocabulary_from_json(json_of_vocabulary, strlen(json_of_vocabulary), "test", NULL);
    assert_non_null(*vocabulary);
    generation.vocabulary = *vocabulary;
    generation.tokens = some_tokens;
    generation.alternatives = some_alternatives;
    generation.alternative_count = 2;
    generation.tokens_ready = 2;
    return generation;
}

#define LOGPROBS                                                                                                       \
    "[{\"id\":1,\"token\":\"a\",\"logprob\":-0.5,\"top_logprobs\":[{\"id\":1,\"token\":\"a\",\"logprob\":-0.5},{"      \
    "\"id\":0,"                                                                                                        \
    "\"token\":\"<eos>\",\"logprob\":-9999.0}]},{\"id\":2,\"token\":\"\xEF\xBF\xBD\",\"logprob\":-2.0,\"top_"          \
    "logprobs\":[{"                                                                                                    \
    "\"id\":2,\"token\":\"\xEF\xBF\xBD\",\"logprob\":-2.0},{\"id\":1,\"token\":\"a\",\"logprob\":-3.0}]}]"

static void test_answer_has_the_logprobs_of_the_tokens_that_are_shown(void **state)
{
    (void)state;
    char text[] = "a";
    struct vocabulary *vocabulary;
    const struct generation generation = with_logprobs(text, 1, &vocabulary);
    json_t *json = build(&generation, "");
    assert_dumps(json_incref(json_object_get(json, "logprobs")), LOGPROBS);
    assert_null(json_object_get(json, "choices"));
    assert_dumps(logprobs(&generation, 1, 0), "[]");
    json_t *last = logprobs(&generation, 2, 1);
    assert_int_equal(json_array_size(last), 1);
    json_decref(last);
    json_decref(json);
    vocabulary_free(vocabulary);
}

static void test_answer_has_choices_where_there_are_several_continuations(void **state)
{
    (void)state;
    char first_text[] = "b", second_text[] = "c";
    struct vocabulary *vocabulary;
    struct generation first = finished(first_text, 1), second = with_logprobs(second_text, 1, &vocabulary);
    second.finish = FINISH_STOP;
    second.produced = 7;
    const struct answer_choice choices[] = {
        {.generation = &first, .prompt = "a", .prompt_bytes = 1, .seed = 9007199254740991u},
        {.generation = &second, .prompt = "a", .prompt_bytes = 1},
    };
    const struct answer answer = {.id = "i", .model = "m", .choices = choices, .count = 2, .generate_ms = 6};
    assert_dumps(written(&answer),
                 "{\"id\":\"i\",\"model\":\"m\",\"text\":\"ab\",\"completion\":\"b\",\"finish_reason\":\"eos\","
                 "\"seed\":9007199254740991,\"choices\":[{\"index\":0,\"text\":\"ab\",\"completion\":\"b\","
                 "\"finish_reason\":\"eos\",\"seed\":9007199254740991},{\"index\":1,\"text\":\"ac\",\"completion\":"
                 "\"c\",\"finish_reason\":\"stop\",\"seed\":0,\"logprobs\":" LOGPROBS
                 "}],\"usage\":{\"prompt_tokens\":3,"
                 "\"cached_tokens\":2,\"completion_tokens\":12},\"timings\":{\"queue_ms\":0.0,\"prompt_ms\":0.0,"
                 "\"generate_ms\":6.0,\"tokens_per_second\":2000.0},\"warnings\":[]}");
    vocabulary_free(vocabulary);
}

/* Long texts come in parts: the same as at once, wherever the parts end. */
static void test_answer_writes_long_texts_as_short_ones(void **state)
{
    (void)state;
    static const char pattern[] = "\xE2\x82\xAC\xF0\x9F\x98\x80\xC3\xA9x\"\xFF";
    const size_t n = 60001;
    char *text = malloc(n), *clean = malloc(3 * n);
    for (size_t i = 0; i < n; i++) text[i] = pattern[i % (sizeof pattern - 1)];
    const struct generation generation = finished(text, n);
    for (size_t shift = 0; shift < 4; shift++) {
        json_t *json = build(&generation, &"\xC3\xA9\xE2\x82"[shift]);
        const json_t *completion = json_object_get(json, "completion");
        const size_t size = utf8_sanitize(text, n, clean);
        assert_int_equal(json_string_length(completion), size);
        assert_memory_equal(json_string_value(completion), clean, size);
        json_decref(json);
    }
    free(clean);
    free(text);
}

static bool attempt_answer(void *context, struct error *err)
{
    const struct answer_choice choices[] = {{.generation = context, .prompt = "a~~", .prompt_bytes = 3},
                                            {.generation = context, .prompt = "a~~", .prompt_bytes = 3}};
    const struct answer answer = {.id = "", .model = "", .choices = choices, .count = 2};
    struct answer_writer writer = {.answer = &answer};
    struct json_writer out = {0};
    while (answer_write(&writer, &out)) continue;
    const bool good = !out.failed;
    json_writer_close(&out);
    return good || error_set_no_memory(err, 0, "the answer");
}

static void test_answer_survives_failing_allocations(void **state)
{
    (void)state;
    char text[] = "abc";
    struct unknown_text items[] = {{.offset = 1, .length = 1}};
    struct vocabulary *vocabulary;
    struct generation generation = with_logprobs(text, 3, &vocabulary);
    generation.unknown = (struct unknown_list){.items = items, .count = 1, .total = 2};
    assert_survives_failing_allocations(attempt_answer, &generation);
    vocabulary_free(vocabulary);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_answer_has_every_key_in_order),
        cmocka_unit_test(test_answer_cleans_bytes_that_are_not_utf8),
        cmocka_unit_test(test_answer_keeps_nul_characters),
        cmocka_unit_test(test_answer_names_what_was_skipped),
        cmocka_unit_test(test_answer_has_the_logprobs_of_the_tokens_that_are_shown),
        cmocka_unit_test(test_answer_has_choices_where_there_are_several_continuations),
        cmocka_unit_test(test_answer_writes_long_texts_as_short_ones),
        cmocka_unit_test(test_answer_survives_failing_allocations),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
