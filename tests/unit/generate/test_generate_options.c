/* Options of a generation: sessions, skipped prompts, biases, log-probabilities, and refusals. */
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "tests/unit/generate/generate_support.h"
#include "tests/unit/network/reference.h"

static const char characters[] = "{\"level\": \"char\", \"tokens\": [\"<eos>\", \"a\", \"b\", \"\xC3\xA9\", "
                                 "\"\xE2\x82\xAC\", \"News\"], \"eos\": 0, \"pad\": null, \"unknown\": null, "
                                 "\"labels\": [5]}";
static const char words[] = "{\"level\": \"word\", \"tokens\": [\"<eos>\", \"the\", \"cat\", \"sat\"], \"eos\": 0, "
                            "\"pad\": null, \"unknown\": null, \"lower\": true, \"filters\": \".,\"}";
static const char unknowns[] = "{\"level\": \"char\", \"tokens\": [\"<pad>\", \"a\", \"<eos>\", \"<unk>\", \"b\", "
                               "\"News\"], \"eos\": 2, \"pad\": 0, \"unknown\": 3, \"labels\": [5]}";

static void read_prompt(struct generation *generation)
{
    while (!generation_wants_logits(generation)) generation_play(generation, 0);
}

/* ------------------------------------------------------------------ what may be drawn */

static void test_generation_that_ignores_eos_never_ends_early(void **state)
{
    (void)state;
    struct vocabulary *vocabulary = vocabulary_of(characters);
    const struct logit_bias bias = {0, 100};
    for (int hot = 0; hot < 2; hot++) {
        struct generation_request request = prompt_of("", 500);
        struct generation generation;
        request.ignore_eos = true;
        request.sampler = (struct sampler_options){.temperature = hot ? 100 : 0, .bias = &bias, .bias_count = 1};
        generation_begin(&generation, vocabulary, &request);
        while (!generation_done(&generation)) generation_play(&generation, 0);
        assert_int_equal(generation.finish, FINISH_LENGTH);
        assert_int_equal(generation.produced, 500);
        generation_close(&generation);
    }
    vocabulary_free(vocabulary);
}

static void test_generation_never_continues_with_pad_unknown_or_a_label(void **state)
{
    (void)state;
    struct vocabulary *vocabulary = vocabulary_of(unknowns);
    const struct logit_bias bias[] = {{0, 100}, {3, 100}, {5, 100}};
    struct generation_request request = prompt_of("", 2000);
    struct generation generation;
    bool seen[6] = {false};
    request.sampler = (struct sampler_options){.temperature = 100, .bias = bias, .bias_count = 3};
    generation_begin(&generation, vocabulary, &request);
    while (!generation_done(&generation)) {
        generation_play(&generation, 5);
        seen[generation_token(&generation)] = true;
    }
    assert_true(seen[1] && seen[2] && seen[4]);
    assert_false(seen[0] || seen[3] || seen[5]);
    generation_close(&generation);
    vocabulary_free(vocabulary);
}

static void test_generation_penalties_see_prompt_and_completion_but_not_eos(void **state)
{
    (void)state;
    struct vocabulary *vocabulary = vocabulary_of(characters);
    struct generation_request request = prompt_of("aba", 3);
    struct generation generation;
    request.sampler = (struct sampler_options){.frequency_penalty = 1, .repetition_window = 64};
    generation_begin(&generation, vocabulary, &request);
    read_prompt(&generation);
    float logits[16] = {0, 9, 9, 8.5f, 0, 0};
    generation_advance(&generation, logits); /* 9 - 2, 9 - 1, 8.5 */
    assert_int_equal(generation_token(&generation), 3);
    assert_true(logits[0] == 0 && logits[1] == 7 && logits[2] == 8);
    float again[16] = {0, 9, 9, 8.5f, 0, 0};
    generation_advance(&generation, again);
    assert_int_equal(generation_token(&generation), 2);
    assert_true(again[3] == 7.5f);
    generation_close(&generation);
    vocabulary_free(vocabulary);
}

