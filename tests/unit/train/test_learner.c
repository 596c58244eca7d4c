/* The learner's promises: same seed and threads, same bits; resuming; resets; nothing updated by what is not finite. */
#include <float.h>
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/rng.h"
#include "base/subnormals.h"
#include "model/train/learner.h"

enum { B = 5, T = 7, V = 13, STEPS = 6 };

static const struct learner_options plain = {
    .batch = B,
    .window = T,
    .threads = 1,
    .seed = 3,
    .reset_token = 0,
    .optimizer = {.kind = OPTIMIZER_ADAM, .beta1 = 0.9, .beta2 = 0.999, .epsilon = 1e-8, .clip = 1},
};

struct bench {
    struct network network;
    struct learner *learner;
    uint32_t inputs[T * B], targets[T * B];
};

static void open_bench(struct bench *bench, enum cell_kind cell, uint32_t embedding,
                       const struct learner_options *options)
{
    const struct architecture a = {
        .cell = cell, .layers = 2, .hidden_size = 21, .embedding_size = embedding, .vocabulary_size = V};
    struct error err = {0};
    assert_true(network_open(&bench->network, &a, &err));
    assert_true(network_initialise(&bench->network, 11, &err));
    bench->learner = learner_new(&bench->network, options, &err);
    assert_non_null(bench->learner);
}

static void close_bench(struct bench *bench)
{
    learner_free(bench->learner);
    network_close(&bench->network);
}

/* The window of step i: the same for every caller. */
static void fill_window(struct bench *bench, uint64_t i)
{
    struct rng rng;
    rng_seed(&rng, 99, i);
    for (size_t j = 0; j < T * B; j++) {
        bench->inputs[j] = (uint32_t)rng_below(&rng, V);
        bench->targets[j] = (uint32_t)rng_below(&rng, V);
    }
}

static double train(struct bench *bench, uint64_t from, uint64_t to)
{
    struct learner_result result = {0};
    for (uint64_t i = from; i < to; i++) {
        fill_window(bench, i);
        learner_step(bench->learner, i % 3 == 2 ? T - 2 : T, bench->inputs, bench->targets, 1e-2, &result);
        assert_true(result.finite);
    }
    return result.loss;
}

static void assert_same_parameters(const struct bench *a, const struct bench *b)
{
    assert_memory_equal(a->network.parameters, b->network.parameters, a->network.parameter_count * sizeof(float));
}

static void test_learner_same_seed_and_threads_give_the_same_bits(void **state)
{
    (void)state;
    struct learner_options options = plain;
    options.dropout = 0.3;
    for (options.threads = 1; options.threads <= 3; options.threads++) {
        struct bench a, b;
        open_bench(&a, CELL_LSTM, 0, &options);
        open_bench(&b, CELL_LSTM, 0, &options);
        train(&a, 0, STEPS);
        train(&b, 0, STEPS);
        assert_same_parameters(&a, &b);
        close_bench(&a);
        close_bench(&b);
    }
}

/* Another number of threads changes the order of summation and nothing else: dropout masks are the same. */
static void test_learner_threads_differ_by_rounding_alone(void **state)
{
    (void)state;
    struct learner_options options = plain;
    options.dropout = 0.5;
    options.optimizer.kind = OPTIMIZER_SGD;
    struct bench one, three;
    open_bench(&one, CELL_GRU, 9, &options);
    options.threads = 3;
    open_bench(&three, CELL_GRU, 9, &options);
    assert_int_equal(learner_threads(three.learner), 3);
    train(&one, 0, STEPS);
    train(&three, 0, STEPS);
    for (size_t i = 0; i < one.network.parameter_count; i++)
        assert_true(fabsf(one.network.parameters[i] - three.network.parameters[i]) < 1e-5f);
    close_bench(&one);
    close_bench(&three);
}

