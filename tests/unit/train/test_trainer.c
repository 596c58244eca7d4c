#include "model/train/trainer.h"

#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "model/files/checkpoint.h"
#include "tests/unit/train/trainer_support.h"

/* ---------------------------------------------------------------- a whole run */

static void test_trainer_learns_publishes_and_leaves_no_work_directory(void **state)
{
    (void)state;
    struct bench bench;
    bench_open(&bench, 120);
    bench.options.epochs = 8;
    bench_run_to(&bench, TRAINER_DONE);
    assert_int_equal(bench.validations, 8);
    assert_true(bench.result.has_best && bench.result.exact);
    /* An untrained network guesses among all tokens. */
    struct model model;
    assert_true(model_load(&model, bench.out, &bench.err));
    assert_true(bench.result.best.nats_per_token < 0.8 * log(vocabulary_size(model.vocabulary)));
    assert_int_equal(access(bench.work, F_OK), -1);
    assert_int_equal(count_entries(bench.directory), 2);

    const json_t *training = json_object_get(model.config, "training");
    const double told = json_number_value(json_object_get(training, "validation_nats_per_token"));
    assert_true(fabs(told - bench.result.best.nats_per_token) < 1e-12);
    assert_int_equal(json_integer_value(json_object_get(training, "epochs")), 8);
    assert_int_equal(json_integer_value(json_object_get(json_object_get(training, "options"), "hidden")), 12);
    assert_string_equal(json_string_value(json_object_get(json_object_get(training, "corpus"), "name")), "corpus.txt");
    assert_null(json_object_get(json_object_get(training, "options"), "data"));
    model_close(&model);
    bench_close(&bench);
}

static void test_trainer_same_seed_gives_the_same_bits_and_another_seed_others(void **state)
{
    (void)state;
    struct bench bench;
    struct weights weights[3];
    bench_open(&bench, 60);
    bench.options.dropout = 0.2;
    for (int i = 0; i < 3; i++) {
        bench.options.seed = i < 2 ? 5 : 6;
        bench.tick_ns = 1000 + 100000 * (uint64_t)i; /* time must not show in the weights */
        bench_run_to(&bench, TRAINER_DONE);
        weights[i] = bench_weights(&bench);
    }
    assert_int_equal(weights[0].size, weights[2].size);
    assert_memory_not_equal(weights[0].data, weights[2].data, weights[0].size);
    assert_same_weights(weights[0], weights[1]);
    weights_free(weights[2]);
    bench_close(&bench);
}

static void test_trainer_samples_and_validations_do_not_disturb_training(void **state)
{
    (void)state;
    struct bench bench;
    bench_open(&bench, 60);
    bench.options.dropout = 0.2;
    bench.options.patience = 0;
    bench_run_to(&bench, TRAINER_DONE);
    assert_int_equal(bench.samples, 3 * 4);
    assert_int_equal(bench.result.best_epoch, 3); /* so that both publish the same step */
    const struct weights quiet = bench_weights(&bench);
    bench.options.sample_length = 0;
    bench.options.validate_every = 2;
    bench.options.snapshot_seconds = 0.001;
    bench_run_to(&bench, TRAINER_DONE);
    assert_int_equal(bench.samples, 0);
    assert_true(bench.validations > 6);
    assert_int_equal(bench.result.best_step, bench.result.steps);
    assert_same_weights(quiet, bench_weights(&bench));
    bench_close(&bench);
}

static void test_trainer_samples_are_repeatable_and_differ_by_temperature(void **state)
{
    (void)state;
    struct bench bench;
    bench_open(&bench, 60);
    bench.options.epochs = 1;
    bench_run_to(&bench, TRAINER_DONE);
    char first[sizeof bench.sampled];
    memcpy(first, bench.sampled, sizeof first);
    assert_non_null(strstr(first, "0.2 "));
    assert_non_null(strstr(first, "1.2 "));
    bench_run_to(&bench, TRAINER_DONE);
    assert_string_equal(first, bench.sampled);
    bench_close(&bench);
}

static void test_trainer_one_running_text_is_sampled_from_the_middle(void **state)
{
    (void)state;
    struct bench bench;
    bench_open(&bench, 60);
    bench.options.format = CORPUS_TEXT;
    bench.options.epochs = 1;
    bench_run_to(&bench, TRAINER_DONE);
    const char *bar = strchr(bench.sampled, '|');
    assert_non_null(bar);
    assert_int_equal(bar - bench.sampled, strlen("0.2 ") + 40);
    bench_close(&bench);
}

