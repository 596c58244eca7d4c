/* A chain of short generations writes the text of one long generation. Each one starts from the state that the one
 * before wrote as text. This holds for every cell and every format of weights. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdlib.h>
#include <string.h>

#include "model/generate/state_text.h"
#include "model/network/cells.h"
#include "tests/unit/generate/generate_support.h"
#include "tests/unit/network/reference.h"

#define LINKS 24

static const char characters[] = "{\"level\": \"char\", \"tokens\": [\"<eos>\", \"a\", \"b\", \"c\", \" \"], "
                                 "\"eos\": 0, \"pad\": null, \"unknown\": null}";
static const char words[] = "{\"level\": \"word\", \"tokens\": [\"<eos>\", \"the\", \"cat\", \"sat\", \"on\"], "
                            "\"eos\": 0, \"pad\": null, \"unknown\": null, \"lower\": true, \"filters\": \".,\"}";
static const char no_start[] = "{\"level\": \"char\", \"tokens\": [\"<pad>\", \"a\", \"b\", \"c\", \" \"], "
                               "\"eos\": null, \"pad\": 0, \"unknown\": null}";

struct rig {
    struct vocabulary *vocabulary;
    struct network network;
    struct stepper stepper;
    struct state_owner owner;
    float *start, *end; /* [state_size] */
};

static void rig_open(struct rig *rig, const char *json, enum cell_kind cell, enum kernel_format format)
{
    struct error err = {0};
    memset(rig, 0, sizeof *rig);
    rig->vocabulary = vocabulary_of(json);
    const struct architecture architecture = {.cell = cell,
                                              .layers = 2,
                                              .hidden_size = 24,
                                              .hidden_sizes = {24, 9},
                                              .vocabulary_size = vocabulary_size(rig->vocabulary)};
    reference_random_network(&rig->network, &architecture, 3, 0.5);
    rig->network.output_bias[0] = -1e30f; /* <eos> all but never comes */
    if (!stepper_open_as(&rig->stepper, &rig->network, kernels_select("auto"), format, &err))
        fail_msg("%s", err.message);
    rig->owner =
        (struct state_owner){.model = "m", .stepper = &rig->stepper, .vocabulary_size = architecture.vocabulary_size};
    network_digest(&rig->network, rig->owner.weights);
    rig->start = calloc(rig->stepper.state_size, sizeof(float));
    rig->end = calloc(rig->stepper.state_size, sizeof(float));
}

static void rig_close(struct rig *rig)
{
    free(rig->start);
    free(rig->end);
    stepper_close(&rig->stepper);
    network_close(&rig->network);
    vocabulary_free(rig->vocabulary);
}

/* Appends the completion to `out` and takes the state there and back as text. */
static struct carried_state run_link(struct rig *rig, struct generation_request *request, char *out)
{
    struct generation generation;
    struct error err = {0};
    request->end_state = rig->end;
    request->sampler.temperature = 1;
    generation_begin(&generation, rig->vocabulary, request);
    assert_true(generation_run(&generation, &rig->stepper, NULL, NULL, NULL));
    assert_int_equal(generation.finish, FINISH_LENGTH);
    strcat(out, generation.text);
    const struct carried_state left = generation_carried(&generation);
    generation_close(&generation);
    char *text = malloc(state_text_size(&rig->owner) + 1);
    const size_t n = state_text_write(&rig->owner, &left, text, &err);
    struct carried_state read = {.state = rig->start};
    if (!state_text_read(&rig->owner, text, n, &read, &err)) fail_msg("%s", err.message);
    free(text);
    return read;
}

static void assert_chain_is_one_text(const char *json, const char *prompt, enum cell_kind cell,
                                     enum kernel_format format)
{
    struct rig rig;
    char chain[4096] = "", whole[4096] = "";
    size_t length = 0;
    rig_open(&rig, json, cell, format);
    struct generation_request request = prompt_of(prompt, 1);
    struct carried_state carried = {0};
    for (size_t i = 0; i < LINKS; i++) {
        request.length = 1 + i % 3;
        length += request.length;
        carried = run_link(&rig, &request, chain);
        assert_true(carried.has_rng);
        request = prompt_of("", 1);
        request.seed = 1000 + i; /* nobody looks at it */
        request.continues = true;
        request.pending = carried.pending;
        request.start_state = rig.start;
        request.rng = &carried.rng;
    }
    request = prompt_of(prompt, length);
    run_link(&rig, &request, whole);
    assert_string_equal(chain, whole);
    assert_true(strlen(whole) >= length);
    rig_close(&rig);
}

static void test_carried_chain_is_one_text_for_every_cell_and_format(void **state)
{
    (void)state;
    for (int cell = 0; cell < CELL_COUNT; cell++)
        for (int format = 0; format <= KERNEL_INT8; format++)
            assert_chain_is_one_text(characters, "ab", (enum cell_kind)cell, (enum kernel_format)format);
}

static void test_carried_chain_of_words_keeps_their_spaces(void **state)
{
    (void)state;
    assert_chain_is_one_text(words, "the cat", CELL_LSTM, KERNEL_F32);
    assert_chain_is_one_text(no_start, "a", CELL_LSTM, KERNEL_F32);
}

/* A state that a caller gives as numbers has no pending token. */
static void test_carried_state_without_a_token_is_fed_the_prompt_or_the_start(void **state)
{
    (void)state;
    struct vocabulary *vocabulary = vocabulary_of(characters);
    struct generation generation;
    struct generation_request request = prompt_of("ba", 5);
    request.continues = true;
    request.pending = TOKEN_NONE;
    generation_begin(&generation, vocabulary, &request);
    assert_int_equal(generation.prompt.count, 2);
    assert_int_equal(generation_token(&generation), 2);
    generation_close(&generation);
    request.prompt_bytes = 0;
    generation_begin(&generation, vocabulary, &request);
    assert_int_equal(generation.prompt.count, 1);
    assert_int_equal(generation_token(&generation), 0);
    generation_close(&generation);
    vocabulary_free(vocabulary);

    vocabulary = vocabulary_of(no_start);
    assert_refused(vocabulary, &request, "prompt", ERROR_INVALID, "empty");
    vocabulary_free(vocabulary);
}

/* The seed counts if there is no generator. */
static void test_carried_generator_goes_before_the_seed(void **state)
{
    (void)state;
    struct vocabulary *vocabulary = vocabulary_of(characters);
    struct generation a, b;
    struct generation_request request = prompt_of("a", 5);
    struct rng rng;
    rng_seed(&rng, request.seed, 0);
    generation_begin(&a, vocabulary, &request);
    assert_memory_equal(&a.rng, &rng, sizeof rng);
    rng_next(&rng);
    request.rng = &rng;
    generation_begin(&b, vocabulary, &request);
    assert_memory_equal(&b.rng, &rng, sizeof rng);
    generation_close(&a);
    generation_close(&b);
    vocabulary_free(vocabulary);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_carried_chain_is_one_text_for_every_cell_and_format),
        cmocka_unit_test(test_carried_chain_of_words_keeps_their_spaces),
        cmocka_unit_test(test_carried_state_without_a_token_is_fed_the_prompt_or_the_start),
        cmocka_unit_test(test_carried_generator_goes_before_the_seed),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
