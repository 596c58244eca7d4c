/* Generations with a network: windows, seeds, emitted texts, and texts alone and in a batch. */
#include <math.h>
#include <string.h>

#include "base/utf8.h"
#include "tests/unit/generate/generate_support.h"
#include "tests/unit/network/reference.h"

#define CHARACTERS                                                                                                     \
    "\"level\": \"char\", \"tokens\": [\"<eos>\", \"a\", \"b\", \"\xC3\xA9\", \" \", \"News\", \"Sport\"]"

static const char labelled[] = "{" CHARACTERS ", \"eos\": 0, \"pad\": null, \"unknown\": null, \"labels\": [5, 6]}";
static const char without_eos[] = "{\"level\": \"char\", \"tokens\": [\"<pad>\", \"a\", \"b\"], \"eos\": null, "
                                  "\"pad\": 0, \"unknown\": null}";
/* Bytes: the two of U+00E9, and "a". */
static const char bytes[] = "{\"level\": \"byte\", \"tokens\": [\"<eos>\", \"\xC3\x83\", \"\xC2\xA9\", \"a\"], "
                            "\"eos\": 0, \"pad\": null, \"unknown\": null}";

struct rig {
    struct vocabulary *vocabulary;
    struct network network;
    struct stepper stepper;
    char emitted[4096];
    size_t emitted_bytes, stop_at;
    char clean[3 * 4096]; /* what was emitted, each piece cleaned on its own */
    size_t clean_bytes;
};

static void rig_open(struct rig *rig, const char *json)
{
    memset(rig, 0, sizeof *rig);
    rig->vocabulary = vocabulary_of(json);
    rig->stop_at = SIZE_MAX;
    const struct architecture architecture = {
        .cell = CELL_LSTM, .layers = 2, .hidden_size = 24, .vocabulary_size = vocabulary_size(rig->vocabulary)};
    reference_random_network(&rig->network, &architecture, 3, 0.5);
    rig->network.output_bias[0] = -1e30f; /* <eos> all but never comes */
    assert_true(stepper_open(&rig->stepper, &rig->network, kernels_select("auto"), NULL));
}

static void rig_close(struct rig *rig)
{
    stepper_close(&rig->stepper);
    network_close(&rig->network);
    vocabulary_free(rig->vocabulary);
}

static bool collect(void *context, const char *text, size_t n)
{
    struct rig *rig = context;
    assert_true(rig->emitted_bytes + n < sizeof rig->emitted);
    memcpy(rig->emitted + rig->emitted_bytes, text, n);
    rig->emitted_bytes += n;
    rig->emitted[rig->emitted_bytes] = '\0';
    rig->clean_bytes += utf8_sanitize(text, n, rig->clean + rig->clean_bytes);
    return rig->emitted_bytes < rig->stop_at;
}

/* Runs to the end; out has room for the text. */
static void run(struct rig *rig, const char *prompt, double temperature, uint64_t seed, size_t length, char *out)
{
    struct generation_request request = prompt_of(prompt, 5);
    struct generation generation;
    request.sampler.temperature = temperature;
    request.seed = seed;
    request.length = length;
    generation_begin(&generation, rig->vocabulary, &request);
    rig->emitted_bytes = rig->clean_bytes = 0;
    assert_true(generation_run(&generation, &rig->stepper, collect, rig, NULL));
    assert_int_equal(generation.text_bytes, rig->emitted_bytes);
    assert_memory_equal(generation.text, rig->emitted, rig->emitted_bytes);
    memcpy(out, generation.text, generation.text_bytes + 1);
    generation_close(&generation);
}

/* The tokens of a greedy text, each from a window that is fed from the zero state: `pads` times the pad token 0 where
 * the window is not full yet. */
static void predict_greedily(const struct network *network, const char *prompt, size_t window, bool pads, size_t length,
                             char *out)
{
    struct reference reference;
    size_t count = strlen(prompt);
    memcpy(out, prompt, count);
    reference_open(&reference, network);
    for (; length > 0; length--) {
        uint32_t best = 1; /* pad is never a candidate */
        reference_reset(&reference);
        for (size_t i = count; pads && i < window; i++) reference_step(&reference, 0);
        for (size_t i = count > window ? count - window : 0; i < count; i++)
            reference_step(&reference, (uint32_t)(out[i] - 'a' + 1));
        for (uint32_t v = 2; v < network->architecture.vocabulary_size; v++)
            if (reference.logits[v] > reference.logits[best]) best = v;
        out[count++] = (char)('a' + best - 1);
    }
    out[count] = '\0';
    reference_close(&reference);
}

