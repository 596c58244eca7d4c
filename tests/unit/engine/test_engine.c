/* server/engine: each job gets its text, its end and its place. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "tests/unit/engine/engine_support.h"

static void test_engine_jobs_get_the_text_that_they_get_alone(void **state)
{
    const struct world *world = *state;
    enum { JOBS = 24 };
    struct test_job jobs[JOBS];
    struct engine *engine = engine_of(world, 5, JOBS);
    for (size_t i = 0; i < JOBS; i++) {
        submit_numbered(engine, world, &jobs[i], i, 40 + 7 * (i % 5));
    }
    for (size_t i = 0; i < JOBS; i++) {
        struct engine_job *job = &jobs[i].job;
        job_wait(&jobs[i]);
        assert_int_equal(job->outcome, ENGINE_DONE);
        assert_true(job->submitted_ns <= job->started_ns && job->started_ns <= job->prompted_ns);
        assert_true(job->prompted_ns < job->finished_ns);
        const struct generation_request request = numbered(i, 40 + 7 * (i % 5));
        assert_int_equal(job->generation.text_bytes, 40 + 7 * (i % 5));
        assert_text_as_alone(&jobs[i], world, &request);
        job_close(&jobs[i]);
    }
    close_engine(engine);
}

static void test_engine_feeds_windows_as_a_generation_alone_does(void **state)
{
    const struct world *world = *state;
    enum { JOBS = 9 };
    struct test_job jobs[JOBS];
    struct engine *engine = engine_of(world, 4, JOBS);
    for (size_t i = 0; i < JOBS; i++) {
        struct generation_request request = numbered(i, 30);
        request.window.size = (uint32_t)(i % 3) * 4; /* some carry their state, beside those that do not */
        job_open(&jobs[i], world, &request);
        jobs[i].job.use_cache = true;
        assert_true(job_submit(engine, &jobs[i], NULL));
    }
    for (size_t i = 0; i < JOBS; i++) {
        struct generation_request request = numbered(i, 30);
        request.window.size = (uint32_t)(i % 3) * 4;
        job_wait(&jobs[i]);
        assert_text_as_alone(&jobs[i], world, &request);
        job_close(&jobs[i]);
    }
    close_engine(engine);
}

static void assert_refuses_beyond_slots_and_queue(const struct world *world, uint64_t share_ns)
{
    struct test_job jobs[5];
    struct engine_options options = options_of(world, 1, 1);
    options.threads = 2;
    options.share_ns = share_ns;
    struct engine *engine = engine_with(&options);
    for (size_t i = 0; i < 5; i++) open_numbered(&jobs[i], world, i, LONG);
    for (size_t i = 0; i < 2; i++) assert_true(job_submit(engine, &jobs[i], NULL));
    struct error err = {0};
    struct engine_job *const both[] = {&jobs[3].job, &jobs[4].job};
    assert_false(engine_submit(engine, both, 2, &err)); /* there is room for one: none is taken */
    assert_int_equal(err.code, ERROR_UNAVAILABLE);
    assert_true(job_submit(engine, &jobs[2], NULL));
    assert_false(job_submit(engine, &jobs[3], NULL));
    const struct engine_load load = engine_load(engine);
    assert_int_equal(load.running + load.waiting, 3);
    for (size_t i = 0; i < 3; i++) {
        engine_cancel(engine, &jobs[i].job);
        job_wait(&jobs[i]);
    }
    assert_true(engine_submit(engine, both, 2, NULL));
    close_engine(engine);
    for (size_t i = 0; i < 5; i++) job_close(&jobs[i]);
}

/* Jobs that are set aside make no room for more. */
static void test_engine_refuses_beyond_slots_and_queue(void **state)
{
    assert_refuses_beyond_slots_and_queue(*state, UINT64_MAX);
    assert_refuses_beyond_slots_and_queue(*state, 0);
}

