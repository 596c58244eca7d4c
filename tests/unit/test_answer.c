#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <string.h>

#include "server/answer.h"
#include "tests/unit/support.h"

/* A finished generation without a model. */
static struct generation finished(char *text, size_t n)
{
    return (struct generation){
        .text = text, .text_bytes = n, .produced = 5, .finish = FINISH_EOS, .prompt = {.count = 3}, .cached = 2};
}

static json_t *build(const struct generation *generation, const char *prompt)
{
    const struct answer answer = {.id = "r1",
                                  .model = "headlines",
                                  .prompt = prompt,
                                  .prompt_bytes = strlen(prompt),
                                  .generations = &generation,
                                  .count = 1,
                                  .seed = 9007199254740991u,
                                  .queue_ms = 0.5,
                                  .prompt_ms = 0.25,
                                  .generate_ms = 2};
    json_t *json = answer_build(&answer, NULL);
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
    /* The prompt's last character is finished by the completion; alone, neither is one. */
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

static bool attempt_answer(void *context, struct error *err)
{
    const struct generation *const generations[] = {context};
    const struct answer answer = {
        .id = "", .model = "", .prompt = "a~~", .prompt_bytes = 3, .generations = generations, .count = 1};
    json_t *json = answer_build(&answer, err);
    json_decref(json);
    return json != NULL;
}

static void test_answer_survives_failing_allocations(void **state)
{
    (void)state;
    char text[] = "abc";
    struct unknown_text items[] = {{.offset = 1, .length = 1}};
    struct generation generation = finished(text, 3);
    generation.unknown = (struct unknown_list){.items = items, .count = 1, .total = 2};
    assert_survives_failing_allocations(attempt_answer, &generation);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_answer_has_every_key_in_order),
        cmocka_unit_test(test_answer_cleans_bytes_that_are_not_utf8),
        cmocka_unit_test(test_answer_keeps_nul_characters),
        cmocka_unit_test(test_answer_names_what_was_skipped),
        cmocka_unit_test(test_answer_survives_failing_allocations),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