static void check_resume(const struct learner_options *options, enum cell_kind cell)
{
    struct bench whole, first, second;
    open_bench(&whole, cell, 0, options);
    open_bench(&first, cell, 0, options);
    open_bench(&second, cell, 0, options);
    train(&whole, 0, STEPS);
    train(&first, 0, STEPS / 2);

    memcpy(second.network.parameters, first.network.parameters, first.network.parameter_count * sizeof(float));
    memcpy(learner_state(second.learner), learner_state(first.learner),
           learner_state_size(first.learner) * sizeof(float));
    memcpy(learner_moments(second.learner), learner_moments(first.learner),
           optimizer_moments(options->optimizer.kind) * first.network.parameter_count * sizeof(float));
    learner_set_step_count(second.learner, learner_step_count(first.learner));
    learner_refresh(second.learner);
    train(&second, STEPS / 2, STEPS);
    assert_same_parameters(&whole, &second);
    close_bench(&whole);
    close_bench(&first);
    close_bench(&second);
}

static void test_learner_resumes_bit_for_bit(void **state)
{
    (void)state;
    static const enum optimizer_kind kinds[] = {OPTIMIZER_RMSPROP, OPTIMIZER_ADAM, OPTIMIZER_ADAMW, OPTIMIZER_SGD};
    for (size_t i = 0; i < sizeof kinds / sizeof kinds[0]; i++) {
        struct learner_options options = plain;
        options.dropout = 0.2;
        options.threads = 1 + i % 2;
        options.optimizer = (struct optimizer_options){.kind = kinds[i],
                                                       .momentum = 0.9,
                                                       .decay = 0.9,
                                                       .beta1 = 0.9,
                                                       .beta2 = 0.99,
                                                       .epsilon = 1e-7,
                                                       .weight_decay = 0.01,
                                                       .clip = 0.5};
        check_resume(&options, i % 3 == 0 ? CELL_LSTM : i % 3 == 1 ? CELL_GRU : CELL_RNN);
    }
}

/* A schedule that lowers the rate leaves the moments as they are: the step is shorter, and goes the same way. */
static void test_learner_moments_do_not_depend_on_the_rate(void **state)
{
    (void)state;
    static const enum optimizer_kind kinds[] = {OPTIMIZER_RMSPROP, OPTIMIZER_ADAM};
    for (size_t k = 0; k < sizeof kinds / sizeof kinds[0]; k++) {
        struct learner_options options = plain;
        options.optimizer.kind = kinds[k];
        options.optimizer.decay = 0.9;
        struct bench a, b;
        struct learner_result result;
        open_bench(&a, CELL_LSTM, 0, &options);
        open_bench(&b, CELL_LSTM, 0, &options);
        train(&a, 0, STEPS);
        train(&b, 0, STEPS);
        const size_t n = a.network.parameter_count;
        float *before = malloc(n * sizeof *before);
        assert_non_null(before);
        memcpy(before, a.network.parameters, n * sizeof *before);
        fill_window(&a, STEPS);
        learner_step(a.learner, T, a.inputs, a.targets, 1e-2, &result);
        learner_step(b.learner, T, a.inputs, a.targets, 1e-3, &result);
        assert_memory_equal(learner_moments(a.learner), learner_moments(b.learner),
                            optimizer_moments(kinds[k]) * n * sizeof(float));
        for (size_t i = 0; i < n; i++) {
            const float far = a.network.parameters[i] - before[i], near = b.network.parameters[i] - before[i];
            assert_true(fabsf(near - 0.1f * far) < 1e-6f);
        }
        free(before);
        close_bench(&a);
        close_bench(&b);
    }
}