static void test_trainer_progress_is_told_in_nats_and_bits_per_character(void **state)
{
    (void)state;
    struct bench bench;
    bench_open(&bench, 60);
    bench.tick_ns = 50000000;
    bench_run_to(&bench, TRAINER_DONE);
    const struct trainer_progress *p = &bench.progress;
    assert_true(bench.reports > 3);
    assert_int_equal(p->epoch, 3);
    assert_int_equal(p->steps, bench.result.steps);
    assert_true(p->fraction > 0.5 && p->fraction <= 1);
    assert_true(fabs(p->bits_per_character - p->nats_per_character / log(2)) < 1e-9);
    assert_true(p->nats_per_character > p->loss); /* <eos> is a token and no character */
    assert_true(p->characters_per_second > 0 && p->gradient_norm > 0 && p->eta_seconds >= 0);
    assert_true(fabs(p->rate - 0.01) < 1e-12);
    bench_close(&bench);
}

/* ---------------------------------------------------------------- when it ends */

static void test_trainer_stops_early_and_keeps_the_best(void **state)
{
    (void)state;
    struct bench bench;
    bench_open(&bench, 40);
    bench.options.rate = 0.1;
    bench.options.epochs = 200;
    bench.options.patience = 3;
    bench_run_to(&bench, TRAINER_STOPPED_EARLY);
    assert_int_equal(bench.result.epochs, bench.result.best_epoch + 3);
    assert_int_equal(bench_training_number(&bench, "best_epoch"), bench.result.best_epoch);
    assert_int_equal(bench_training_number(&bench, "epochs"), bench.result.epochs);
    bench_close(&bench);
}

static void test_trainer_time_limit_ends_with_a_validation(void **state)
{
    (void)state;
    struct bench bench;
    bench_open(&bench, 60);
    bench.options.epochs = 1000000;
    bench.options.max_minutes = 0.1;
    bench.options.schedule = SCHEDULE_COSINE;
    bench_run_to(&bench, TRAINER_TIME_OVER);
    assert_true(bench.result.has_best);
    assert_true(bench.result.seconds <= 6);
    assert_int_equal(bench.validation.step, bench.result.steps);
    assert_true(bench.progress.rate < 0.001); /* the cosine ended with the time */
    bench_close(&bench);
}

static void test_trainer_time_limit_shorter_than_an_epoch_still_gives_a_model(void **state)
{
    (void)state;
    struct bench bench;
    bench_open(&bench, 200);
    bench.options.max_minutes = 0.01;
    bench.tick_ns = 20000000;
    bench_run_to(&bench, TRAINER_TIME_OVER);
    assert_int_equal(bench.result.epochs, 0);
    assert_int_equal(bench.result.best_epoch, 1);
    assert_true(bench_has_model(&bench));
    bench.options.validation = 0;
    bench_run_to(&bench, TRAINER_TIME_OVER);
    assert_true(bench.result.has_best && bench.result.best.nats_per_token > 0);
    bench_close(&bench);
}

static void test_trainer_divergence_keeps_the_best_model(void **state)
{
    (void)state;
    struct bench bench;
    bench_open(&bench, 60);
    bench_run_to(&bench, TRAINER_DONE);
    const struct weights before = bench_weights(&bench);
    bench.options.optimizer = OPTIMIZER_SGD;
    bench.options.rate = 1000;
    bench.options.clip = 0;
    bench.options.epochs = 50;
    bench_run_to(&bench, TRAINER_DIVERGED);
    assert_false(bench.result.has_best);
    assert_true(!isfinite(bench.result.last_loss) || bench.result.last_loss > 10);
    assert_same_weights(before, bench_weights(&bench));
    bench_close(&bench);
}

/* The warm-up passes through rates at which the network learns. */
static void test_trainer_divergence_publishes_a_best_model_that_was_held_back(void **state)
{
    (void)state;
    struct bench bench;
    bench_open(&bench, 60);
    bench.options.optimizer = OPTIMIZER_SGD;
    bench.options.rate = 1000;
    bench.options.clip = 0;
    bench.options.epochs = 100000;
    bench.options.warmup = 10000000;
    bench.tick_ns = 1;
    bench_run_to(&bench, TRAINER_DIVERGED);
    assert_true(bench.result.has_best && bench.result.best_epoch > 1);
    assert_int_equal(bench_training_number(&bench, "best_step"), bench.result.best_step);
    bench_close(&bench);
}

