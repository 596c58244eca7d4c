#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <math.h>
#include <string.h>

#include "model/generate/evaluate.h"
#include "tests/unit/network/reference.h"
#include "tests/unit/support.h"

#define V         21
#define DOCUMENTS 57
#define TOKENS    3000

struct rig {
    struct network network;
    struct stepper stepper;
    struct dataset dataset;
    uint32_t tokens[TOKENS];
    size_t starts[DOCUMENTS + 1];
};

/* Documents of 0 to 79 tokens between <eos> (token 0). */
static void make_documents(struct rig *rig)
{
    struct rng rng;
    size_t at = 0;
    rng_seed(&rng, 11, 0);
    for (size_t d = 0; d < DOCUMENTS; d++) {
        const size_t length = d == 3 ? 0 : (size_t)rng_below(&rng, 80);
        rig->starts[d] = at;
        rig->tokens[at++] = 0;
        assert_true(at + length + 1 < TOKENS);
        for (size_t i = 0; i < length; i++) rig->tokens[at++] = 1 + (uint32_t)rng_below(&rng, V - 1);
    }
    rig->starts[DOCUMENTS] = at;
    rig->tokens[at++] = 0;
    rig->dataset = (struct dataset){.tokens = {.data = rig->tokens, .shift = 2},
                                    .token_count = at,
                                    .starts = rig->starts,
                                    .document_count = DOCUMENTS,
                                    .characters = at - 1 - DOCUMENTS};
}

/* The same tokens as one running text. */
static void make_one_stream(struct rig *rig)
{
    for (size_t i = 1; i + 1 < rig->dataset.token_count; i++)
        if (rig->tokens[i] == 0) rig->tokens[i] = 1;
    rig->starts[1] = rig->dataset.token_count - 1;
    rig->dataset.document_count = 1;
    rig->dataset.characters = rig->dataset.token_count - 2;
    rig->dataset.one_stream = true;
}

static void rig_open(struct rig *rig, enum cell_kind cell)
{
    const struct architecture architecture = {.cell = cell, .layers = 2, .hidden_size = 19, .vocabulary_size = V};
    reference_random_network(&rig->network, &architecture, 3, 0.4);
    assert_true(stepper_open(&rig->stepper, &rig->network, kernels_select("auto"), NULL));
    make_documents(rig);
}

static void rig_close(struct rig *rig)
{
    stepper_close(&rig->stepper);
    network_close(&rig->network);
}

static struct evaluation run(const struct rig *rig, struct evaluate_options options)
{
    struct evaluation result;
    struct error err = {0};
    if (!evaluate(&rig->stepper, &rig->dataset, &options, &result, &err)) fail_msg("%s", err.message);
    return result;
}

/* The loss of targets `counted` .. `end`, after reading from `begin` from a zero state. */
static double reference_range(struct reference *reference, const struct dataset *dataset, size_t begin, size_t counted,
                              size_t end, size_t *correct)
{
    double nats = 0;
    reference_reset(reference);
    for (size_t i = begin; i < end; i++) {
        const uint32_t target = tokens_get(&dataset->tokens, i + 1);
        reference_step(reference, tokens_get(&dataset->tokens, i));
        if (i < counted) continue;
        size_t best = 0;
        for (size_t v = 1; v < V; v++)
            if (reference->logits[v] > reference->logits[best]) best = v;
        nats += reference_loss(reference, target);
        *correct += best == target;
    }
    return nats;
}

static void assert_near(double value, double expected)
{
    if (!(fabs(value - expected) <= 1e-5 * fabs(expected))) fail_msg("%.17g is not %.17g", value, expected);
}