static void test_generation_feeds_a_window_anew_for_every_token(void **state)
{
    (void)state;
    static const char padded[] = "{\"level\": \"char\", \"tokens\": [\"<pad>\", \"a\", \"b\", \"c\", \"d\", \"e\"], "
                                 "\"eos\": null, \"pad\": 0, \"unknown\": null}";
    static const char *const prompts[] = {"a", "abc", "abcde", "eddcbaabcc"};
    struct rig rig;
    rig_open(&rig, padded);
    for (size_t i = 0; i < 4; i++) {
        for (size_t kind = 0; kind < 6; kind++) {
            struct generation generation;
            struct generation_request request = prompt_of(prompts[i], 5);
            char expected[64];
            request.length = 30;
            request.window = (struct token_window){.size = kind % 3 == 0   ? 1
                                                           : kind % 3 == 1 ? 5
                                                                           : 60,
                                                   .masked = kind > 2};
            predict_greedily(&rig.network, prompts[i], request.window.size, !request.window.masked, 30, expected);
            generation_begin(&generation, rig.vocabulary, &request);
            rig.emitted_bytes = rig.clean_bytes = 0;
            assert_true(generation_run(&generation, &rig.stepper, collect, &rig, NULL));
            assert_string_equal(generation.text, expected + strlen(prompts[i]));
            assert_string_equal(rig.emitted, generation.text);
            generation_close(&generation);
        }
    }
    rig_close(&rig);
}

static void test_generation_pads_a_window_until_it_is_full(void **state)
{
    (void)state;
    struct vocabulary *vocabulary = vocabulary_of(without_eos);
    struct generation_request request = prompt_of("ab", 5);
    struct generation generation;
    static const uint32_t fed[][3] = {{0, 1, 2}, {1, 2, 1}, {2, 1, 1}};
    request.window.size = 3;
    generation_begin(&generation, vocabulary, &request);
    for (size_t i = 0; i < 9; i++) {
        assert_int_equal(generation_token(&generation), fed[i / 3][i % 3]);
        assert_int_equal(generation_resets(&generation), i % 3 == 0);
        assert_int_equal(generation_wants_logits(&generation), i % 3 == 2);
        generation_play(&generation, 1);
    }
    assert_int_equal(generation.produced, 3);
    generation_close(&generation);
    vocabulary_free(vocabulary);
}

static void test_generation_window_without_pad_token_is_fed_as_it_is(void **state)
{
    (void)state;
    const struct token_window window = {.size = 3};
    struct vocabulary *vocabulary = vocabulary_of(labelled);
    struct generation_request request = prompt_of("ab", 5);
    struct generation generation;
    request.window = window;
    generation_begin(&generation, vocabulary, &request);
    assert_false(generation_resets(&generation)); /* <eos> a b: the window is full, and begins with the text */
    for (size_t i = 0; i < 3; i++) {
        assert_int_equal(generation_token(&generation), i);
        assert_int_equal(generation_wants_logits(&generation), i == 2);
        generation_play(&generation, 3);
    }
    assert_true(generation_resets(&generation));
    const uint32_t second[] = {1, 2, 3};
    for (size_t i = 0; i < 3; i++) {
        assert_int_equal(generation_token(&generation), second[i]);
        assert_int_equal(generation_resets(&generation), i == 0);
        generation_play(&generation, 3);
    }
    assert_int_equal(generation.produced, 2);
    generation_close(&generation);
    vocabulary_free(vocabulary);
}

static void test_generation_same_seed_gives_the_same_text(void **state)
{
    (void)state;
    struct rig rig;
    char first[1000], second[1000], other[1000];
    rig_open(&rig, labelled);
    run(&rig, "ab a", 0.9, 17, 200, first);
    run(&rig, "ab a", 0.9, 17, 200, second);
    run(&rig, "ab a", 0.9, 18, 200, other);
    assert_string_equal(first, second);
    assert_string_not_equal(first, other);
    run(&rig, "ab a", 0, 1, 200, first);
    run(&rig, "ab a", 0, 2, 200, second);
    assert_string_equal(first, second);
    rig_close(&rig);
}

static void test_generation_runs_at_any_temperature(void **state)
{
    (void)state;
    const double temperatures[] = {0, -0.0, 1e-300, 0.01, 0.1, 1, 10, 100};
    struct rig rig;
    char text[1000], greedy[1000];
    rig_open(&rig, labelled);
    run(&rig, "a", 0, 5, 100, greedy);
    for (size_t i = 0; i < sizeof temperatures / sizeof temperatures[0]; i++) {
        run(&rig, "a", temperatures[i], 5, 100, text);
        assert_int_equal(utf8_count(text, strlen(text)), 100);
        if (temperatures[i] < 0.001) assert_string_equal(text, greedy);
    }
    rig_close(&rig);
}

static void test_generation_emits_whole_characters_of_a_byte_level_model(void **state)
{
    (void)state;
    struct rig rig;
    char text[1000], whole[3000];
    rig_open(&rig, bytes);
    for (uint64_t seed = 0; seed < 20; seed++) {
        run(&rig, "\xC3\xA9", 1, seed, 100, text);
        assert_int_equal(strlen(text), 100);
        assert_int_equal(utf8_sanitize(text, 100, whole), rig.clean_bytes);
        assert_memory_equal(whole, rig.clean, rig.clean_bytes);
        assert_non_null(memmem(whole, rig.clean_bytes, "\xC3\xA9", 2));
    }
    rig_close(&rig);
}

