/* cli/bench*: medians, measurements, the work per character, and the protocol of peers. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "cli/bench.h"
#include "cli/bench_limits.h"
#include "cli/bench_peer.h"
#include "cli/bench_tasks.h"

static const struct bench_shape shape = {1, 128, 65, 8, 50};

static struct bench_series series_of(const double *values, size_t count)
{
    struct bench_series series = {.count = 0};
    for (size_t i = 0; i < count; i++) bench_add(&series, values[i]);
    return series;
}

static void test_bench_median_is_the_middle_or_the_mean_of_two(void **state)
{
    (void)state;
    const struct bench_series none = {.count = 0}, odd = series_of((double[]){9, 1, 4}, 3),
                              even = series_of((double[]){9, 1, 4, 2}, 4);
    assert_true(bench_median(&none) == 0);
    assert_true(bench_median(&odd) == 4);
    assert_true(bench_median(&even) == 3);
    assert_true(bench_spread(&none) == 0);
    assert_true(bench_spread(&odd) == 1);
}

static void test_bench_ratio_is_the_median_of_each_turns_ratio(void **state)
{
    (void)state;
    const struct bench_series none = {.count = 0}, own = series_of((double[]){2, 30, 4}, 3),
                              peer = series_of((double[]){1, 10, 8}, 3), broken = series_of((double[]){1, 0}, 2);
    assert_true(bench_ratio(&own, &peer) == 2); /* of 2, 3, 0.5; that of the medians would be 0.5 */
    assert_true(bench_ratio(&own, &broken) == 2);
    assert_true(bench_ratio(&own, &none) == 0);
}

static void test_bench_series_ignores_what_does_not_fit(void **state)
{
    (void)state;
    struct bench_series series = {.count = 0};
    for (size_t i = 0; i < 2 * BENCH_MAX_VALUES; i++) bench_add(&series, i < BENCH_MAX_VALUES ? 1 : 1000);
    assert_int_equal(series.count, BENCH_MAX_VALUES);
    assert_true(bench_median(&series) == 1);
}

static void count_call(void *context, size_t worker)
{
    size_t *calls = context;
    calls[worker]++;
}

static void test_bench_measure_repeats_the_calibrated_count_on_every_worker(void **state)
{
    (void)state;
    size_t calls[2] = {0, 0};
    struct bench_work work = {.once = count_call, .context = calls, .team = team_new(2, NULL), .units = 1};
    assert_true(bench_measure(&work, 1e-3) > 0);
    assert_true(work.count > 0);
    const size_t before = calls[1];
    assert_true(bench_measure(&work, 1e-3) > 0);
    assert_int_equal(calls[1], before + work.count);
    assert_int_equal(calls[0], calls[1]);
    team_free(work.team);
}

static void test_bench_counts_the_operations_of_performance_targets(void **state)
{
    (void)state;
    const struct bench_shape large = {2, 512, 65, 64, 64};
    /* 3 passes of 2 operations per weight that is multiplied; one-hot rows are looked up. */
    assert_true(bench_training_operations(&shape) == 6.0 * (512 * 128 + 65 * 128));
    assert_true(bench_training_operations(&large) == 6.0 * (2048 * 512 + 2048 * 1024 + 65 * 512));
}

static void test_bench_stepping_reads_one_row_of_the_one_hot_weights(void **state)
{
    (void)state;
    static const size_t sizes[] = {[KERNEL_F32] = 4, [KERNEL_BF16] = 2, [KERNEL_INT8] = 1};
    for (size_t format = 0; format < 3; format++) {
        const struct bench_step_shape step_shape = {1, 128, 84, 3, 1, (enum kernel_format)format};
        const size_t scale = format == KERNEL_INT8 ? 4 : 0;
        struct bench_stepping stepping;
        assert_true(bench_stepping_open(&stepping, kernels_select("auto"), &step_shape, NULL));
        assert_int_equal(step_weights_bytes(&stepping.stepper.weights),
                         (512 + 96) * (128 * sizes[format] + 4 + scale)); /* 84 outputs: 6 blocks of 16 */
        assert_true(bench_measure(&stepping.work, 1e-3) > 0);
        for (size_t b = 0; b < 3; b++) assert_true(stepping.lanes[0].tokens[b] < 84);
        bench_stepping_close(&stepping);
    }
}

static void assert_lanes(size_t batch, size_t threads, size_t lanes, size_t batch_of_each)
{
    const struct bench_step_shape step_shape = {1, 16, 20, batch, threads, KERNEL_F32};
    struct bench_stepping stepping;
    assert_true(bench_stepping_open(&stepping, kernels_select("auto"), &step_shape, NULL));
    assert_int_equal(stepping.lane_count, lanes);
    for (size_t i = 0; i < lanes; i++) assert_int_equal(stepping.lanes[i].batch, batch_of_each);
    assert_true(bench_measure(&stepping.work, 1e-3) > 0);
    bench_stepping_close(&stepping);
}

static void test_bench_stepping_shares_the_sequences_among_its_threads(void **state)
{
    (void)state;
    assert_lanes(8, 1, 1, 8);
    assert_lanes(8, 2, 2, 4);
    assert_lanes(1, 2, 1, 1);
}

