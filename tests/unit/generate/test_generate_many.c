/* Generations for requests with many texts, and for scores of prompts: prompts as tokens, log-probabilities of a
 * prompt, no new tokens, a least length, and a stop text that stays. */
#include <stdlib.h>
#include <string.h>

#include "model/generate/reading.h"
#include "tests/unit/generate/generate_support.h"
#include "tests/unit/network/reference.h"

static const char characters[] = "{\"level\": \"char\", \"tokens\": [\"<eos>\", \"a\", \"b\", \"c\", \"News\"], "
                                 "\"eos\": 0, \"pad\": null, \"unknown\": null, \"labels\": [4]}";
enum { EOS, A, B, C, NEWS };

static void play_all(struct generation *generation, const uint32_t *tokens, size_t count)
{
    while (generation_is_reading(generation)) generation_play(generation, EOS);
    for (size_t i = 0; i < count && !generation_done(generation); i++) generation_play(generation, tokens[i]);
}

static void test_generation_writes_no_eos_before_its_least_length(void **state)
{
    (void)state;
    struct vocabulary *vocabulary = vocabulary_of(characters);
    struct generation_request request = prompt_of("a", 9);
    struct generation generation;
    request.min_length = 3;
    generation_begin(&generation, vocabulary, &request);
    play_all(&generation, (const uint32_t[]){EOS, EOS, B, EOS}, 4);
    assert_int_equal(generation.finish, FINISH_EOS);
    assert_int_equal(generation.produced, 3);
    assert_int_equal(generation.tokens[3].id, EOS);
    generation_close(&generation);

    const struct logit_bias bias[] = {{A, SAMPLER_FORBID}, {B, SAMPLER_FORBID}, {C, SAMPLER_FORBID}};
    request.sampler.bias = bias;
    request.sampler.bias_count = 3;
    assert_refused(vocabulary, &request, "logit_bias", ERROR_INVALID, "");
    vocabulary_free(vocabulary);
}

static void test_generation_goes_on_in_a_pattern_until_its_least_length(void **state)
{
    (void)state;
    struct vocabulary *vocabulary = vocabulary_of(characters);
    const struct pattern_options options = {.max_states = PATTERN_MAX_STATES, .max_steps = PATTERN_MAX_STEPS};
    struct error err = {0};
    struct pattern *pattern = pattern_new("a{1,4}", 6, vocabulary, &options, &err);
    assert_non_null(pattern);
    for (size_t least = 0; least <= 6; least++) {
        struct generation_request request = prompt_of("", 9);
        struct generation generation;
        request.pattern = pattern;
        request.min_length = least;
        generation_begin(&generation, vocabulary, &request);
        play_all(&generation, (const uint32_t[]){B, B, EOS, B, B}, 5); /* never what may follow */
        assert_int_equal(generation.finish, FINISH_PATTERN);
        assert_int_equal(generation.produced, least < 1 ? 1 : least > 4 ? 4 : least);
        generation_close(&generation);
    }
    pattern_free(pattern);
    vocabulary_free(vocabulary);
}

static void test_generation_keeps_the_stop_text_where_it_is_wanted(void **state)
{
    (void)state;
    struct vocabulary *vocabulary = vocabulary_of(characters);
    const struct text_span stop = {"bc", 2};
    struct generation_request request = prompt_of("a", 9);
    struct generation generation;
    request.stop = &stop;
    request.stop_count = 1;
    request.include_stop = true;
    generation_begin(&generation, vocabulary, &request);
    play_all(&generation, (const uint32_t[]){A, B}, 2);
    assert_int_equal(generation.text_ready, 2); /* nothing needs to be held back */
    play_all(&generation, (const uint32_t[]){C}, 1);
    assert_int_equal(generation.finish, FINISH_STOP);
    assert_string_equal(generation.text, "abc");
    assert_int_equal(generation.text_ready, 3);
    assert_int_equal(generation.tokens_ready, 3);
    generation_close(&generation);
    vocabulary_free(vocabulary);
}

static struct generation_request ids_of(const uint32_t *ids, size_t count)
{
    struct generation_request request = prompt_of("", 2);
    request.ids = ids;
    request.id_count = count;
    return request;
}

static void assert_prompt(const struct vocabulary *vocabulary, const struct generation_request *request,
                          const uint32_t *ids, size_t count, size_t begin)
{
    struct generation generation;
    generation_begin(&generation, vocabulary, request);
    assert_int_equal(generation.prompt.count, count);
    assert_memory_equal(generation.prompt.ids, ids, count * sizeof *ids);
    assert_int_equal(generation.prompt_begin, begin);
    generation_close(&generation);
}

