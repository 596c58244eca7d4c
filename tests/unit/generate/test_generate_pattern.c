/* A generation with a pattern: its text, and the reason of its end. The logits are made up; there is no network. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <string.h>

#include "base/rng.h"
#include "model/generate/generate.h"
#include "tests/unit/support.h"

#define V 6
static const char with_eos[] =
    "{\"level\":\"char\",\"tokens\":[\"<eos>\",\"a\",\"b\",\"c\",\"1\",\"2\"],\"eos\":0,\"pad\":null,\"unknown\":null}";
static const char without_eos[] =
    "{\"level\":\"char\",\"tokens\":[\"x\",\"a\",\"b\",\"c\",\"1\",\"2\"],\"eos\":null,\"pad\":null,\"unknown\":null}";

struct run {
    const char *vocabulary, *regex, *stop;
    double temperature;
    uint64_t seed;
    size_t length, logprobs;
    float logits[V];
    bool random; /* other logits at each step */
};

struct result {
    char text[64];
    enum finish_reason finish;
    uint32_t pending;
    size_t tokens;
};

static struct result run(const struct run *run)
{
    struct error err = {0};
    struct generation generation;
    struct rng rng;
    struct vocabulary *vocabulary = vocabulary_from_json(run->vocabulary, strlen(run->vocabulary), "test", &err);
    const struct pattern_options options = {.max_states = PATTERN_MAX_STATES, .max_steps = PATTERN_MAX_STEPS};
    struct pattern *pattern = pattern_new(run->regex, strlen(run->regex), vocabulary, &options, &err);
    const struct text_span stop = {run->stop, run->stop ? strlen(run->stop) : 0};
    const struct generation_request request = {.prompt = "a",
                                               .prompt_bytes = 1,
                                               .length = run->length,
                                               .seed = run->seed,
                                               .sampler.temperature = run->temperature,
                                               .pattern = pattern,
                                               .logprobs = run->logprobs,
                                               .stop = &stop,
                                               .stop_count = run->stop != NULL};
    if (!vocabulary || !pattern || !generation_open(&generation, vocabulary, &request, NULL, &err))
        fail_msg("%s", err.message);
    rng_seed(&rng, run->seed, 9);
    while (!generation_done(&generation)) {
        float logits[KERNEL_BLOCK];
        memcpy(logits, run->logits, sizeof run->logits);
        for (int v = 0; run->random && v < V; v++) logits[v] = (float)rng_normal(&rng);
        generation_advance(&generation, generation_wants_logits(&generation) ? logits : NULL);
    }
    assert_int_equal(generation.text_ready, generation.text_bytes);
    struct result result = {
        .finish = generation.finish, .pending = generation_token(&generation), .tokens = generation.produced};
    memcpy(result.text, generation.text, generation.text_bytes + 1);
    generation_close(&generation);
    pattern_free(pattern);
    vocabulary_free(vocabulary);
    return result;
}

static void expect(const struct run *wanted, const char *text, enum finish_reason finish)
{
    const struct result result = run(wanted);
    if (strcmp(result.text, text) != 0 || result.finish != finish)
        fail_msg("%s: \"%s\", %s", wanted->regex, result.text, finish_reason_name(result.finish));
}

static void test_generation_ends_where_nothing_can_follow(void **state)
{
    (void)state;
    expect(&(struct run){.vocabulary = with_eos, .regex = "[abc]{2}[12]", .length = 9, .logits = {9, 1, 2, 3, 4, 5}},
           "cc2", FINISH_PATTERN);
    expect(&(struct run){.vocabulary = without_eos, .regex = "ab|c1", .length = 9, .logits = {9, 2, 1, 1, 1, 1}}, "ab",
           FINISH_PATTERN);
}

static void test_generation_ends_where_the_model_would_rather_not_go_on(void **state)
{
    (void)state;
    /* <eos> is the likeliest from the first token on, and may come once there is one. */
    expect(&(struct run){.vocabulary = with_eos, .regex = "b+", .length = 9, .logits = {9, 1, 2, 3, 4, 5}}, "b",
           FINISH_PATTERN);
    /* The likeliest token is no part of the pattern: the text ends as soon as it may. */
    expect(&(struct run){.vocabulary = without_eos, .regex = "b{2,}", .length = 9, .logits = {0, 1, 2, 3, 4, 5}}, "bb",
           FINISH_PATTERN);
    assert_int_equal(
        run(&(struct run){.vocabulary = with_eos, .regex = "b+", .length = 9, .logits = {0, 1, 2, 3, 4, 5}}).pending,
        0);
    assert_int_equal(
        run(&(struct run){.vocabulary = without_eos, .regex = "b+", .length = 9, .logits = {0, 1, 2, 3, 4, 5}}).pending,
        TOKEN_NONE);
}

static void test_length_and_stop_texts_end_a_pattern_before_its_end(void **state)
{
    (void)state;
    expect(&(struct run){.vocabulary = with_eos, .regex = "b+", .length = 4, .logits = {0, 1, 5, 3, 4, 2}}, "bbbb",
           FINISH_LENGTH);
    expect(&(struct run){.vocabulary = with_eos, .regex = "b{4}", .length = 4, .logits = {0, 1, 5, 3, 4, 2}}, "bbbb",
           FINISH_PATTERN);
    expect(&(struct run){.vocabulary = with_eos, .regex = "ab12", .length = 9, .stop = "b1", .logits = {0}}, "a",
           FINISH_STOP);
    expect(&(struct run){.vocabulary = with_eos, .regex = "ab12", .length = 9, .stop = "12", .logits = {0}}, "ab",
           FINISH_STOP);
    expect(&(struct run){.vocabulary = with_eos, .regex = "ab12", .length = 9, .stop = "2b", .logits = {0}}, "ab12",
           FINISH_PATTERN);
}

static void test_every_sampled_text_matches(void **state)
{
    (void)state;
    unsigned ends[5] = {0};
    for (uint64_t seed = 0; seed < 300; seed++) {
        const struct run wanted = {.vocabulary = seed % 2 ? with_eos : without_eos,
                                   .regex = "(ab*c|[12]{1,3})",
                                   .length = 30,
                                   .temperature = 1,
                                   .seed = seed,
                                   .logprobs = seed % 3,
                                   .random = true};
        const struct result result = run(&wanted);
        const size_t n = strlen(result.text);
        const bool first =
            n >= 2 && result.text[0] == 'a' && result.text[n - 1] == 'c' && strspn(result.text + 1, "b") == n - 2;
        const bool second = n >= 1 && n <= 3 && strspn(result.text, "12") == n;
        if ((!first && !second) || result.finish != FINISH_PATTERN) fail_msg("%s", result.text);
        ends[first ? 0 : n]++;
        assert_int_equal(result.tokens, n);
    }
    for (int i = 0; i < 4; i++) assert_true(ends[i] > 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_generation_ends_where_nothing_can_follow),
        cmocka_unit_test(test_generation_ends_where_the_model_would_rather_not_go_on),
        cmocka_unit_test(test_length_and_stop_texts_end_a_pattern_before_its_end),
        cmocka_unit_test(test_every_sampled_text_matches),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
