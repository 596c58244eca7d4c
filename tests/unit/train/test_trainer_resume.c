#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/rng.h"
#include "model/kernels/blas.h"
#include "model/train/snapshot.h"
#include "tests/unit/train/trainer_support.h"

/* Runs to the end without and with interruptions at several places, and compares the published bytes. The trainer asks
 * the clock at every step and around validations and snapshots, so `stop_after` reaches all of these. */
static void assert_resumes_bit_for_bit(struct bench *bench)
{
    bench->stop_after = 0;
    bench_start(bench);
    uint64_t questions = bench->asked, best_step = bench->result.best_step, steps = bench->result.steps;
    double best = bench->result.best.nats_per_token, train_loss = bench->result.train_loss;
    const struct weights expected = bench_weights(bench);
    struct rng rng;
    rng_seed(&rng, 11, questions);
    for (int i = 0; i < 4; i++) {
        bench->stop_after = 3 + rng_below(&rng, questions - 8);
        bench_start(bench);
        int interruptions = 0;
        while (bench->result.end == TRAINER_INTERRUPTED) {
            interruptions++;
            assert_true(snapshot_exists(bench->work));
            bench->stop_after = 10 + rng_below(&rng, questions);
            bench_resume(bench);
        }
        assert_true(interruptions > 0);
        assert_published(bench, expected);
        assert_int_equal(bench->result.steps, steps);
        assert_int_equal(bench->result.best_step, best_step);
        assert_memory_equal(&bench->result.best.nats_per_token, &best, sizeof best);
        assert_memory_equal(&bench->result.train_loss, &train_loss, sizeof train_loss);
        assert_false(snapshot_exists(bench->work));
    }
    weights_free(expected);
}

static void test_trainer_resumes_bit_for_bit_with_every_optimizer(void **state)
{
    (void)state;
    for (int kind = OPTIMIZER_RMSPROP; kind <= OPTIMIZER_SGD; kind++) {
        struct bench bench;
        bench_open(&bench, 40);
        bench.options.optimizer = kind;
        bench.options.dropout = bench.options.weight_drop = 0.3;
        bench.options.snapshot_seconds = 0.004;
        assert_resumes_bit_for_bit(&bench);
        bench_close(&bench);
    }
}

static void test_trainer_resumes_bit_for_bit_with_averaged_weights(void **state)
{
    (void)state;
    struct bench bench;
    bench_open(&bench, 40);
    bench.options.average = 0.9;
    bench.options.threads = 2;
    bench.options.snapshot_seconds = 0.004;
    assert_resumes_bit_for_bit(&bench);
    bench_close(&bench);
}

static void test_trainer_resumes_bit_for_bit_with_every_schedule(void **state)
{
    (void)state;
    for (int kind = SCHEDULE_CONSTANT; kind <= SCHEDULE_COSINE; kind++) {
        struct bench bench;
        bench_open(&bench, 40);
        bench.options.schedule = kind;
        bench.options.warmup = 5;
        bench.options.plateau_patience = 2;
        bench.options.epochs = 6;
        bench.options.rate = 0.3; /* so that validations get worse, too */
        bench.options.validate_every = 7;
        bench.tick_ns = 50000000;
        assert_resumes_bit_for_bit(&bench);
        if (kind != SCHEDULE_CONSTANT) assert_true(bench.progress.rate < 0.16);
        bench_close(&bench);
    }
}

static void test_trainer_resumes_bit_for_bit_with_every_cell_layers_and_threads(void **state)
{
    (void)state;
    for (int cell = CELL_LSTM; cell <= CELL_RNN; cell++) {
        struct bench bench;
        bench_open(&bench, 40);
        bench.options.cell = cell;
        bench.options.layers = 2;
        bench.options.embedding = 12;
        bench.options.tie_weights = true;
        bench.options.threads = 2;
        bench.options.dropout = 0.2;
        assert_resumes_bit_for_bit(&bench);
        bench_close(&bench);
    }
}

static void test_trainer_resumes_bit_for_bit_on_one_running_text_without_validation(void **state)
{
    (void)state;
    struct bench bench;
    bench_open(&bench, 40);
    bench.options.format = CORPUS_TEXT;
    bench.options.validation = 0;
    assert_resumes_bit_for_bit(&bench);
    bench_close(&bench);
}

