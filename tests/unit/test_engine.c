#include <semaphore.h>
#include <stdlib.h>
#include <string.h>

#include "server/engine.h"
#include "tests/unit/reference.h"
#include "tests/unit/support.h"

#define LONG 2000000 /* tokens: more than any test waits for */

static const char vocabulary_json[] = "{\"level\": \"char\", \"tokens\": [\"<eos>\", \"a\", \"b\", \"c\", \" \"], "
                                      "\"eos\": 0, \"pad\": null, \"unknown\": null}";

/* A model that never ends a text by itself. */
struct world {
    struct vocabulary *vocabulary;
    struct network network;
    struct stepper stepper;
};

struct test_job {
    struct engine_job job; /* first */
    sem_t done;
};

static int world_open(void **state)
{
    struct world *world = calloc(1, sizeof *world);
    assert_non_null(world);
    world->vocabulary = vocabulary_from_json(vocabulary_json, sizeof vocabulary_json - 1, "test", NULL);
    assert_non_null(world->vocabulary);
    reference_random_network(&world->network, &(struct architecture){CELL_LSTM, 1, 12, 0, 5, false}, 3, 2.0);
    world->network.output_bias[0] = -1e9f;
    assert_true(stepper_open(&world->stepper, &world->network, kernels_select("auto"), NULL));
    *state = world;
    return 0;
}

static int world_close(void **state)
{
    struct world *world = *state;
    stepper_close(&world->stepper);
    network_close(&world->network);
    vocabulary_free(world->vocabulary);
    free(world);
    return 0;
}

static struct engine *engine_of(const struct world *world, size_t max_batch, size_t queue_limit)
{
    const struct engine_options options = {
        .stepper = &world->stepper, .threads = 1, .max_batch = max_batch, .queue_limit = queue_limit};
    struct engine *engine = engine_new(&options, NULL);
    assert_non_null(engine);
    return engine;
}

static bool submit(struct engine *engine, struct test_job *job, struct error *err)
{
    return engine_submit(engine, &(struct engine_job *){&job->job}, 1, err);
}

static void close_engine(struct engine *engine)
{
    engine_stop(engine);
    engine_free(engine);
}

static void finished(struct engine_job *job)
{
    sem_post(&((struct test_job *)job)->done);
}

static void open_generation(struct generation *generation, const struct world *world, size_t i, size_t length)
{
    static const char prompt[] = "abc cab bac";
    const struct generation_request request = {.prompt = prompt,
                                               .prompt_bytes = i % sizeof prompt,
                                               .length = length,
                                               .seed = i,
                                               .sampler = {.temperature = 0.5 + (double)i}};
    assert_true(generation_open(generation, world->vocabulary, &request, NULL, NULL));
}

static void job_open(struct test_job *job, const struct world *world, size_t i, size_t length)
{
    *job = (struct test_job){.job.finished = finished};
    sem_init(&job->done, 0, 0);
    open_generation(&job->job.generation, world, i, length);
}

static void job_wait(struct test_job *job)
{
    while (sem_wait(&job->done) != 0) continue;
}

static void job_close(struct test_job *job)
{
    generation_close(&job->job.generation);
    sem_destroy(&job->done);
}

static void test_engine_jobs_get_the_text_that_they_get_alone(void **state)
{
    const struct world *world = *state;
    enum { JOBS = 24 };
    struct test_job jobs[JOBS];
    struct engine *engine = engine_of(world, 5, JOBS);
    for (size_t i = 0; i < JOBS; i++) {
        job_open(&jobs[i], world, i, 40 + 7 * (i % 5));
        assert_true(submit(engine, &jobs[i], NULL));
    }
    for (size_t i = 0; i < JOBS; i++) {
        struct engine_job *job = &jobs[i].job;
        job_wait(&jobs[i]);
        assert_int_equal(job->outcome, ENGINE_DONE);
        assert_true(job->submitted_ns <= job->started_ns && job->started_ns <= job->prompted_ns);
        assert_true(job->prompted_ns < job->finished_ns);
        struct generation alone;
        open_generation(&alone, world, i, 40 + 7 * (i % 5));
        assert_true(generation_run(&alone, &world->stepper, NULL, NULL, NULL));
        assert_int_equal(job->generation.text_bytes, 40 + 7 * (i % 5));
        assert_string_equal(job->generation.text, alone.text);
        generation_close(&alone);
        job_close(&jobs[i]);
    }
    close_engine(engine);
}