static size_t fsyncs_of(struct bench *bench, uint64_t epochs, uint64_t tick_ns)
{
    bench->options.epochs = epochs;
    bench->tick_ns = tick_ns;
    fsync_calls = 0;
    bench_run_to(bench, TRAINER_DONE);
    assert_int_equal(bench_training_number(bench, "best_step"), bench->result.best_step);
    return fsync_calls;
}

/* Epochs that take no time wait for the disk as often as one epoch does. Epochs that take seconds wait each time. */
static void test_trainer_saves_at_validations_but_not_all_the_time(void **state)
{
    (void)state;
    struct bench bench;
    bench_open(&bench, 60);
    bench.options.rate = 0.001; /* each epoch is the best so far */
    const size_t few = fsyncs_of(&bench, 3, 1);
    assert_int_equal(fsyncs_of(&bench, 12, 1), few);
    const struct weights held = bench_weights(&bench);
    assert_true(fsyncs_of(&bench, 12, 1000000000) > 3 * few);
    assert_same_weights(held, bench_weights(&bench));
    bench_close(&bench);
}

/* ---------------------------------------------------------------- odd corpora */

static void test_trainer_without_validation_goes_by_the_training_loss(void **state)
{
    (void)state;
    struct bench bench;
    bench_open(&bench, 60);
    bench.options.validation = 0;
    bench_run_to(&bench, TRAINER_DONE);
    assert_false(bench.validation.held_out);
    assert_true(bench.result.best.nats_per_token == bench.result.train_loss);
    assert_int_equal(bench.result.best_epoch, 3);
    bench_close(&bench);
}

static void test_trainer_small_corpus_shrinks_the_batch_and_says_so(void **state)
{
    (void)state;
    struct bench bench;
    bench_open(&bench, 4);
    bench.options.batch = 64;
    bench.options.window = 64;
    bench_run_to(&bench, TRAINER_DONE);
    assert_non_null(strstr(bench.note, "batch reduced from 64 to 1"));
    bench_close(&bench);
}

static void test_trainer_learns_a_corpus_of_two_characters(void **state)
{
    (void)state;
    struct bench bench;
    bench_open(&bench, 1);
    write_text(bench.data, "ab");
    bench.options.format = CORPUS_TEXT;
    bench_run_to(&bench, TRAINER_DONE);
    assert_true(bench_has_model(&bench));
    bench_close(&bench);
}

static void test_trainer_corpus_of_one_character_is_refused(void **state)
{
    (void)state;
    struct bench bench;
    bench_open(&bench, 1);
    write_text(bench.data, "aaaa\naaaa\n");
    bench_refuse(&bench, false, ERROR_INVALID, "corpus.txt");
    write_text(bench.data, "");
    bench_refuse(&bench, false, ERROR_INVALID, "corpus.txt");
    bench_close(&bench);
}

static void test_trainer_validation_file_may_hold_unknown_characters(void **state)
{
    (void)state;
    struct bench bench;
    bench_open(&bench, 30);
    const char *second = in_dir(bench.directory, "second.txt");
    write_text(second, "oil prices \xc3\xa9\xc3\xa9\n");
    bench.options.validation_data = second;
    bench.options.epochs = 1;
    bench_run_to(&bench, TRAINER_DONE);
    assert_string_equal(bench.note, "validation: 2 characters that the vocabulary lacks are skipped, 15 % of the text: "
                                    "character '\xc3\xa9' (U+00E9) 2 times");
    assert_true(bench.validation.held_out);
    bench_close(&bench);
}

static void test_trainer_long_text_is_validated_in_lanes_and_exactly_at_the_end(void **state)
{
    (void)state;
    struct bench bench;
    bench_open(&bench, 4000);
    bench.options.format = CORPUS_TEXT;
    bench.options.validation = 0.3;
    bench.options.epochs = 1;
    bench.options.batch = 64;
    bench.options.window = 64;
    bench_run_to(&bench, TRAINER_DONE);
    assert_true(bench.result.exact);
    double lanes = bench.evaluation.nats_per_token, exact = bench.result.best.nats_per_token;
    assert_true(lanes != exact && fabs(lanes - exact) < 0.01 * exact);
    assert_int_equal(bench.evaluation.tokens, bench.result.best.tokens);
    bench_close(&bench);
}

/* ---------------------------------------------------------------- refusals and failures */

static void test_trainer_out_that_is_no_model_directory_is_refused(void **state)
{
    (void)state;
    struct bench bench;
    bench_open(&bench, 30);
    assert_int_equal(mkdir(bench.out, 0755), 0);
    write_text(in_dir(bench.out, "thesis.tex"), "x");
    bench_refuse(&bench, false, ERROR_CONFLICT, "thesis.tex");
    assert_int_equal(count_entries(bench.out), 1);
    bench_close(&bench);
}