static void test_trainer_resumes_bit_for_bit_into_early_stopping(void **state)
{
    (void)state;
    struct bench bench;
    bench_open(&bench, 40);
    bench.options.rate = 0.1;
    bench.options.epochs = 200;
    bench.options.patience = 4;
    assert_resumes_bit_for_bit(&bench);
    assert_int_equal(bench.result.end, TRAINER_STOPPED_EARLY);
    bench_close(&bench);
}

static void test_trainer_stopped_while_it_reads_leaves_what_there_was(void **state)
{
    (void)state;
    struct bench bench;
    bench_open(&bench, 40);
    bench.stop_at_once = true;
    bench_start(&bench);
    assert_int_equal(bench.result.end, TRAINER_INTERRUPTED);
    assert_false(bench.result.saved || snapshot_exists(bench.work) || bench_has_model(&bench));
    bench.stop_at_once = false;
    bench_interrupt(&bench);
    assert_true(bench.result.saved);
    bench.stop_at_once = true;
    bench_resume(&bench);
    assert_int_equal(bench.result.end, TRAINER_INTERRUPTED);
    assert_true(bench.result.saved && snapshot_exists(bench.work));
    bench.stop_at_once = false;
    bench_resume(&bench);
    assert_int_equal(bench.result.end, TRAINER_DONE);
    assert_false(bench.result.saved);
    bench_close(&bench);
}

static void test_trainer_unfinished_run_is_not_overwritten(void **state)
{
    (void)state;
    struct bench bench;
    bench_open(&bench, 40);
    bench_interrupt(&bench);
    bench_refuse(&bench, false, ERROR_CONFLICT, "unfinished run");
    bench_resume(&bench);
    assert_int_equal(bench.result.end, TRAINER_DONE);
    bench_close(&bench);
}

static void test_trainer_resume_without_a_snapshot_is_refused(void **state)
{
    (void)state;
    struct bench bench;
    bench_open(&bench, 40);
    bench_refuse(&bench, true, ERROR_NOT_FOUND, "nothing to resume");
    bench_close(&bench);
}

static void test_trainer_resume_with_other_options_names_the_first(void **state)
{
    (void)state;
    struct bench bench;
    bench_open(&bench, 40);
    bench_interrupt(&bench);
    bench.options.hidden = 13;
    bench_refuse(&bench, true, ERROR_INVALID, "hidden was 12 when the run began and is 13 now");
    bench.options.hidden = 12;
    bench.options.optimizer = OPTIMIZER_SGD;
    bench_refuse(&bench, true, ERROR_INVALID, "optimizer was \"adam\"");
    bench_close(&bench);
}

static void test_trainer_resume_may_change_how_long_it_goes_on(void **state)
{
    (void)state;
    struct bench bench;
    bench_open(&bench, 40);
    bench_interrupt(&bench);
    bench.options.epochs = 5;
    bench_resume(&bench);
    assert_int_equal(bench.result.epochs, 5);
    bench.options.epochs = 50;
    bench.stop_after = 300;
    bench_start(&bench);
    assert_true(bench.result.epochs > 1);
    bench.stop_after = 0;
    bench.options.epochs = 1;
    bench_resume(&bench);
    assert_int_equal(bench.result.end, TRAINER_DONE);
    bench_close(&bench);
}

static void test_trainer_resume_with_another_corpus_is_refused(void **state)
{
    (void)state;
    struct bench bench;
    bench_open(&bench, 40);
    bench_interrupt(&bench);
    FILE *file = fopen(bench.data, "a");
    assert_non_null(file);
    fputs("one line more\n", file);
    fclose(file);
    bench_refuse(&bench, true, ERROR_INVALID, "does not hold the text that the run began with");
    bench_close(&bench);
}

static void test_trainer_resumes_bit_for_bit_with_openblas(void **state)
{
    (void)state;
    struct bench bench;
    bench_open(&bench, 40);
    bench.options.products = PRODUCTS_OPENBLAS;
    bench.options.layers = 2;
    bench.options.hidden = 40;
    bench.options.threads = 2;
    bench.options.snapshot_seconds = 0.004;
    const uint64_t before = blas_calls();
    assert_resumes_bit_for_bit(&bench);
    assert_true(blas_calls() > before);
    bench_close(&bench);
}