static void test_engine_cancels_running_and_waiting_jobs(void **state)
{
    const struct world *world = *state;
    struct test_job jobs[5];
    struct engine *engine = engine_of(world, 1, 8);
    for (size_t i = 0; i < 5; i++) {
        open_numbered(&jobs[i], world, i, i == 4 ? 3 : LONG);
        if (i == 3) engine_cancel(engine, &jobs[i].job); /* before it is submitted */
        assert_true(job_submit(engine, &jobs[i], NULL));
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

/* The cancellation has been looked at, and found no job, long before the job comes. */
static void test_engine_cancels_a_job_that_was_cancelled_before_it_came(void **state)
{
    const struct world *world = *state;
    struct test_job early, other;
    struct engine *engine = engine_of(world, 2, 8);
    open_numbered(&early, world, 0, LONG);
    open_numbered(&other, world, 1, LONG);
    engine_cancel(engine, &early.job);
    assert_true(job_submit(engine, &other, NULL));
    engine_cancel(engine, &other.job);
    job_wait(&other);
    assert_true(job_submit(engine, &early, NULL));
    job_wait(&early);
    assert_int_equal(early.job.outcome, ENGINE_CANCELLED);
    close_engine(engine);
    job_close(&early);
    job_close(&other);
}

static void test_engine_stop_ends_everything_and_refuses_more(void **state)
{
    const struct world *world = *state;
    struct test_job jobs[6];
    struct engine *engine = engine_of(world, 2, 8);
    for (size_t i = 0; i < 6; i++) open_numbered(&jobs[i], world, i, LONG);
    for (size_t i = 0; i < 5; i++) assert_true(job_submit(engine, &jobs[i], NULL));
    engine_stop(engine);
    for (size_t i = 0; i < 5; i++) {
        assert_int_equal(sem_trywait(&jobs[i].done), 0);
        assert_int_equal(jobs[i].job.outcome, ENGINE_STOPPED);
    }
    struct error err = {0};
    assert_false(job_submit(engine, &jobs[5], &err));
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
        submit_numbered(engine, world, &job, 0, 100);
        job_wait(&job);
        if (round == 0) memcpy(first, job.job.generation.text, sizeof first);
        assert_string_equal(job.job.generation.text, first);
        job_close(&job);
    }
    close_engine(engine);
}

static void count_token(struct engine_job *job)
{
    (*(size_t *)((struct test_job *)job)->context)++;
}

static void test_engine_tells_of_every_token_but_the_last(void **state)
{
    const struct world *world = *state;
    struct engine *engine = engine_of(world, 2, 2);
    struct test_job job;
    size_t tokens = 0;
    open_numbered(&job, world, 9, 50);
    job.context = &tokens;
    job.job.progressed = count_token;
    assert_true(job_submit(engine, &job, NULL));
    job_wait(&job);
    assert_int_equal(tokens, 49);
    job_close(&job);
    close_engine(engine);
}

static void test_engine_deadline_ends_running_and_waiting_jobs(void **state)
{
    const struct world *world = *state;
    struct engine_options options = options_of(world, 1, 2);
    options.timeout_ns = 500 * 1000 * 1000; /* on a busy machine the job must have begun before */
    struct engine *engine = engine_with(&options);
    struct test_job running, waiting;
    struct gate gate;
    occupy(engine, world, &running, &gate, LONG);
    submit_numbered(engine, world, &waiting, 1, LONG);
    while (clock_monotonic_ns() < waiting.job.submitted_ns + options.timeout_ns) continue;
    sem_post(&gate.open);
    job_wait(&running);
    job_wait(&waiting);
    assert_int_equal(running.job.outcome, ENGINE_TIMEOUT);
    assert_true(running.job.generation.produced > 0);
    assert_int_equal(waiting.job.outcome, ENGINE_TIMEOUT);
    assert_int_equal(waiting.job.started_ns, 0);
    struct test_job later; /* the slot is free again */
    submit_numbered(engine, world, &later, 2, 1);
    job_wait(&later);
    assert_int_equal(later.job.outcome, ENGINE_DONE);
    close_engine(engine);
    job_close(&running);
    job_close(&waiting);
    job_close(&later);
}

/* One thread cannot bring both to their gates: it stands still at the first. */
static void test_engine_gives_requests_to_the_least_loaded_thread(void **state)
{
    const struct world *world = *state;
    struct engine_options options = options_of(world, 4, 4);
    options.threads = 2;
    for (size_t round = 0; round < 20; round++) {
        struct engine *engine = engine_with(&options);
        struct test_job jobs[2];
        struct gate gates[2];
        for (size_t i = 0; i < 2; i++) {
            gate_init(&gates[i]);
            open_numbered(&jobs[i], world, i, 2);
            jobs[i].context = &gates[i];
            jobs[i].job.progressed = stand_at_gate;
        }
        struct engine_job *const both[] = {&jobs[0].job, &jobs[1].job};
        assert_true(engine_submit(engine, both, 2, NULL));
        for (size_t i = 0; i < 2; i++) gate_wait(&gates[i]);
        for (size_t i = 0; i < 2; i++) sem_post(&gates[i].open);
        for (size_t i = 0; i < 2; i++) job_wait(&jobs[i]);
        close_engine(engine);
        for (size_t i = 0; i < 2; i++) job_close(&jobs[i]);
    }
}

/* "ab" + 30 tokens in one request, and in two that a session joins: the same text. */
static void test_engine_session_continues_as_one_long_request_would(void **state)
{
    const struct world *world = *state;
    struct engine *engine = engine_of(world, 2, 2);
    struct generation whole;
    struct generation_request request = request_of("ab", 30);
    request.sampler.temperature = 0;
    run_alone(&whole, world, &request);

    float *middle = calloc(world->stepper.state_size, sizeof *middle);
    assert_non_null(middle);
    struct test_job first, second;
    request.length = 12;
    job_open(&first, world, &request);
    first.job.generation.end_state = middle;
    assert_true(job_submit(engine, &first, NULL));
    job_wait(&first);
    struct generation_request rest = request_of("", 18);
    rest.sampler.temperature = 0;
    rest.continues = true;
    rest.pending = generation_token(&first.job.generation);
    job_open(&second, world, &rest);
    second.job.generation.start_state = middle;
    second.job.use_cache = true;
    assert_true(job_submit(engine, &second, NULL));
    job_wait(&second);
    char text[64];
    snprintf(text, sizeof text, "%s%s", first.job.generation.text, second.job.generation.text);
    assert_string_equal(text, whole.text);
    generation_close(&whole);
    job_close(&first);
    job_close(&second);
    free(middle);
    close_engine(engine);
}

struct submission {
    struct engine *engine;
    struct test_job jobs[2];
};

static bool submit_both(void *context, struct error *err)
{
    struct submission *submission = context;
    struct engine_job *const both[] = {&submission->jobs[0].job, &submission->jobs[1].job};
    return engine_submit(submission->engine, both, 2, err);
}

static void test_engine_submit_survives_failing_allocations(void **state)
{
    const struct world *world = *state;
    struct submission submission = {.engine = engine_of(world, 2, 0)};
    for (size_t i = 0; i < 2; i++) open_numbered(&submission.jobs[i], world, i, 10);
    assert_survives_failing_allocations(submit_both, &submission);
    for (size_t i = 0; i < 2; i++) {
        job_wait(&submission.jobs[i]);
        assert_begins_as_alone(&submission.jobs[i], world, i, 10);
    }
    close_engine(submission.engine);
    for (size_t i = 0; i < 2; i++) job_close(&submission.jobs[i]);
}

static bool open_and_close(void *context, struct error *err)
{
    struct engine_options options = options_of(context, 3, 3);
    options.threads = 3;
    struct engine *engine = engine_new(&options, err);
    if (!engine) return false;
    close_engine(engine);
    return true;
}

static void test_engine_new_survives_failing_allocations(void **state)
{
    assert_survives_failing_allocations(open_and_close, *state);
}

static void test_engine_has_a_thread_per_processor_unless_told(void **state)
{
    struct engine_options options = options_of(*state, 1, 1);
    options.threads = 0;
    struct engine *engine = engine_with(&options);
    assert_true(engine_threads(engine) >= 1);
    close_engine(engine);
    options.threads = 3;
    engine = engine_with(&options);
    assert_int_equal(engine_threads(engine), 3);
    close_engine(engine);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_engine_jobs_get_the_text_that_they_get_alone),
        cmocka_unit_test(test_engine_feeds_windows_as_a_generation_alone_does),
        cmocka_unit_test(test_engine_refuses_beyond_slots_and_queue),
        cmocka_unit_test(test_engine_cancels_running_and_waiting_jobs),
        cmocka_unit_test(test_engine_cancels_a_job_that_was_cancelled_before_it_came),
        cmocka_unit_test(test_engine_stop_ends_everything_and_refuses_more),
        cmocka_unit_test(test_engine_slot_starts_from_the_zero_state_each_time),
        cmocka_unit_test(test_engine_tells_of_every_token_but_the_last),
        cmocka_unit_test(test_engine_deadline_ends_running_and_waiting_jobs),
        cmocka_unit_test(test_engine_gives_requests_to_the_least_loaded_thread),
        cmocka_unit_test(test_engine_session_continues_as_one_long_request_would),
        cmocka_unit_test(test_engine_submit_survives_failing_allocations),
        cmocka_unit_test(test_engine_new_survives_failing_allocations),
        cmocka_unit_test(test_engine_has_a_thread_per_processor_unless_told),
    };
    return cmocka_run_group_tests(tests, world_open_default, world_close_default);
}