/* The sum as it is written in the header, over the weights after every step. */
static void test_learner_average_is_the_weighted_mean_of_the_weights_so_far(void **state)
{
    (void)state;
    struct learner_options options = plain;
    options.average = 0.8;
    for (options.threads = 1; options.threads <= 3; options.threads += 2) {
        struct bench bench;
        open_bench(&bench, CELL_LSTM, 9, &options);
        const size_t n = bench.network.parameter_count;
        double *sums = calloc(n, sizeof *sums), weight = 0;
        assert_non_null(sums);
        for (uint64_t i = 0; i < STEPS; i++) {
            train(&bench, i, i + 1);
            weight = options.average * weight + 1;
            for (size_t j = 0; j < n; j++) sums[j] = options.average * sums[j] + (double)bench.network.parameters[j];
            const float *average = learner_average(bench.learner)->parameters;
            if (i == 0) assert_memory_equal(average, bench.network.parameters, n * sizeof(float));
            for (size_t j = 0; j < n; j++) assert_true(fabs((double)average[j] - sums[j] / weight) < 1e-6);
        }
        free(sums);
        close_bench(&bench);
    }
}

static void test_learner_average_does_not_touch_the_training(void **state)
{
    (void)state;
    struct learner_options options = plain;
    struct bench without, with;
    open_bench(&without, CELL_GRU, 0, &options);
    options.average = 0.9;
    open_bench(&with, CELL_GRU, 0, &options);
    train(&without, 0, STEPS);
    train(&with, 0, STEPS);
    assert_same_parameters(&without, &with);
    assert_null(learner_average(without.learner));
    close_bench(&without);
    close_bench(&with);
}

/* The reset token makes a stream forget: the logits after it are those of a stream that begins there. */
static void test_learner_reset_token_forgets_what_came_before(void **state)
{
    (void)state;
    static const enum cell_kind cells[] = {CELL_LSTM, CELL_GRU, CELL_RNN};
    for (size_t c = 0; c < 3; c++) {
        struct bench used, fresh;
        static float a[T * B * V], b[T * B * V];
        double loss;
        open_bench(&used, cells[c], 0, &plain);
        open_bench(&fresh, cells[c], 0, &plain);
        fill_window(&used, 0);
        learner_logits(used.learner, T, used.inputs, used.targets, a, &loss);
        fill_window(&used, 1);
        for (size_t s = 0; s < B; s++) used.inputs[s] = 0;
        learner_logits(used.learner, T, used.inputs, used.targets, a, &loss);
        learner_logits(fresh.learner, T, used.inputs, used.targets, b, &loss);
        assert_memory_equal(a, b, sizeof a);
        used.inputs[0] = 1;
        learner_reset_state(fresh.learner);
        learner_logits(fresh.learner, T, used.inputs, used.targets, b, &loss);
        assert_memory_not_equal(a, b, sizeof a);
        close_bench(&used);
        close_bench(&fresh);
    }
}

static void test_learner_updates_nothing_where_the_loss_is_not_finite(void **state)
{
    (void)state;
    struct bench bench;
    struct learner_result result;
    open_bench(&bench, CELL_LSTM, 0, &plain);
    bench.network.output_bias[2] = NAN;
    learner_refresh(bench.learner);
    float *before = malloc(bench.network.parameter_count * sizeof(float));
    assert_non_null(before);
    memcpy(before, bench.network.parameters, bench.network.parameter_count * sizeof(float));
    fill_window(&bench, 0);
    learner_step(bench.learner, T, bench.inputs, bench.targets, 1e-2, &result);
    assert_false(result.finite);
    assert_int_equal(learner_step_count(bench.learner), 0);
    assert_memory_equal(before, bench.network.parameters, bench.network.parameter_count * sizeof(float));
    free(before);
    close_bench(&bench);
}

static void test_learner_loss_falls_on_a_repeated_window(void **state)
{
    (void)state;
    static const enum cell_kind cells[] = {CELL_LSTM, CELL_GRU, CELL_RNN};
    for (size_t c = 0; c < 3; c++) {
        struct bench bench;
        struct learner_result first, result = {0};
        open_bench(&bench, cells[c], 16, &plain);
        fill_window(&bench, 0);
        learner_step(bench.learner, T, bench.inputs, bench.targets, 1e-2, &first);
        assert_true(fabs(first.loss - log(V)) < 0.5);
        for (int i = 0; i < 200; i++) {
            learner_reset_state(bench.learner);
            learner_step(bench.learner, T, bench.inputs, bench.targets, 1e-2, &result);
        }
        assert_true(result.loss < 0.3);
        close_bench(&bench);
    }
}