static void test_generation_finds_the_tokens_of_biases(void **state)
{
    (void)state;
    struct vocabulary *chars = vocabulary_of(characters), *of_words = vocabulary_of(words),
                      *unk = vocabulary_of(unknowns);
    const char *wrong[] = {"", "ab", "z", "<eos> ", "News"};
    uint32_t id;
    assert_true(generation_find_token(chars, "\xC3\xA9", 2, &id, NULL));
    assert_int_equal(id, 3);
    assert_true(generation_find_token(chars, "<eos>", 5, &id, NULL));
    assert_int_equal(id, 0);
    assert_true(generation_find_token(of_words, " Cat", 4, &id, NULL));
    assert_int_equal(id, 2);
    for (size_t i = 0; i < 5; i++) {
        struct error err = {0};
        assert_false(generation_find_token(chars, wrong[i], strlen(wrong[i]), &id, &err));
        assert_int_equal(err.code, ERROR_INVALID);
        assert_non_null(strstr(err.message, wrong[i]));
    }
    assert_false(generation_find_token(unk, "z", 1, &id, NULL)); /* <unk> is not its token */
    assert_false(generation_find_token(chars, "\xFF", 1, &id, NULL));
    vocabulary_free(chars);
    vocabulary_free(of_words);
    vocabulary_free(unk);
}

/* ------------------------------------------------------------------ log-probabilities */

static void test_generation_records_the_models_own_distribution(void **state)
{
    (void)state;
    struct vocabulary *vocabulary = vocabulary_of(characters);
    const struct logit_bias bias[] = {{3, -100}, {2, 5}};
    struct generation_request request = prompt_of("ab", 200);
    struct generation generation;
    struct rng rng;
    rng_seed(&rng, 1, 0);
    request.logprobs = 20; /* more than there are tokens */
    request.sampler = (struct sampler_options){
        .temperature = 3, .repetition_penalty = 2, .repetition_window = 10, .bias = bias, .bias_count = 2};
    request.ignore_eos = true;
    generation_begin(&generation, vocabulary, &request);
    assert_int_equal(generation.alternative_count, 6);
    read_prompt(&generation);
    while (!generation_done(&generation)) {
        float logits[16];
        double sum = 0, total = 0;
        for (size_t v = 0; v < 6; v++) sum += exp((double)(logits[v] = (float)(3 * rng_normal(&rng))));
        double exact[6];
        for (size_t v = 0; v < 6; v++) exact[v] = (double)logits[v] - log(sum);
        generation_advance(&generation, logits);
        const struct generated_token *token = &generation.tokens[generation.produced - 1];
        const struct token_probability *top = &generation.alternatives[(generation.produced - 1) * 6];
        assert_true(fabs((double)token->logprob - exact[token->id]) < 3e-6);
        for (size_t i = 0; i < 6; i++) {
            assert_true(fabs((double)top[i].logprob - exact[top[i].id]) < 3e-6);
            total += exp((double)top[i].logprob);
        }
        assert_true(fabs(total - 1) < 2e-6);
    }
    generation_close(&generation);
    vocabulary_free(vocabulary);
}

static void test_generation_draws_the_same_with_and_without_logprobs(void **state)
{
    (void)state;
    struct vocabulary *vocabulary = vocabulary_of(characters);
    char text[2][500];
    for (size_t i = 0; i < 2; i++) {
        struct generation_request request = prompt_of("ab", 100);
        struct generation generation;
        request.sampler.temperature = 20;
        request.ignore_eos = true;
        request.logprobs = 3 * i;
        generation_begin(&generation, vocabulary, &request);
        while (!generation_done(&generation)) generation_play(&generation, 2);
        assert_true(i == 1 || (generation.alternatives == NULL && generation.tokens[5].logprob == 0));
        memcpy(text[i], generation.text, generation.text_bytes + 1);
        generation_close(&generation);
    }
    assert_string_equal(text[0], text[1]);
    vocabulary_free(vocabulary);
}

/* ------------------------------------------------------------------ sessions and skipped prompts */

struct rig {
    struct vocabulary *vocabulary;
    struct network network;
    struct stepper stepper;
    struct step_scratch scratch;
    float state[4 * 32];
};

static void rig_open(struct rig *rig, const char *json)
{
    memset(rig, 0, sizeof *rig);
    rig->vocabulary = vocabulary_of(json);
    const struct architecture architecture = {
        .cell = CELL_LSTM, .layers = 2, .hidden_size = 24, .vocabulary_size = vocabulary_size(rig->vocabulary)};
    reference_random_network(&rig->network, &architecture, 3, 0.5);
    assert_true(stepper_open(&rig->stepper, &rig->network, kernels_select("auto"), NULL));
    assert_true(step_scratch_open(&rig->scratch, &rig->stepper, 1, NULL));
    assert_int_equal(rig->stepper.state_size * sizeof(float), sizeof rig->state);
}

static void rig_close(struct rig *rig)
{
    step_scratch_close(&rig->scratch);
    stepper_close(&rig->stepper);
    network_close(&rig->network);
    vocabulary_free(rig->vocabulary);
}