static void test_generation_takes_a_prompt_of_tokens(void **state)
{
    (void)state;
    struct vocabulary *vocabulary = vocabulary_of(characters);
    const uint32_t ids[] = {B, A}, begun[] = {EOS, B}, end[] = {A, EOS}, label[] = {A, NEWS}, none[] = {A, 5};
    struct generation_request request = ids_of(ids, 2);
    assert_prompt(vocabulary, &request, (const uint32_t[]){EOS, B, A}, 3, 1);
    request.label = "News";
    assert_prompt(vocabulary, &request, (const uint32_t[]){EOS, NEWS, B, A}, 4, 2);
    request = ids_of(ids, 0);
    assert_prompt(vocabulary, &request, (const uint32_t[]){EOS}, 1, 1);
    request = ids_of(begun, 2);
    assert_prompt(vocabulary, &request, begun, 2, 0);
    request.label = "News";
    assert_refused(vocabulary, &request, "prompt", ERROR_INVALID, "[0] is 0: a label cannot follow");
    request = ids_of(begun, 2);
    request.continues = true;
    request.pending = A;
    assert_refused(vocabulary, &request, "prompt", ERROR_INVALID, "[0] is 0: a start token begins a text");
    request = ids_of(end, 2);
    assert_refused(vocabulary, &request, "prompt", ERROR_INVALID, "[1] is 0: a special token");
    request = ids_of(label, 2);
    assert_refused(vocabulary, &request, "prompt", ERROR_INVALID, "[1] is 4: a special token");
    request = ids_of(none, 2);
    assert_refused(vocabulary, &request, "prompt", ERROR_INVALID, "[1] is 5: token ids are from 0 to 4");
    vocabulary_free(vocabulary);
}

/* Scores of a prompt by the network, and the text behind it. window: 0, or tokens that the network sees. */
static void check_scores(uint32_t window, size_t length)
{
    struct vocabulary *vocabulary = vocabulary_of(characters);
    const struct architecture architecture = {
        .cell = CELL_LSTM, .layers = 1, .hidden_size = 12, .vocabulary_size = 5, .window = {.size = window}};
    struct network network;
    struct stepper stepper;
    struct generation generation, plain;
    struct error err = {0};
    reference_random_network(&network, &architecture, 3, 0.5);
    if (!stepper_open(&stepper, &network, kernels_select("auto"), &err)) fail_msg("%s", err.message);
    struct generation_request request = prompt_of("abcabba", length > 0 ? length : 1);
    request.window = architecture.window;
    request.ignore_eos = true;
    request.logprobs = 3;
    generation_begin(&plain, vocabulary, &request);
    assert_true(generation_run(&plain, &stepper, NULL, NULL, &err));
    request.length = length;
    request.scores_prompt = true;
    generation_begin(&generation, vocabulary, &request);
    assert_true(generation_run(&generation, &stepper, NULL, NULL, &err));
    assert_int_equal(generation.produced, length);
    assert_int_equal(generation.finish, FINISH_LENGTH);
    assert_memory_equal(generation.text, plain.text, generation.text_bytes);

    const struct prompt_scores *scores = &generation.scores;
    assert_int_equal(scores->first, 2); /* <eos>, and the first token */
    assert_int_equal(scores->ready, 8);
    for (size_t i = scores->first; i < scores->count; i++) {
        const double logprob = scores->logprobs[i - scores->first];
        const struct scored_token *top = scores->alternatives + (i - scores->first) * 3;
        struct generation_request before = prompt_of("abcabba", 1);
        struct generation one;
        float logits[16];
        before.prompt_bytes = i - 1;
        before.window = architecture.window;
        generation_begin(&one, vocabulary, &before);
        assert_true(generation_read_prompt(&one, &stepper, logits, &err));
        assert_true(logprob == reading_log_probability(logits, 5, generation.prompt.ids[i]));
        assert_true(top[0].logprob >= top[1].logprob && top[1].logprob >= top[2].logprob && top[0].logprob >= logprob);
        for (size_t k = 0; k < 3; k++) assert_true(top[k].logprob == reading_log_probability(logits, 5, top[k].id));
        generation_close(&one);
    }
    generation_close(&plain);
    generation_close(&generation);
    stepper_close(&stepper);
    network_close(&network);
    vocabulary_free(vocabulary);
}

static void test_generation_scores_its_prompt(void **state)
{
    (void)state;
    for (size_t length = 0; length < 4; length++) {
        check_scores(0, length);
        check_scores(3, length);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_generation_writes_no_eos_before_its_least_length),
        cmocka_unit_test(test_generation_goes_on_in_a_pattern_until_its_least_length),
        cmocka_unit_test(test_generation_keeps_the_stop_text_where_it_is_wanted),
        cmocka_unit_test(test_generation_takes_a_prompt_of_tokens),
        cmocka_unit_test(test_generation_scores_its_prompt),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
