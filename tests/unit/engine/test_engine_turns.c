/* server/engine: jobs share slots and steps. A job that has had its share waits; a job that reads a prompt goes faster.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "tests/unit/engine/engine_support.h"

/* A writer that submits a reader with its first token, and counts its own tokens until the reader is done. All of it
 * happens in the engine's only thread. */
struct beside {
    struct engine *engine;
    struct test_job reader;
    size_t tokens, tokens_beside;
};

static void write_beside(struct engine_job *job)
{
    struct beside *beside = ((struct test_job *)job)->context;
    if (beside->tokens++ == 0) assert_true(job_submit(beside->engine, &beside->reader, NULL));
}

static void reader_finished(struct engine_job *job)
{
    struct beside *beside = ((struct test_job *)job)->context;
    beside->tokens_beside = beside->tokens;
    sem_post(&beside->reader.done);
}

static void test_engine_reads_a_prompt_faster_than_others_write(void **state)
{
    const struct world *world = *state;
    enum { PROMPT = 20000 };
    struct beside beside = {.engine = engine_of(world, 2, 2)};
    struct test_job writer;
    char *prompt = long_prompt(PROMPT);
    const struct generation_request request = request_of(prompt, 1);
    job_open(&beside.reader, world, &request);
    beside.reader.context = &beside;
    beside.reader.job.finished = reader_finished;
    open_numbered(&writer, world, 3, LONG);
    writer.context = &beside;
    writer.job.progressed = write_beside;
    assert_true(job_submit(beside.engine, &writer, NULL));
    job_wait(&beside.reader);
    engine_cancel(beside.engine, &writer.job);
    job_wait(&writer);
    assert_true(beside.tokens_beside > 100); /* and the writer did not stand still */
    assert_true(beside.tokens_beside <= PROMPT / 2 + 10);
    close_engine(beside.engine);
    job_close(&writer);
    job_close(&beside.reader);
    free(prompt);
}

struct counter {
    atomic_size_t tokens;
    size_t needed;
    sem_t reached;
};

static void count_to_needed(struct engine_job *job)
{
    struct counter *counter = ((struct test_job *)job)->context;
    if (atomic_fetch_add(&counter->tokens, 1) + 1 == counter->needed) sem_post(&counter->reached);
}

/* Four texts without an end share two slots; a short one beside them ends, and all of them go on. */
static void test_engine_long_jobs_keep_no_short_one_waiting(void **state)
{
    const struct world *world = *state;
    enum { LONG_JOBS = 4, TOKENS = 3000, SHORT = 4, SHORT_TOKENS = 50 };
    struct engine_options options = options_of(world, 2, 8);
    options.share_ns = 100 * 1000;
    struct engine *engine = engine_with(&options);
    struct test_job jobs[LONG_JOBS + 1];
    struct counter counters[LONG_JOBS];
    for (size_t i = 0; i < LONG_JOBS; i++) {
        counters[i] = (struct counter){.needed = TOKENS};
        sem_init(&counters[i].reached, 0, 0);
        open_numbered(&jobs[i], world, i, LONG);
        jobs[i].context = &counters[i];
        jobs[i].job.progressed = count_to_needed;
        assert_true(job_submit(engine, &jobs[i], NULL));
    }
    submit_numbered(engine, world, &jobs[SHORT], SHORT, SHORT_TOKENS);
    job_wait(&jobs[SHORT]);
    assert_int_equal(jobs[SHORT].job.outcome, ENGINE_DONE);
    assert_begins_as_alone(&jobs[SHORT], world, SHORT, SHORT_TOKENS);
    for (size_t i = 0; i < LONG_JOBS; i++)
        while (sem_wait(&counters[i].reached) != 0) continue;
    for (size_t i = 0; i < LONG_JOBS; i++) assert_int_equal(sem_trywait(&jobs[i].done), -1);
    close_engine(engine);
    for (size_t i = 0; i < LONG_JOBS; i++) {
        assert_int_equal(jobs[i].job.outcome, ENGINE_STOPPED);
        assert_begins_as_alone(&jobs[i], world, i, TOKENS);
        sem_destroy(&counters[i].reached);
    }
    for (size_t i = 0; i <= LONG_JOBS; i++) job_close(&jobs[i]);
}

