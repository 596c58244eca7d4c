/* model/train/learner: the same seed and threads give the same bits. A resume goes on bit for bit. The reset token
 * resets the state. A loss that is not finite updates nothing. */
#include <float.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/rng.h"
#include "base/subnormals.h"
#include "model/train/learner.h"
#include "tests/unit/support.h"

enum { B = 5, T = 7, V = 13, STEPS = 6 };

static const struct learner_options plain = {
    .batch = B,
    .window = T,
    .threads = 1,
    .seed = 3,
    .reset_token = 0,
    .optimizer = {.kind = OPTIMIZER_ADAM, .beta1 = 0.9, .beta2 = 0.999, .epsilon = 1e-8, .clip = 1},
};

struct trial {
    struct network network;
    struct learner *learner;
    uint32_t inputs[T * B], targets[T * B];
};

static void trial_open(struct trial *trial, enum cell_kind cell, uint32_t embedding,
                       const struct learner_options *options)
{
    const struct architecture a = {
        .cell = cell, .layers = 2, .hidden_size = 21, .embedding_size = embedding, .vocabulary_size = V};
    struct error err = {0};
    assert_true(network_open(&trial->network, &a, &err));
    assert_true(network_initialise(&trial->network, 11, &err));
    trial->learner = learner_new(&trial->network, options, &err);
    assert_non_null(trial->learner);
}

static void trial_close(struct trial *trial)
{
    learner_free(trial->learner);
    network_close(&trial->network);
}

/* The window of step i: the same for every caller. */
static void trial_fill_window(struct trial *trial, uint64_t i)
{
    struct rng rng;
    rng_seed(&rng, 99, i);
    for (size_t j = 0; j < T * B; j++) {
        trial->inputs[j] = (uint32_t)rng_below(&rng, V);
        trial->targets[j] = (uint32_t)rng_below(&rng, V);
    }
}

static double trial_train(struct trial *trial, uint64_t from, uint64_t to)
{
    struct learner_result result = {0};
    for (uint64_t i = from; i < to; i++) {
        trial_fill_window(trial, i);
        learner_step(trial->learner, i % 3 == 2 ? T - 2 : T, trial->inputs, trial->targets, 1e-2, &result);
        assert_true(result.finite);
    }
    return result.loss;
}

static void assert_same_parameters(const struct trial *a, const struct trial *b)
{
    assert_memory_equal(a->network.parameters, b->network.parameters, a->network.parameter_count * sizeof(float));
}

static void test_learner_same_seed_and_threads_give_the_same_bits(void **state)
{
    (void)state;
    struct learner_options options = plain;
    options.dropout = 0.3;
    for (options.threads = 1; options.threads <= 3; options.threads++) {
        struct trial a, b;
        trial_open(&a, CELL_LSTM, 0, &options);
        trial_open(&b, CELL_LSTM, 0, &options);
        trial_train(&a, 0, STEPS);
        trial_train(&b, 0, STEPS);
        assert_same_parameters(&a, &b);
        trial_close(&a);
        trial_close(&b);
    }
}

/* Another number of threads changes the order of summation and nothing else: dropout masks are the same. */
static void test_learner_threads_differ_by_rounding_alone(void **state)
{
    (void)state;
    struct learner_options options = plain;
    options.dropout = 0.5;
    options.optimizer.kind = OPTIMIZER_SGD;
    struct trial one, three;
    trial_open(&one, CELL_GRU, 9, &options);
    options.threads = 3;
    trial_open(&three, CELL_GRU, 9, &options);
    assert_int_equal(learner_threads(three.learner), 3);
    trial_train(&one, 0, STEPS);
    trial_train(&three, 0, STEPS);
    for (size_t i = 0; i < one.network.parameter_count; i++)
        assert_true(fabsf(one.network.parameters[i] - three.network.parameters[i]) < 1e-5f);
    trial_close(&one);
    trial_close(&three);
}