static void test_engine_refuses_beyond_slots_and_queue(void **state)
{
    const struct world *world = *state;
    struct test_job jobs[4];
    struct engine *engine = engine_of(world, 2, 1);
    for (size_t i = 0; i < 4; i++) job_open(&jobs[i], world, i, LONG);
    for (size_t i = 0; i < 3; i++) assert_true(submit(engine, &jobs[i], NULL));
    struct error err = {0};
    assert_false(submit(engine, &jobs[3], &err));
    assert_int_equal(err.code, ERROR_UNAVAILABLE);
    for (size_t i = 0; i < 3; i++) {
        engine_cancel(engine, &jobs[i].job);
        job_wait(&jobs[i]);
    }
    assert_true(submit(engine, &jobs[3], NULL));
    close_engine(engine);
    for (size_t i = 0; i < 4; i++) job_close(&jobs[i]);
}

static void test_engine_cancels_running_and_waiting_jobs(void **state)
{
    const struct world *world = *state;
    struct test_job jobs[5];
    struct engine *engine = engine_of(world, 1, 8);
    for (size_t i = 0; i < 5; i++) {
        job_open(&jobs[i], world, i, i == 4 ? 3 : LONG);
        if (i == 3) engine_cancel(engine, &jobs[i].job); /* before it is submitted */
        assert_true(submit(engine, &jobs[i], NULL));
    }
    static const size_t order[] = {1, 3, 0, 2};
    for (size_t i = 0; i < 4; i++) {
        engine_cancel(engine, &jobs[order[i]].job);
        job_wait(&jobs[order[i]]);
        assert_int_equal(jobs[order[i]].job.outcome, ENGINE_CANCELLED);
        assert_true(jobs[order[i]].job.generation.produced < LONG);
    }
    assert_int_equal(jobs[1].job.started_ns, 0);
    job_wait(&jobs[4]);
    assert_int_equal(jobs[4].job.outcome, ENGINE_DONE);
    close_engine(engine);
    for (size_t i = 0; i < 5; i++) job_close(&jobs[i]);
}

static void test_engine_stop_ends_everything_and_refuses_more(void **state)
{
    const struct world *world = *state;
    struct test_job jobs[6];
    struct engine *engine = engine_of(world, 2, 8);
    for (size_t i = 0; i < 6; i++) job_open(&jobs[i], world, i, LONG);
    for (size_t i = 0; i < 5; i++) assert_true(submit(engine, &jobs[i], NULL));
    engine_stop(engine);
    for (size_t i = 0; i < 5; i++) {
        assert_int_equal(sem_trywait(&jobs[i].done), 0);
        assert_int_equal(jobs[i].job.outcome, ENGINE_STOPPED);
    }
    struct error err = {0};
    assert_false(submit(engine, &jobs[5], &err));
    assert_int_equal(err.code, ERROR_UNAVAILABLE);
    engine_free(engine);
    for (size_t i = 0; i < 6; i++) job_close(&jobs[i]);
}

static void test_engine_slot_starts_from_the_zero_state_each_time(void **state)
{
    const struct world *world = *state;
    struct engine *engine = engine_of(world, 1, 1);
    char first[101] = "";
    for (int round = 0; round < 3; round++) {
        struct test_job job;
        job_open(&job, world, 0, 100);
        assert_true(submit(engine, &job, NULL));
        job_wait(&job);
        if (round == 0) memcpy(first, job.job.generation.text, sizeof first);
        assert_string_equal(job.job.generation.text, first);
        job_close(&job);
    }
    close_engine(engine);
}

static bool open_and_close(void *context, struct error *err)
{
    const struct world *world = context;
    const struct engine_options options = {.stepper = &world->stepper, .threads = 3, .max_batch = 3, .queue_limit = 3};
    struct engine *engine = engine_new(&options, err);
    if (!engine) return false;
    close_engine(engine);
    return true;
}

static void test_engine_new_survives_failing_allocations(void **state)
{
    assert_survives_failing_allocations(open_and_close, *state);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_engine_jobs_get_the_text_that_they_get_alone),
        cmocka_unit_test(test_engine_refuses_beyond_slots_and_queue),
        cmocka_unit_test(test_engine_cancels_running_and_waiting_jobs),
        cmocka_unit_test(test_engine_stop_ends_everything_and_refuses_more),
        cmocka_unit_test(test_engine_slot_starts_from_the_zero_state_each_time),
        cmocka_unit_test(test_engine_new_survives_failing_allocations),
    };
    return cmocka_run_group_tests(tests, world_open, world_close);
}