static void test_evaluate_matches_the_equations_in_double_precision(void **state)
{
    (void)state;
    for (int cell = CELL_LSTM; cell <= CELL_RNN; cell++) {
        struct rig rig;
        struct reference reference;
        double nats = 0;
        size_t correct = 0;
        rig_open(&rig, (enum cell_kind)cell);
        reference_open(&reference, &rig.network);
        for (size_t d = 0; d < DOCUMENTS; d++)
            nats +=
                reference_range(&reference, &rig.dataset, rig.starts[d], rig.starts[d], rig.starts[d + 1], &correct);
        const struct evaluation result = run(&rig, (struct evaluate_options){0});
        const double tokens = (double)(rig.dataset.token_count - 1);
        assert_int_equal(result.tokens, rig.dataset.token_count - 1);
        assert_int_equal(result.characters, rig.dataset.characters);
        assert_near(result.nats, nats);
        assert_near(result.nats_per_token, nats / tokens);
        assert_near(result.nats_per_character, nats / (double)rig.dataset.characters);
        assert_near(result.bits_per_character, nats / (double)rig.dataset.characters / 0.69314718055994530942);
        assert_near(result.perplexity, exp(nats / tokens));
        assert_near(result.accuracy, (double)correct / tokens);
        reference_close(&reference);
        rig_close(&rig);
    }
}

static void test_evaluate_gives_the_same_bits_for_any_batch_and_threads(void **state)
{
    (void)state;
    struct rig rig;
    rig_open(&rig, CELL_GRU);
    const struct evaluation expected = run(&rig, (struct evaluate_options){.threads = 1, .batch = 1});
    const size_t batches[] = {0, 2, 3, 7, 16, 57, 1000};
    for (size_t i = 0; i < sizeof batches / sizeof batches[0]; i++) {
        for (size_t threads = 0; threads <= 5; threads++) {
            const struct evaluation result =
                run(&rig, (struct evaluate_options){.threads = threads, .batch = batches[i]});
            assert_memory_equal(&result, &expected, sizeof result);
        }
    }
    rig_close(&rig);
}

static void test_evaluate_carries_the_state_through_one_stream(void **state)
{
    (void)state;
    struct rig rig;
    struct reference reference;
    size_t correct = 0;
    rig_open(&rig, CELL_LSTM);
    make_one_stream(&rig);
    reference_open(&reference, &rig.network);
    const size_t targets = rig.dataset.token_count - 1;
    const double nats = reference_range(&reference, &rig.dataset, 0, 0, targets, &correct);
    const struct evaluation exact = run(&rig, (struct evaluate_options){.lanes = 0});
    assert_near(exact.nats, nats);
    const struct evaluation same = run(&rig, (struct evaluate_options){.lanes = 1, .warmup = 9, .threads = 3});
    assert_memory_equal(&exact, &same, sizeof exact);
    reference_close(&reference);
    rig_close(&rig);
}

static void test_evaluate_lanes_warm_up_uncounted_and_count_every_target_once(void **state)
{
    (void)state;
    struct rig rig;
    struct reference reference;
    rig_open(&rig, CELL_LSTM);
    make_one_stream(&rig);
    reference_open(&reference, &rig.network);
    const size_t targets = rig.dataset.token_count - 1, lanes = 7, warmup = 10;
    size_t at = 0, correct = 0;
    double nats = 0;
    for (size_t i = 0; i < lanes; i++) {
        const size_t length = targets / lanes + (i < targets % lanes);
        nats += reference_range(&reference, &rig.dataset, at < warmup ? 0 : at - warmup, at, at + length, &correct);
        at += length;
    }
    assert_int_equal(at, targets);
    const struct evaluation one = run(&rig, (struct evaluate_options){.lanes = lanes, .warmup = warmup});
    assert_int_equal(one.tokens, targets);
    assert_near(one.nats, nats);
    assert_near(one.accuracy, (double)correct / (double)targets);
    const struct evaluation two =
        run(&rig, (struct evaluate_options){.lanes = lanes, .warmup = warmup, .threads = 2, .batch = 3});
    assert_memory_equal(&one, &two, sizeof one);
    reference_close(&reference);
    rig_close(&rig);
}