static void test_trainer_asks_no_library_for_its_own_products(void **state)
{
    (void)state;
    struct bench bench;
    bench_open(&bench, 40);
    const uint64_t before = blas_calls();
    bench.options.products = PRODUCTS_OWN;
    bench_start(&bench);
    assert_int_equal(blas_calls(), before);
    bench_close(&bench);
}

/* Replaces one text of snapshot.json by another one, which is not longer. */
static void edit_snapshot(const struct bench *bench, const char *old, const char *new)
{
    const char *path = in_dir(bench->work, "snapshot.json");
    char *text = read_text(path), *place = strstr(text, old);
    assert_non_null(place);
    memset(place, ' ', strlen(old));
    memcpy(place, new, strlen(new));
    write_text(path, text);
    free(text);
}

static void test_trainer_resume_with_other_products_is_refused_unless_wanted(void **state)
{
    (void)state;
    struct bench bench;
    bench_open(&bench, 40);
    bench_interrupt(&bench);
    bench.options.products = PRODUCTS_OPENBLAS;
    bench_refuse(&bench, true, ERROR_INVALID, "products were own when the run began and are openblas ");
    bench.options.other_products = true;
    bench_resume(&bench);
    assert_int_equal(bench.result.end, TRAINER_DONE);

    bench.options.other_products = false;
    bench_interrupt(&bench);
    edit_snapshot(&bench, blas_name(), "openblas 0.2 P2");
    bench_refuse(&bench, true, ERROR_INVALID, "products were openblas 0.2 P2");
    bench.options.products = PRODUCTS_OWN;
    bench_refuse(&bench, true, ERROR_INVALID, "and are own now");
    bench_close(&bench);
}

/* lstmd 0.1 knew only its own products, and said nothing of them. */
static void test_trainer_resumes_a_run_that_says_nothing_of_products(void **state)
{
    (void)state;
    struct bench bench;
    bench_open(&bench, 40);
    bench_interrupt(&bench);
    edit_snapshot(&bench, "\"products\": \"own\",\n  \"options\"", "\"options\"");
    edit_snapshot(&bench, "\"products\": \"own\",", "");
    bench_resume(&bench);
    assert_int_equal(bench.result.end, TRAINER_DONE);
    bench_close(&bench);
}

static void test_trainer_damaged_snapshots_are_refused(void **state)
{
    (void)state;
    static const char *const damages[][2] = {
        {"snapshot.json", "{"},
        {"snapshot.json", "{}"},
        {"snapshot.json",
         "{\"format\": \"lstmd-train/1\", \"identity\": {}, \"learner_steps\": 1, \"options\": {\"hidden\": -1}}"},
        {"snapshot.json",
         "{\"format\": \"lstmd-train/1\", \"identity\": {}, \"learner_steps\": 1, \"options\": {\"no\": 1}}"},
        {"snapshot.json", "{\"format\": \"lstmd-train/1\", \"identity\": {}, \"learner_steps\": 1, \"options\": {}}"},
        {"snapshot.safetensors", "short"},
    };
    struct bench bench;
    bench_open(&bench, 40);
    bench_interrupt(&bench);
    for (size_t i = 0; i < sizeof damages / sizeof *damages; i++) {
        const char *path = in_dir(bench.work, damages[i][0]);
        char *intact = read_text(path);
        write_text(path, damages[i][1]);
        assert_false(bench_run(&bench, true));
        if (!strstr(bench.err.message, damages[i][0])) fail_msg("%zu: %s", i, bench.err.message);
        if (strstr(path, "json")) write_text(path, intact);
        free(intact);
    }
    bench_close(&bench);
}

static void test_trainer_saved_options_are_those_of_the_run(void **state)
{
    (void)state;
    struct bench bench;
    struct arena arena = {0};
    struct trainer_options options;
    bench_open(&bench, 40);
    bench.options.schedule = SCHEDULE_COSINE;
    bench.options.rate = 0.0123;
    bench_interrupt(&bench);
    assert_true(trainer_saved_options(bench.out, &options, &arena, &bench.err));
    assert_true(trainer_options_may_resume(&bench.options, &options, &bench.err));
    assert_string_equal(options.data, bench.data);
    assert_true(options.rate == 0.0123);
    arena_free(&arena);
    bench_close(&bench);
}