static void check_resume(const struct learner_options *options, enum cell_kind cell)
{
    struct trial whole, first, second;
    trial_open(&whole, cell, 0, options);
    trial_open(&first, cell, 0, options);
    trial_open(&second, cell, 0, options);
    trial_train(&whole, 0, STEPS);
    trial_train(&first, 0, STEPS / 2);

    memcpy(second.network.parameters, first.network.parameters, first.network.parameter_count * sizeof(float));
    memcpy(learner_state(second.learner), learner_state(first.learner),
           learner_state_size(first.learner) * sizeof(float));
    memcpy(learner_moments(second.learner), learner_moments(first.learner),
           optimizer_moments(options->optimizer.kind) * first.network.parameter_count * sizeof(float));
    learner_set_step_count(second.learner, learner_step_count(first.learner));
    learner_refresh(second.learner);
    trial_train(&second, STEPS / 2, STEPS);
    assert_same_parameters(&whole, &second);
    trial_close(&whole);
    trial_close(&first);
    trial_close(&second);
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

/* A lower rate leaves the moments as they are. The step is shorter and has the same direction. */
static void test_learner_moments_do_not_depend_on_the_rate(void **state)
{
    (void)state;
    static const enum optimizer_kind kinds[] = {OPTIMIZER_RMSPROP, OPTIMIZER_ADAM};
    for (size_t k = 0; k < sizeof kinds / sizeof kinds[0]; k++) {
        struct learner_options options = plain;
        options.optimizer.kind = kinds[k];
        options.optimizer.decay = 0.9;
        struct trial a, b;
        struct learner_result result;
        trial_open(&a, CELL_LSTM, 0, &options);
        trial_open(&b, CELL_LSTM, 0, &options);
        trial_train(&a, 0, STEPS);
        trial_train(&b, 0, STEPS);
        const size_t n = a.network.parameter_count;
        float *before = malloc(n * sizeof *before);
        assert_non_null(before);
        memcpy(before, a.network.parameters, n * sizeof *before);
        trial_fill_window(&a, STEPS);
        learner_step(a.learner, T, a.inputs, a.targets, 1e-2, &result);
        learner_step(b.learner, T, a.inputs, a.targets, 1e-3, &result);
        assert_memory_equal(learner_moments(a.learner), learner_moments(b.learner),
                            optimizer_moments(kinds[k]) * n * sizeof(float));
        for (size_t i = 0; i < n; i++) {
            const float far = a.network.parameters[i] - before[i], near = b.network.parameters[i] - before[i];
            assert_true(fabsf(near - 0.1f * far) < 1e-6f);
        }
        free(before);
        trial_close(&a);
        trial_close(&b);
    }
}

/* Adds the weights up after every step, as the formula in learner.h says. */
static void test_learner_average_is_the_weighted_mean_of_the_weights_so_far(void **state)
{
    (void)state;
    struct learner_options options = plain;
    options.average = 0.8;
    for (options.threads = 1; options.threads <= 3; options.threads += 2) {
        struct trial trial;
        trial_open(&trial, CELL_LSTM, 9, &options);
        const size_t n = trial.network.parameter_count;
        double *sums = calloc(n, sizeof *sums), weight = 0;
        assert_non_null(sums);
        for (uint64_t i = 0; i < STEPS; i++) {
            trial_train(&trial, i, i + 1);
            weight = options.average * weight + 1;
            for (size_t j = 0; j < n; j++) sums[j] = options.average * sums[j] + (double)trial.network.parameters[j];
            const float *average = learner_average(trial.learner)->parameters;
            if (i == 0) assert_memory_equal(average, trial.network.parameters, n * sizeof(float));
            for (size_t j = 0; j < n; j++) assert_true(fabs((double)average[j] - sums[j] / weight) < 1e-6);
        }
        free(sums);
        trial_close(&trial);
    }
}

static void test_learner_average_does_not_touch_the_training(void **state)
{
    (void)state;
    struct learner_options options = plain;
    struct trial without, with;
    trial_open(&without, CELL_GRU, 0, &options);
    options.average = 0.9;
    trial_open(&with, CELL_GRU, 0, &options);
    trial_train(&without, 0, STEPS);
    trial_train(&with, 0, STEPS);
    assert_same_parameters(&without, &with);
    assert_null(learner_average(without.learner));
    trial_close(&without);
    trial_close(&with);
}

/* The reset token makes a stream forget: the logits after it are those of a stream that begins there. */
static void test_learner_reset_token_forgets_what_came_before(void **state)
{
    (void)state;
    static const enum cell_kind cells[] = {CELL_LSTM, CELL_GRU, CELL_RNN};
    for (size_t c = 0; c < 3; c++) {
        struct trial used, fresh;
        static float a[T * B * V], b[T * B * V];
        double loss;
        trial_open(&used, cells[c], 0, &plain);
        trial_open(&fresh, cells[c], 0, &plain);
        trial_fill_window(&used, 0);
        learner_logits(used.learner, T, used.inputs, used.targets, a, &loss);
        trial_fill_window(&used, 1);
        for (size_t s = 0; s < B; s++) used.inputs[s] = 0;
        learner_logits(used.learner, T, used.inputs, used.targets, a, &loss);
        learner_logits(fresh.learner, T, used.inputs, used.targets, b, &loss);
        assert_memory_equal(a, b, sizeof a);
        used.inputs[0] = 1;
        learner_reset_state(fresh.learner);
        learner_logits(fresh.learner, T, used.inputs, used.targets, b, &loss);
        assert_memory_not_equal(a, b, sizeof a);
        trial_close(&used);
        trial_close(&fresh);
    }
}

static void test_learner_updates_nothing_where_the_loss_is_not_finite(void **state)
{
    (void)state;
    struct trial trial;
    struct learner_result result;
    trial_open(&trial, CELL_LSTM, 0, &plain);
    trial.network.output_bias[2] = NAN;
    learner_refresh(trial.learner);
    float *before = malloc(trial.network.parameter_count * sizeof(float));
    assert_non_null(before);
    memcpy(before, trial.network.parameters, trial.network.parameter_count * sizeof(float));
    trial_fill_window(&trial, 0);
    learner_step(trial.learner, T, trial.inputs, trial.targets, 1e-2, &result);
    assert_false(result.finite);
    assert_int_equal(learner_step_count(trial.learner), 0);
    assert_memory_equal(before, trial.network.parameters, trial.network.parameter_count * sizeof(float));
    free(before);
    trial_close(&trial);
}

static void test_learner_loss_falls_on_a_repeated_window(void **state)
{
    (void)state;
    static const enum cell_kind cells[] = {CELL_LSTM, CELL_GRU, CELL_RNN};
    for (size_t c = 0; c < 3; c++) {
        struct trial trial;
        struct learner_result first, result = {0};
        trial_open(&trial, cells[c], 16, &plain);
        trial_fill_window(&trial, 0);
        learner_step(trial.learner, T, trial.inputs, trial.targets, 1e-2, &first);
        assert_true(fabs(first.loss - log(V)) < 0.5);
        for (int i = 0; i < 200; i++) {
            learner_reset_state(trial.learner);
            learner_step(trial.learner, T, trial.inputs, trial.targets, 1e-2, &result);
        }
        assert_true(result.loss < 0.3);
        trial_close(&trial);
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
    struct trial trial;
    struct error err = {0};
    assert_true(network_open(&trial.network, &a, &err));
    assert_null(learner_new(&trial.network, &options, &err));
    assert_int_equal(err.code, ERROR_TOO_LARGE);
    network_close(&trial.network);
}

/* Tells whether this processor obeys when told to take subnormals as zero. Emulators may not. */
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

/* The target is nearly certain, so gradients, and their squares far more, come close to zero. */
static void test_learner_computes_no_subnormals_and_leaves_the_thread_its_mode(void **state)
{
    (void)state;
    if (!flushes_subnormals()) skip();
    for (size_t threads = 1; threads <= 2; threads++) {
        struct learner_options options = plain;
        struct trial trial;
        struct learner_result result;
        options.threads = threads;
        trial_open(&trial, CELL_LSTM, 0, &options);
        const size_t n = trial.network.parameter_count;
        trial.network.output_bias[3] = 46; /* a loss of about 1e-20 */
        learner_refresh(trial.learner);
        for (size_t i = 0; i < T * B; i++) trial.inputs[i] = trial.targets[i] = 3;
        learner_step(trial.learner, T, trial.inputs, trial.targets, 1e-3, &result);
        assert_true(result.finite);
        const float *moments = learner_moments(trial.learner);
        size_t others = 0;
        for (size_t i = 0; i < n; i++) others += moments[i] != 0 && moments[n + i] == 0;
        assert_true(others > 0); /* gradients whose squares are too small for what is left */
        assert_int_equal(count_subnormals(moments, 2 * n), 0);
        assert_int_equal(count_subnormals(trial.network.parameters, n), 0);
        volatile float small = FLT_MIN;
        small *= 0.5f;
        assert_int_equal(fpclassify(small), FP_SUBNORMAL);
        trial_close(&trial);
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