/* Steps from rig->state to the end, or until `fed` tokens have been fed. */
static void run(struct rig *rig, struct generation *generation, size_t fed)
{
    while (!generation_done(generation) && generation->fed < fed) {
        const uint32_t token = generation_token(generation);
        float logits[16], *wanted = logits, *state = rig->state;
        step(&rig->stepper, &rig->scratch, 1, &token, &state, &wanted);
        generation_advance(generation, generation_wants_logits(generation) ? logits : NULL);
    }
}

static void test_generation_that_continues_a_session_steps_as_one_long_one(void **state)
{
    (void)state;
    struct rig rig;
    rig_open(&rig, characters);
    for (uint64_t seed = 0; seed < 20; seed++) {
        struct generation first, second, whole;
        struct generation_request request = prompt_of("ab\xC3\xA9", 1 + seed);
        char joined[200], text[200];
        request.seed = seed;
        request.sampler.temperature = 1;
        memset(rig.state, 0, sizeof rig.state);
        generation_begin(&first, rig.vocabulary, &request);
        run(&rig, &first, SIZE_MAX);
        assert_int_equal(first.fed, first.prompt.count + first.produced - (first.finish == FINISH_LENGTH));
        snprintf(joined, sizeof joined, "ab\xC3\xA9%sbb", first.text);

        struct generation_request next = prompt_of("bb", 30);
        next.sampler.temperature = 1;
        next.continues = true;
        next.pending = generation_token(&first);
        generation_begin(&second, rig.vocabulary, &next);
        assert_int_equal(second.prompt.count, 3);
        assert_int_equal(generation_token(&second), next.pending);
        run(&rig, &second, SIZE_MAX);
        memcpy(text, second.text, second.text_bytes + 1);
        if (first.finish == FINISH_LENGTH) {
            struct generation_request long_one = prompt_of(joined, 30);
            long_one.sampler.temperature = 1;
            memset(rig.state, 0, sizeof rig.state);
            generation_begin(&whole, rig.vocabulary, &long_one);
            run(&rig, &whole, SIZE_MAX);
            assert_string_equal(whole.text, text);
            generation_close(&whole);
        } else {
            assert_int_equal(next.pending, 0);
        }
        generation_close(&first);
        generation_close(&second);
    }
    rig_close(&rig);
}

static void test_generation_from_a_cached_state_gives_the_same_text(void **state)
{
    (void)state;
    struct rig rig;
    struct generation generation;
    struct generation_request request = prompt_of("ab\xC3\xA9"
                                                  "aabb",
                                                  50);
    char text[200];
    request.label = "News";
    request.sampler = (struct sampler_options){.temperature = 1, .repetition_penalty = 1.2, .repetition_window = 64};
    rig_open(&rig, characters);
    generation_begin(&generation, rig.vocabulary, &request);
    run(&rig, &generation, SIZE_MAX);
    memcpy(text, generation.text, generation.text_bytes + 1);
    assert_int_equal(generation.cached, 0);
    assert_int_equal(generation.prompt.count, 9);
    generation_close(&generation);
    for (size_t cached = 0; cached < 9; cached++) {
        memset(rig.state, 0, sizeof rig.state);
        generation_begin(&generation, rig.vocabulary, &request);
        run(&rig, &generation, cached);
        generation_close(&generation);
        generation_begin(&generation, rig.vocabulary, &request);
        generation_skip(&generation, cached);
        assert_int_equal(generation_wants_logits(&generation), cached == 8);
        run(&rig, &generation, SIZE_MAX);
        assert_string_equal(generation.text, text);
        assert_int_equal(generation.cached, cached);
        generation_close(&generation);
    }
    rig_close(&rig);
}

static void test_generation_puts_a_space_between_the_words_of_a_session(void **state)
{
    (void)state;
    static const struct {
        uint32_t pending;
        const char *prompt, *expected;
    } cases[] = {{2, "", " sat"}, {0, "", "sat"}, {2, "the", " sat"}, {2, "the ", "sat"}, {TOKEN_NONE, "the", " sat"}};
    struct vocabulary *vocabulary = vocabulary_of(words);
    for (size_t i = 0; i < 5; i++) {
        struct generation_request request = prompt_of(cases[i].prompt, 1);
        struct generation generation;
        request.continues = true;
        request.pending = cases[i].pending;
        generation_begin(&generation, vocabulary, &request);
        read_prompt(&generation);
        generation_play(&generation, 3);
        assert_string_equal(generation.text, cases[i].expected);
        generation_close(&generation);
    }
    vocabulary_free(vocabulary);
}

static void test_generation_seeds_follow_each_other(void **state)
{
    (void)state;
    assert_true(generation_seed(5, 0) == 5 && generation_seed(5, 3) == 8);
    assert_true(generation_seed(UINT64_C(9007199254740991), 1) == 0);
}