static void test_run_state_survives_a_perplexity_beyond_all_numbers(void **state)
{
    (void)state;
    struct bench bench;
    bench_open(&bench, 40);
    bench.options.epochs = 50;
    bench.stop_after = 300;
    bench_start(&bench);
    assert_int_equal(bench.result.end, TRAINER_INTERRUPTED);
    assert_true(bench.validations > 0);
    bench.stop_after = 0;
    const char *path = in_dir(bench.work, "snapshot.json");
    char *text = read_text(path);
    char *place = strstr(text, "\"best.perplexity\": ");
    assert_non_null(place);
    place += strlen("\"best.perplexity\": ");
    memset(place, ' ', strcspn(place, ","));
    memcpy(place, "null", 4);
    write_text(path, text);
    free(text);
    bench_resume(&bench);
    bench_close(&bench);
}

/* Runs in a process that dies at its n-th system call that writes. Returns false if the process ended before. */
static bool run_killed_at(struct bench *bench, size_t n)
{
    pid_t child = fork();
    assert_true(child >= 0);
    if (child == 0) {
        fail_call(n, KILLED);
        _exit(bench_run(bench, false) ? 0 : 1);
    }
    int status;
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_true((WIFEXITED(status) && WEXITSTATUS(status) == 0) ||
                (WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL));
    return WIFSIGNALED(status);
}

/* tick_ns decides whether validations follow one another within moments (the best model is held in memory) or seconds.
 */
static void assert_killed_anywhere_ends_with_the_same_bits(uint64_t tick_ns)
{
    struct bench bench;
    bench_open(&bench, 12);
    bench.options.epochs = 3;
    bench.tick_ns = tick_ns;
    bench_start(&bench);
    size_t kills = 0;
    const struct weights expected = bench_weights(&bench);
    while (run_killed_at(&bench, ++kills)) {
        if (snapshot_exists(bench.work)) {
            bench_resume(&bench);
        } else {
            bench_start(&bench);
        }
        assert_int_equal(bench.result.end, TRAINER_DONE);
        assert_false(snapshot_exists(bench.work));
        assert_published(&bench, expected);
    }
    assert_true(kills > 40);
    weights_free(expected);
    bench_close(&bench);
}

static void test_trainer_killed_anywhere_ends_with_the_same_bits(void **state)
{
    (void)state;
    assert_killed_anywhere_ends_with_the_same_bits(1000000);
    assert_killed_anywhere_ends_with_the_same_bits(1000000000);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_trainer_resumes_bit_for_bit_with_every_optimizer),
        cmocka_unit_test(test_trainer_resumes_bit_for_bit_with_averaged_weights),
        cmocka_unit_test(test_trainer_resumes_bit_for_bit_with_every_schedule),
        cmocka_unit_test(test_trainer_resumes_bit_for_bit_with_every_cell_layers_and_threads),
        cmocka_unit_test(test_trainer_resumes_bit_for_bit_on_one_running_text_without_validation),
        cmocka_unit_test(test_trainer_resumes_bit_for_bit_into_early_stopping),
        cmocka_unit_test(test_trainer_stopped_while_it_reads_leaves_what_there_was),
        cmocka_unit_test(test_trainer_unfinished_run_is_not_overwritten),
        cmocka_unit_test(test_trainer_resume_without_a_snapshot_is_refused),
        cmocka_unit_test(test_trainer_resume_with_other_options_names_the_first),
        cmocka_unit_test(test_trainer_resume_may_change_how_long_it_goes_on),
        cmocka_unit_test(test_trainer_resume_with_another_corpus_is_refused),
        cmocka_unit_test(test_trainer_asks_no_library_for_its_own_products),
        cmocka_unit_test(test_trainer_resumes_bit_for_bit_with_openblas),
        cmocka_unit_test(test_trainer_resume_with_other_products_is_refused_unless_wanted),
        cmocka_unit_test(test_trainer_resumes_a_run_that_says_nothing_of_products),
        cmocka_unit_test(test_trainer_damaged_snapshots_are_refused),
        cmocka_unit_test(test_trainer_saved_options_are_those_of_the_run),
        cmocka_unit_test(test_run_state_survives_a_perplexity_beyond_all_numbers),
        cmocka_unit_test(test_trainer_killed_anywhere_ends_with_the_same_bits),
    };
    return cmocka_run_group_tests(tests, skip_the_wait_for_the_disk, NULL);
}