static void test_evaluate_full_warmup_is_exact_and_more_lanes_than_targets_are_not_used(void **state)
{
    (void)state;
    struct rig rig;
    rig_open(&rig, CELL_LSTM);
    make_one_stream(&rig);
    rig.dataset.token_count = 200;
    rig.starts[1] = 199;
    const struct evaluation exact = run(&rig, (struct evaluate_options){0});
    const struct evaluation lanes = run(&rig, (struct evaluate_options){.lanes = 100000, .warmup = 100000});
    assert_int_equal(lanes.tokens, exact.tokens);
    assert_true(fabs(lanes.nats - exact.nats) <= 1e-12 * exact.nats);
    assert_true(lanes.accuracy == exact.accuracy);
    rig_close(&rig);
}

static void test_evaluate_ignores_lanes_where_there_are_documents(void **state)
{
    (void)state;
    struct rig rig;
    rig_open(&rig, CELL_RNN);
    const struct evaluation plain = run(&rig, (struct evaluate_options){0});
    const struct evaluation lanes = run(&rig, (struct evaluate_options){.lanes = 4, .warmup = 5});
    assert_memory_equal(&plain, &lanes, sizeof plain);
    rig_close(&rig);
}

/* The loss of all targets of a span, each from the window before it; pads: token 1 fills a window that is short. */
static double reference_windows(struct reference *reference, const struct dataset *dataset, size_t begin, size_t end,
                                size_t window, bool pads)
{
    double nats = 0;
    for (size_t i = begin; i < end; i++) {
        const size_t count = i + 1 - begin;
        reference_reset(reference);
        for (size_t k = count; pads && k < window; k++) reference_step(reference, 1);
        for (size_t k = count > window ? i + 1 - window : begin; k <= i; k++)
            reference_step(reference, tokens_get(&dataset->tokens, k));
        nats += reference_loss(reference, tokens_get(&dataset->tokens, i + 1));
    }
    return nats;
}

static void test_evaluate_feeds_windows_anew_for_every_target(void **state)
{
    (void)state;
    for (size_t kind = 0; kind < 4; kind++) {
        const bool pads = kind % 2 == 0, stream = kind >= 2;
        struct rig rig;
        struct reference reference;
        double nats = 0;
        rig_open(&rig, CELL_GRU);
        if (stream) make_one_stream(&rig);
        rig.dataset.pad = 1;
        rig.stepper.architecture.window = (struct token_window){.size = 7, .masked = !pads};
        reference_open(&reference, &rig.network);
        for (size_t d = 0; d < rig.dataset.document_count; d++)
            nats += reference_windows(&reference, &rig.dataset, rig.starts[d], rig.starts[d + 1], 7, pads);
        const struct evaluation one = run(&rig, (struct evaluate_options){0});
        const struct evaluation other = run(&rig, (struct evaluate_options){.threads = 3, .batch = 5});
        assert_int_equal(one.tokens, rig.dataset.token_count - 1);
        assert_near(one.nats, nats);
        assert_true(one.nats == other.nats && one.accuracy == other.accuracy);
        reference_close(&reference);
        rig_close(&rig);
    }
}

/* The same documents, without the <eos> between them. */
static void take_eos_away(struct rig *rig)
{
    size_t at = 0;
    for (size_t d = 0; d < DOCUMENTS; d++) {
        const size_t begin = rig->starts[d] + 1, end = rig->starts[d + 1];
        rig->starts[d] = at;
        memmove(rig->tokens + at, rig->tokens + begin, (end - begin) * sizeof *rig->tokens);
        at += end - begin;
    }
    rig->starts[DOCUMENTS] = rig->dataset.token_count = at;
    rig->dataset.lacks_eos = true;
}