/* ------------------------------------------------------------------ what is refused */

static void test_generation_names_the_field_that_is_wrong(void **state)
{
    (void)state;
    struct vocabulary *vocabulary = vocabulary_of(characters);
    const struct text_span empty = {"", 0};
    const struct logit_bias outside = {6, 1}, all[] = {{1, -100}, {2, -100}, {3, -100}, {4, -100}};
    const struct generation_request good = prompt_of("a", 5);
    struct generation_request request = good;
    request.logprobs = 21;
    assert_refused(vocabulary, &request, "logprobs", ERROR_INVALID, "between 0 and 20");
    request = good;
    request.stop = &empty;
    request.stop_count = 1;
    assert_refused(vocabulary, &request, "stop", ERROR_INVALID, "empty");
    request = good;
    request.sampler.min_p = 1;
    assert_refused(vocabulary, &request, "min_p", ERROR_INVALID, "below 1");
    request = good;
    request.sampler.repetition_penalty = -1;
    assert_refused(vocabulary, &request, "repetition_penalty", ERROR_INVALID, "between 0.01 and 100");
    request = good;
    request.sampler.bias = &outside;
    request.sampler.bias_count = 1;
    assert_refused(vocabulary, &request, "logit_bias", ERROR_INVALID, "token 6");
    request = good;
    request.sampler.bias = all;
    request.sampler.bias_count = 4;
    request.ignore_eos = true;
    assert_refused(vocabulary, &request, "logit_bias", ERROR_INVALID, "every token");
    request = good;
    request.continues = true;
    request.pending = 1;
    request.label = "News";
    assert_refused(vocabulary, &request, "label", ERROR_INVALID, "session");
    vocabulary_free(vocabulary);
}

static const struct text_span some_stop = {"abab", 4};
static const struct logit_bias some_bias = {1, 2};

static struct generation_request full_request(void)
{
    struct generation_request request = prompt_of("ab", 50);
    request.sampler = (struct sampler_options){.temperature = 1,
                                               .top_k = 4,
                                               .top_p = 0.9,
                                               .frequency_penalty = 0.1,
                                               .repetition_window = 8,
                                               .bias = &some_bias,
                                               .bias_count = 1};
    request.stop = &some_stop;
    request.stop_count = 1;
    request.logprobs = 3;
    return request;
}

static bool attempt(void *context, struct error *err)
{
    const struct generation_request request = full_request();
    struct generation generation;
    const char *field;
    const bool opened = generation_open(&generation, context, &request, &field, err);
    assert_null(field);
    generation_close(&generation);
    return opened;
}

static bool attempt_find(void *context, struct error *err)
{
    uint32_t id;
    return generation_find_token(context, "a", 1, &id, err);
}

static void test_generation_options_survive_failing_allocations(void **state)
{
    (void)state;
    struct vocabulary *vocabulary = vocabulary_of(characters);
    assert_survives_failing_allocations(attempt, vocabulary);
    assert_survives_failing_allocations(attempt_find, vocabulary);
    vocabulary_free(vocabulary);
}

static void test_generation_never_allocates_while_it_runs(void **state)
{
    (void)state;
    struct vocabulary *vocabulary = vocabulary_of(characters);
    const struct generation_request request = full_request();
    struct generation generation;
    generation_begin(&generation, vocabulary, &request);
    fail_allocation(1);
    for (uint32_t i = 0; !generation_done(&generation); i++) generation_play(&generation, i % 5);
    assert_false(fail_allocation_done());
    generation_close(&generation);
    vocabulary_free(vocabulary);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_generation_that_ignores_eos_never_ends_early),
        cmocka_unit_test(test_generation_never_continues_with_pad_unknown_or_a_label),
        cmocka_unit_test(test_generation_penalties_see_prompt_and_completion_but_not_eos),
        cmocka_unit_test(test_generation_finds_the_tokens_of_biases),
        cmocka_unit_test(test_generation_records_the_models_own_distribution),
        cmocka_unit_test(test_generation_draws_the_same_with_and_without_logprobs),
        cmocka_unit_test(test_generation_that_continues_a_session_steps_as_one_long_one),
        cmocka_unit_test(test_generation_from_a_cached_state_gives_the_same_text),
        cmocka_unit_test(test_generation_puts_a_space_between_the_words_of_a_session),
        cmocka_unit_test(test_generation_seeds_follow_each_other),
        cmocka_unit_test(test_generation_names_the_field_that_is_wrong),
        cmocka_unit_test(test_generation_options_survive_failing_allocations),
        cmocka_unit_test(test_generation_never_allocates_while_it_runs),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