static void test_trainer_out_that_cannot_be_written_is_refused_at_the_start(void **state)
{
    (void)state;
    struct bench bench;
    bench_open(&bench, 30);
    const char *out = bench.out;
    bench.out = in_dir(bench.directory, "missing/model");
    assert_false(bench_run(&bench, false));
    assert_non_null(strstr(bench.err.message, "missing"));
    assert_int_equal(bench.validations + bench.notes, 0);
    bench.out = in_dir(bench.directory, "..");
    bench_refuse(&bench, false, ERROR_INVALID, "must name a directory");
    bench.out = out;
    bench_close(&bench);
}

static void test_trainer_beyond_the_memory_limit_is_refused_with_the_estimate(void **state)
{
    (void)state;
    struct bench bench;
    bench_open(&bench, 30);
    bench.memory_limit = (size_t)1 << 30;
    bench.options.hidden = 16384;
    bench_refuse(&bench, false, ERROR_TOO_LARGE, "GB");
    bench_close(&bench);
}

static void test_trainer_full_disk_leaves_the_older_model(void **state)
{
    (void)state;
    struct bench bench;
    bench_open(&bench, 30);
    bench_run_to(&bench, TRAINER_DONE);
    const struct weights before = bench_weights(&bench);
    bench.options.seed = 99;
    fail_fsync_with = ENOSPC;
    assert_false(bench_run(&bench, false));
    fail_fsync_with = 0;
    assert_int_equal(bench.err.code, ERROR_NO_SPACE);
    assert_same_weights(before, bench_weights(&bench));
    assert_int_equal(count_entries(bench.directory), 2);
    bench_close(&bench);
}

static bool run_once(void *context, struct error *err)
{
    struct bench *bench = context;
    if (bench_run(bench, false)) return true;
    return error_set(err, bench->err.code, "%s", bench->err.message);
}

static void test_trainer_survives_failing_allocations(void **state)
{
    (void)state;
    struct bench bench;
    bench_open(&bench, 6);
    bench.options.epochs = 1;
    bench.options.hidden = 2;
    bench.options.layers = 2;
    bench.options.embedding = 2;
    bench.options.sample_length = 2;
    assert_survives_failing_allocations(run_once, &bench);
    bench_close(&bench);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_trainer_learns_publishes_and_leaves_no_work_directory),
        cmocka_unit_test(test_trainer_same_seed_gives_the_same_bits_and_another_seed_others),
        cmocka_unit_test(test_trainer_samples_and_validations_do_not_disturb_training),
        cmocka_unit_test(test_trainer_samples_are_repeatable_and_differ_by_temperature),
        cmocka_unit_test(test_trainer_one_running_text_is_sampled_from_the_middle),
        cmocka_unit_test(test_trainer_progress_is_told_in_nats_and_bits_per_character),
        cmocka_unit_test(test_trainer_stops_early_and_keeps_the_best),
        cmocka_unit_test(test_trainer_time_limit_ends_with_a_validation),
        cmocka_unit_test(test_trainer_time_limit_shorter_than_an_epoch_still_gives_a_model),
        cmocka_unit_test(test_trainer_divergence_keeps_the_best_model),
        cmocka_unit_test(test_trainer_divergence_publishes_a_best_model_that_was_held_back),
        cmocka_unit_test(test_trainer_saves_at_validations_but_not_all_the_time),
        cmocka_unit_test(test_trainer_without_validation_goes_by_the_training_loss),
        cmocka_unit_test(test_trainer_small_corpus_shrinks_the_batch_and_says_so),
        cmocka_unit_test(test_trainer_learns_a_corpus_of_two_characters),
        cmocka_unit_test(test_trainer_corpus_of_one_character_is_refused),
        cmocka_unit_test(test_trainer_validation_file_may_hold_unknown_characters),
        cmocka_unit_test(test_trainer_long_text_is_validated_in_lanes_and_exactly_at_the_end),
        cmocka_unit_test(test_trainer_out_that_is_no_model_directory_is_refused),
        cmocka_unit_test(test_trainer_out_that_cannot_be_written_is_refused_at_the_start),
        cmocka_unit_test(test_trainer_beyond_the_memory_limit_is_refused_with_the_estimate),
        cmocka_unit_test(test_trainer_full_disk_leaves_the_older_model),
        cmocka_unit_test(test_trainer_survives_failing_allocations),
    };
    return cmocka_run_group_tests(tests, skip_the_wait_for_the_disk, NULL);
}