static void test_evaluate_without_eos_counts_no_first_token(void **state)
{
    (void)state;
    struct rig rig;
    struct reference reference;
    size_t correct = 0, targets = 0;
    double nats = 0;
    rig_open(&rig, CELL_LSTM);
    take_eos_away(&rig);
    reference_open(&reference, &rig.network);
    for (size_t d = 0; d < DOCUMENTS; d++) {
        const size_t begin = rig.starts[d], end = rig.starts[d + 1];
        if (end == begin) continue;
        nats += reference_range(&reference, &rig.dataset, begin, begin, end - 1, &correct);
        targets += end - begin - 1;
    }
    const struct evaluation result = run(&rig, (struct evaluate_options){0});
    assert_int_equal(result.tokens, targets);
    assert_near(result.nats, nats);
    reference_close(&reference);
    rig_close(&rig);
}

static void test_evaluate_feeds_no_eos_that_only_ends_texts(void **state)
{
    (void)state;
    struct rig rig;
    struct reference reference;
    size_t correct = 0, targets = 0;
    double nats = 0, windowed = 0;
    rig_open(&rig, CELL_LSTM);
    rig.dataset.eos_only_ends = true;
    reference_open(&reference, &rig.network);
    for (size_t d = 0; d < DOCUMENTS; d++) {
        const size_t begin = rig.starts[d] + 1, end = rig.starts[d + 1];
        nats += reference_range(&reference, &rig.dataset, begin, begin, end, &correct);
        windowed += reference_windows(&reference, &rig.dataset, begin, end, 7, false);
        targets += end - begin;
    }
    const struct evaluation result = run(&rig, (struct evaluate_options){0});
    assert_int_equal(result.tokens, targets);
    assert_near(result.nats, nats);
    rig.stepper.architecture.window = (struct token_window){.size = 7, .masked = true};
    assert_near(run(&rig, (struct evaluate_options){0}).nats, windowed);
    reference_close(&reference);
    rig_close(&rig);
}

static void test_evaluate_begins_a_stream_behind_an_eos_that_only_ends_texts(void **state)
{
    (void)state;
    struct rig rig;
    struct reference reference;
    rig_open(&rig, CELL_GRU);
    make_one_stream(&rig);
    rig.dataset.eos_only_ends = true;
    reference_open(&reference, &rig.network);
    const size_t last = rig.dataset.token_count - 1, lanes = 3, warmup = 10;
    size_t at = 1, correct = 0;
    const double exact = reference_range(&reference, &rig.dataset, 1, 1, last, &correct);
    double nats = 0;
    for (size_t i = 0; i < lanes; i++) {
        const size_t length = (last - 1) / lanes + (i < (last - 1) % lanes);
        nats += reference_range(&reference, &rig.dataset, at < 1 + warmup ? 1 : at - warmup, at, at + length, &correct);
        at += length;
    }
    assert_int_equal(at, last);
    const struct evaluation one = run(&rig, (struct evaluate_options){0});
    assert_int_equal(one.tokens, last - 1);
    assert_near(one.nats, exact);
    assert_near(run(&rig, (struct evaluate_options){.lanes = lanes, .warmup = warmup}).nats, nats);
    rig.stepper.architecture.window = (struct token_window){.size = 7, .masked = true};
    assert_near(run(&rig, (struct evaluate_options){0}).nats,
                reference_windows(&reference, &rig.dataset, 1, last, 7, false));
    reference_close(&reference);
    rig_close(&rig);
}

/* <eos> <eos>: all of the text was skipped. */
static void test_evaluate_refuses_a_stream_of_nothing_where_eos_only_ends_texts(void **state)
{
    (void)state;
    struct rig rig;
    struct evaluation result;
    struct error err = {0};
    rig_open(&rig, CELL_RNN);
    make_one_stream(&rig);
    rig.dataset.eos_only_ends = true;
    rig.dataset.token_count = 2;
    rig.starts[1] = 1;
    assert_false(evaluate(&rig.stepper, &rig.dataset, &(struct evaluate_options){0}, &result, &err));
    assert_int_equal(err.code, ERROR_INVALID);
    rig_close(&rig);
}