static void test_learner_refuses_what_does_not_fit(void **state)
{
    (void)state;
    struct learner_options options = plain;
    struct architecture a = {.cell = CELL_LSTM, .layers = 1, .hidden_size = 128, .vocabulary_size = 84};
    size_t bytes;
    assert_true(learner_bytes(&a, &options, &bytes));
    assert_true(bytes > 119892 * 7 * sizeof(float) && bytes < 16u << 20);
    options.batch = SIZE_MAX / 4;
    assert_false(learner_bytes(&a, &options, &bytes));
    options.batch = (size_t)1 << 40;
    options.window = (size_t)1 << 40;
    struct bench bench;
    struct error err = {0};
    assert_true(network_open(&bench.network, &a, &err));
    assert_null(learner_new(&bench.network, &options, &err));
    assert_int_equal(err.code, ERROR_TOO_LARGE);
    network_close(&bench.network);
}

/* Whether this processor takes subnormals as zero where it is told to; emulators may not. */
static bool flushes_subnormals(void)
{
    const uint64_t mode = subnormals_flush();
    volatile float small = FLT_MIN;
    small *= 0.5f;
    const bool flushes = fpclassify(small) == FP_ZERO;
    subnormals_restore(mode);
    return flushes;
}

static size_t count_subnormals(const float *values, size_t n)
{
    size_t count = 0;
    for (size_t i = 0; i < n; i++) count += fpclassify(values[i]) == FP_SUBNORMAL;
    return count;
}

/* A rate of nothing and a target that is nearly certain: gradients, and far more so their squares, go towards zero. */
static void test_learner_computes_no_subnormals_and_leaves_the_thread_its_mode(void **state)
{
    (void)state;
    if (!flushes_subnormals()) skip();
    for (size_t threads = 1; threads <= 2; threads++) {
        struct learner_options options = plain;
        struct bench bench;
        struct learner_result result;
        options.threads = threads;
        open_bench(&bench, CELL_LSTM, 0, &options);
        const size_t n = bench.network.parameter_count;
        bench.network.output_bias[3] = 46; /* a loss of about 1e-20 */
        learner_refresh(bench.learner);
        for (size_t i = 0; i < T * B; i++) bench.inputs[i] = bench.targets[i] = 3;
        learner_step(bench.learner, T, bench.inputs, bench.targets, 1e-3, &result);
        assert_true(result.finite);
        const float *moments = learner_moments(bench.learner);
        size_t others = 0;
        for (size_t i = 0; i < n; i++) others += moments[i] != 0 && moments[n + i] == 0;
        assert_true(others > 0); /* gradients whose squares are too small for what is left */
        assert_int_equal(count_subnormals(moments, 2 * n), 0);
        assert_int_equal(count_subnormals(bench.network.parameters, n), 0);
        volatile float small = FLT_MIN;
        small *= 0.5f;
        assert_int_equal(fpclassify(small), FP_SUBNORMAL);
        close_bench(&bench);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_learner_same_seed_and_threads_give_the_same_bits),
        cmocka_unit_test(test_learner_threads_differ_by_rounding_alone),
        cmocka_unit_test(test_learner_resumes_bit_for_bit),
        cmocka_unit_test(test_learner_average_is_the_weighted_mean_of_the_weights_so_far),
        cmocka_unit_test(test_learner_average_does_not_touch_the_training),
        cmocka_unit_test(test_learner_computes_no_subnormals_and_leaves_the_thread_its_mode),
        cmocka_unit_test(test_learner_moments_do_not_depend_on_the_rate),
        cmocka_unit_test(test_learner_reset_token_forgets_what_came_before),
        cmocka_unit_test(test_learner_updates_nothing_where_the_loss_is_not_finite),
        cmocka_unit_test(test_learner_loss_falls_on_a_repeated_window),
        cmocka_unit_test(test_learner_refuses_what_does_not_fit),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