static void test_generation_stops_when_the_receiver_has_enough(void **state)
{
    (void)state;
    struct rig rig;
    struct generation generation;
    struct error err = {0};
    struct generation_request request = prompt_of("a", 5);
    request.length = 1000;
    rig_open(&rig, labelled);
    rig.stop_at = 10;
    generation_begin(&generation, rig.vocabulary, &request);
    assert_false(generation_run(&generation, &rig.stepper, collect, &rig, &err));
    assert_int_equal(err.code, ERROR_CANCELLED);
    assert_true(generation.produced <= 10);
    generation_close(&generation);
    rig_close(&rig);
}

static void test_generation_reads_a_prompt_for_its_logits(void **state)
{
    (void)state;
    struct rig rig;
    struct generation generation;
    struct reference reference;
    struct generation_request request = prompt_of("ab \xC3\xA9", 5);
    float logits[16];
    rig_open(&rig, labelled);
    request.label = "News";
    generation_begin(&generation, rig.vocabulary, &request);
    assert_true(generation_read_prompt(&generation, &rig.stepper, logits, NULL));
    reference_open(&reference, &rig.network);
    for (size_t i = 0; i < generation.prompt.count; i++) reference_step(&reference, generation.prompt.ids[i]);
    for (size_t v = 1; v < vocabulary_size(rig.vocabulary); v++)
        assert_true(fabs((double)logits[v] - reference.logits[v]) < 1e-5);
    reference_close(&reference);
    generation_close(&generation);
    rig_close(&rig);
}

static bool attempt_generation(void *context, struct error *err)
{
    struct rig *rig = context;
    struct generation generation;
    struct generation_request request = prompt_of("ab~~~a", 5);
    const char *field;
    request.label = "News";
    bool done = generation_open(&generation, rig->vocabulary, &request, &field, err);
    assert_null(field);
    done = done && generation_run(&generation, &rig->stepper, NULL, NULL, err);
    generation_close(&generation);
    return done;
}

static void test_generation_survives_failing_allocations(void **state)
{
    (void)state;
    struct rig rig;
    rig_open(&rig, labelled);
    assert_survives_failing_allocations(attempt_generation, &rig);
    rig_close(&rig);
}

/* The text of each of three generations, stepped together as an engine does. */
static void run_together(struct rig *rig, const char *const *prompts, char out[3][1000])
{
    struct generation generations[3];
    struct step_scratch scratch;
    float states[3][2 * 2 * 32] = {0}, logits[3][16];
    assert_int_equal(rig->stepper.state_size, 2 * 2 * 32);
    assert_true(step_scratch_open(&scratch, &rig->stepper, 3, NULL));
    for (size_t i = 0; i < 3; i++) {
        struct generation_request request = prompt_of(prompts[i], 5);
        request.sampler.temperature = 0.8;
        request.seed = i;
        request.length = 40 + 30 * i;
        generation_begin(&generations[i], rig->vocabulary, &request);
    }
    for (size_t active = 3; active > 0;) {
        uint32_t tokens[3];
        float *state[3], *wanted[3];
        size_t who[3];
        active = 0;
        for (size_t i = 0; i < 3; i++) {
            if (generation_done(&generations[i])) continue;
            who[active] = i;
            tokens[active] = generation_token(&generations[i]);
            state[active] = states[i];
            wanted[active++] = generation_wants_logits(&generations[i]) ? logits[i] : NULL;
        }
        if (active > 0) step(&rig->stepper, &scratch, active, tokens, state, wanted);
        for (size_t a = 0; a < active; a++) generation_advance(&generations[who[a]], wanted[a]);
    }
    for (size_t i = 0; i < 3; i++) {
        memcpy(out[i], generations[i].text, generations[i].text_bytes + 1);
        generation_close(&generations[i]);
    }
    step_scratch_close(&scratch);
}

static void test_generation_gives_the_same_text_alone_and_in_a_batch(void **state)
{
    (void)state;
    const char *const prompts[3] = {"a", "", "b\xC3\xA9 aaab"};
    struct rig rig;
    char together[3][1000], alone[1000];
    rig_open(&rig, labelled);
    run_together(&rig, prompts, together);
    for (size_t i = 0; i < 3; i++) {
        run(&rig, prompts[i], 0.8, i, 40 + 30 * i, alone);
        assert_string_equal(alone, together[i]);
    }
    rig_close(&rig);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_generation_feeds_a_window_anew_for_every_token),
        cmocka_unit_test(test_generation_pads_a_window_until_it_is_full),
        cmocka_unit_test(test_generation_window_without_pad_token_is_fed_as_it_is),
        cmocka_unit_test(test_generation_same_seed_gives_the_same_text),
        cmocka_unit_test(test_generation_runs_at_any_temperature),
        cmocka_unit_test(test_generation_emits_whole_characters_of_a_byte_level_model),
        cmocka_unit_test(test_generation_stops_when_the_receiver_has_enough),
        cmocka_unit_test(test_generation_reads_a_prompt_for_its_logits),
        cmocka_unit_test(test_generation_survives_failing_allocations),
        cmocka_unit_test(test_generation_gives_the_same_text_alone_and_in_a_batch),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