/* Returns while `aside` has been set aside for `other`, in which the engine's only thread stands still. */
static void set_aside(struct engine *engine, const struct world *world, struct test_job *aside, struct test_job *other,
                      struct gate gates[2])
{
    occupy(engine, world, aside, &gates[0], LONG);
    gate_init(&gates[1]);
    open_numbered(other, world, 1, LONG);
    other->context = &gates[1];
    other->job.progressed = stand_at_gate;
    assert_true(job_submit(engine, other, NULL));
    sem_post(&gates[0].open);
    gate_wait(&gates[1]);
    const struct engine_load load = engine_load(engine);
    assert_int_equal(load.running, 1);
    assert_int_equal(load.waiting, 1);
}

static void test_engine_cancels_and_stops_jobs_that_are_set_aside(void **state)
{
    const struct world *world = *state;
    for (int cancels = 0; cancels < 2; cancels++) {
        struct engine_options options = options_of(world, 1, 1);
        options.share_ns = 0;
        struct engine *engine = engine_with(&options);
        struct test_job aside, other;
        struct gate gates[2];
        set_aside(engine, world, &aside, &other, gates);
        if (cancels) engine_cancel(engine, &aside.job);
        sem_post(&gates[1].open);
        if (cancels) job_wait(&aside);
        if (cancels) assert_int_equal(sem_trywait(&other.done), -1);
        close_engine(engine);
        assert_int_equal(aside.job.outcome, cancels ? ENGINE_CANCELLED : ENGINE_STOPPED);
        assert_int_equal(other.job.outcome, ENGINE_STOPPED);
        assert_true(aside.job.generation.produced > 0);
        job_close(&aside);
        job_close(&other);
    }
}

/* Its session goes on from its last state. */
static void test_engine_deadline_ends_jobs_that_are_set_aside(void **state)
{
    const struct world *world = *state;
    struct engine_options options = options_of(world, 1, 1);
    options.share_ns = 0;
    options.timeout_ns = 500 * 1000 * 1000;
    struct engine *engine = engine_with(&options);
    const size_t bytes = world->stepper.state_size * sizeof(float);
    float *ends[2] = {malloc(bytes), malloc(bytes)};
    assert_true(ends[0] && ends[1]);
    struct test_job aside, other, again;
    struct gate gates[2];
    set_aside(engine, world, &aside, &other, gates);
    aside.job.generation.end_state = ends[0]; /* nobody looks at it before the gate opens */
    while (clock_monotonic_ns() < aside.job.submitted_ns + options.timeout_ns) continue;
    sem_post(&gates[1].open);
    job_wait(&aside);
    job_wait(&other);
    assert_int_equal(aside.job.outcome, ENGINE_TIMEOUT);
    open_numbered(&again, world, 0, aside.job.generation.produced);
    again.job.generation.end_state = ends[1];
    assert_true(job_submit(engine, &again, NULL));
    job_wait(&again);
    assert_memory_equal(ends[0], ends[1], bytes);
    close_engine(engine);
    job_close(&aside);
    job_close(&other);
    job_close(&again);
    free(ends[0]);
    free(ends[1]);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_engine_reads_a_prompt_faster_than_others_write),
        cmocka_unit_test(test_engine_long_jobs_keep_no_short_one_waiting),
        cmocka_unit_test(test_engine_cancels_and_stops_jobs_that_are_set_aside),
        cmocka_unit_test(test_engine_deadline_ends_jobs_that_are_set_aside),
    };
    return cmocka_run_group_tests(tests, world_open_default, world_close_default);
}