static void test_bench_levels_grow_and_fit_their_cache(void **state)
{
    (void)state;
    struct bench_level levels[BENCH_LEVELS];
    bench_levels(levels);
    for (size_t i = 0; i + 1 < BENCH_LEVELS; i++) assert_true(levels[i].bytes < levels[i + 1].bytes);
    for (size_t i = 0; i < 2; i++) assert_true(levels[i].bytes < levels[i].cache);
}

static void assert_peer_answers(const char *assignment, double expected)
{
    struct bench_peer peer;
    struct error err = {0};
    double rate;
    if (!bench_peer_open(&peer, assignment, &err)) fail_msg("%s", err.message);
    assert_string_equal(peer.name, "fake");
    assert_string_equal(peer.description, "a peer 1.0");
    for (int i = 0; i < 2; i++) {
        if (!bench_peer_train(&peer, &shape, 2, 0.5, &rate, &err)) fail_msg("%s", err.message);
        assert_true(rate == expected);
    }
    bench_peer_close(&peer);
}

static void test_peer_gets_the_shape_and_answers_a_rate(void **state)
{
    (void)state;
    assert_peer_answers(
        "fake=echo a peer 1.0; while read -r line; do test \"$line\" = 'train 1 128 65 8 50 2 0.500' && "
        "echo 1234.5 || echo wrong; done",
        1234.5);
}

static void test_peer_is_asked_to_step(void **state)
{
    (void)state;
    const struct bench_step_shape step_shape = {2, 512, 84, 32, 2, KERNEL_F32};
    struct bench_peer peer;
    struct error err = {0};
    double rate;
    assert_true(bench_peer_open(&peer,
                                "fake=echo a peer 1.0; read -r line; test \"$line\" = 'step 2 512 84 32 2 0.500' && "
                                "echo 99 || echo wrong",
                                &err));
    if (!bench_peer_step(&peer, &step_shape, 0.5, &rate, &err)) fail_msg("%s", err.message);
    assert_true(rate == 99);
    bench_peer_close(&peer);
}

static void test_peer_may_skip_a_shape(void **state)
{
    (void)state;
    assert_peer_answers("fake=echo a peer 1.0; while read -r line; do echo skip too large; done", 0);
}

static void test_peer_with_a_long_description_loses_its_end_alone(void **state)
{
    (void)state;
    struct bench_peer peer;
    struct error err = {0};
    double rate;
    assert_true(bench_peer_open(&peer, "fake=printf '%0500d\\n' 7; read -r line; echo 42", &err));
    assert_int_equal(strlen(peer.description), sizeof peer.description - 1);
    if (!bench_peer_train(&peer, &shape, 1, 0.5, &rate, &err)) fail_msg("%s", err.message);
    assert_true(rate == 42);
    bench_peer_close(&peer);
}

static void assert_peer_fails(const char *assignment, enum error_code code, const char *fragment)
{
    struct bench_peer peer;
    struct error err = {0};
    double rate;
    assert_false(bench_peer_open(&peer, assignment, &err) && bench_peer_train(&peer, &shape, 1, 0.5, &rate, &err));
    bench_peer_close(&peer);
    assert_int_equal(err.code, code);
    assert_non_null(strstr(err.message, fragment));
}

static void test_peer_that_is_not_name_and_command_is_refused(void **state)
{
    (void)state;
    assert_peer_fails("cat", ERROR_USAGE, "NAME=COMMAND");
    assert_peer_fails("=cat", ERROR_USAGE, "NAME=COMMAND");
    assert_peer_fails("fake=", ERROR_USAGE, "NAME=COMMAND");
    assert_peer_fails("a-name-that-is-longer-than-any-peer-has=cat", ERROR_USAGE, "NAME=COMMAND");
}

static void test_peer_that_ends_or_answers_nonsense_is_an_error(void **state)
{
    (void)state;
    assert_peer_fails("fake=exit 1", ERROR_UNAVAILABLE, "peer fake ended");
    assert_peer_fails("fake=echo one; read -r line", ERROR_UNAVAILABLE, "peer fake ended");
    assert_peer_fails("fake=echo one; read -r line; echo soon", ERROR_INVALID, "answered \"soon\"");
    assert_peer_fails("fake=echo one; read -r line; echo -5", ERROR_INVALID, "answered \"-5\"");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_bench_median_is_the_middle_or_the_mean_of_two),
        cmocka_unit_test(test_bench_ratio_is_the_median_of_each_turns_ratio),
        cmocka_unit_test(test_bench_series_ignores_what_does_not_fit),
        cmocka_unit_test(test_bench_measure_repeats_the_calibrated_count_on_every_worker),
        cmocka_unit_test(test_bench_counts_the_operations_of_performance_targets),
        cmocka_unit_test(test_bench_stepping_reads_one_row_of_the_one_hot_weights),
        cmocka_unit_test(test_bench_stepping_shares_the_sequences_among_its_threads),
        cmocka_unit_test(test_bench_levels_grow_and_fit_their_cache),
        cmocka_unit_test(test_peer_gets_the_shape_and_answers_a_rate),
        cmocka_unit_test(test_peer_is_asked_to_step),
        cmocka_unit_test(test_peer_may_skip_a_shape),
        cmocka_unit_test(test_peer_with_a_long_description_loses_its_end_alone),
        cmocka_unit_test(test_peer_that_is_not_name_and_command_is_refused),
        cmocka_unit_test(test_peer_that_ends_or_answers_nonsense_is_an_error),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