static void test_evaluate_refuses_documents_of_one_token_without_eos(void **state)
{
    (void)state;
    struct rig rig;
    struct evaluation result;
    struct error err = {0};
    rig_open(&rig, CELL_RNN);
    rig.dataset.lacks_eos = true;
    rig.dataset.document_count = 2;
    rig.dataset.token_count = rig.dataset.characters = 2;
    rig.starts[0] = 0;
    rig.starts[1] = 1;
    rig.starts[2] = 2;
    assert_false(evaluate(&rig.stepper, &rig.dataset, &(struct evaluate_options){0}, &result, &err));
    assert_int_equal(err.code, ERROR_INVALID);
    rig_close(&rig);
}

static void test_evaluate_stops_when_asked(void **state)
{
    (void)state;
    struct rig rig;
    struct evaluation result;
    struct error err = {0};
    const atomic_bool stop = true;
    rig_open(&rig, CELL_RNN);
    const struct evaluate_options options = {.threads = 2, .stop = &stop};
    assert_false(evaluate(&rig.stepper, &rig.dataset, &options, &result, &err));
    assert_int_equal(err.code, ERROR_CANCELLED);
    rig_close(&rig);
}

static void test_evaluate_refuses_a_dataset_without_text(void **state)
{
    (void)state;
    struct rig rig;
    struct evaluation result;
    struct error err = {0};
    const struct evaluate_options options = {0};
    rig_open(&rig, CELL_RNN);
    rig.dataset.characters = 0;
    assert_false(evaluate(&rig.stepper, &rig.dataset, &options, &result, &err));
    assert_int_equal(err.code, ERROR_INVALID);
    rig.dataset = (struct dataset){0};
    error_clear(&err);
    assert_false(evaluate(&rig.stepper, &rig.dataset, &options, &result, &err));
    assert_int_equal(err.code, ERROR_INVALID);
    rig_close(&rig);
}

static bool attempt_evaluation(void *context, struct error *err)
{
    const struct rig *rig = context;
    struct evaluation result;
    return evaluate(&rig->stepper, &rig->dataset, &(struct evaluate_options){.threads = 3}, &result, err);
}

static void test_evaluate_survives_failing_allocations(void **state)
{
    (void)state;
    struct rig rig;
    rig_open(&rig, CELL_GRU);
    assert_survives_failing_allocations(attempt_evaluation, &rig);
    rig_close(&rig);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_evaluate_matches_the_equations_in_double_precision),
        cmocka_unit_test(test_evaluate_gives_the_same_bits_for_any_batch_and_threads),
        cmocka_unit_test(test_evaluate_carries_the_state_through_one_stream),
        cmocka_unit_test(test_evaluate_lanes_warm_up_uncounted_and_count_every_target_once),
        cmocka_unit_test(test_evaluate_full_warmup_is_exact_and_more_lanes_than_targets_are_not_used),
        cmocka_unit_test(test_evaluate_ignores_lanes_where_there_are_documents),
        cmocka_unit_test(test_evaluate_feeds_windows_anew_for_every_target),
        cmocka_unit_test(test_evaluate_without_eos_counts_no_first_token),
        cmocka_unit_test(test_evaluate_feeds_no_eos_that_only_ends_texts),
        cmocka_unit_test(test_evaluate_begins_a_stream_behind_an_eos_that_only_ends_texts),
        cmocka_unit_test(test_evaluate_refuses_a_stream_of_nothing_where_eos_only_ends_texts),
        cmocka_unit_test(test_evaluate_refuses_documents_of_one_token_without_eos),
        cmocka_unit_test(test_evaluate_stops_when_asked),
        cmocka_unit_test(test_evaluate_survives_failing_allocations),
        cmocka_unit_test(test_evaluate_refuses_a_dataset_without_text),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
