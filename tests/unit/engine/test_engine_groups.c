/* server/engine: groups, the jobs of one request, and the cache from which they start. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "tests/unit/engine/engine_support.h"

struct record {
    atomic_size_t next;
    struct test_job *order[16];
};

static void finished_in_order(struct engine_job *job)
{
    struct record *record = ((struct test_job *)job)->context;
    record->order[atomic_fetch_add(&record->next, 1)] = (struct test_job *)job;
    sem_post(&((struct test_job *)job)->done);
}

static void test_engine_serves_groups_in_turns(void **state)
{
    const struct world *world = *state;
    struct engine *engine = engine_of(world, 1, 16);
    struct test_job first, jobs[6];
    struct gate gate;
    struct record record = {0};
    struct engine_group many = {0};
    struct engine_job *list[4];
    occupy(engine, world, &first, &gate, 2);
    for (size_t i = 0; i < 6; i++) {
        open_numbered(&jobs[i], world, i, 1);
        jobs[i].context = &record;
        jobs[i].job.finished = finished_in_order;
        if (i < 4) jobs[i].job.group = &many;
        if (i < 4) list[i] = &jobs[i].job;
    }
    assert_true(engine_submit(engine, list, 4, NULL));
    assert_true(job_submit(engine, &jobs[4], NULL));
    assert_true(job_submit(engine, &jobs[5], NULL));
    sem_post(&gate.open);
    job_wait(&first);
    for (size_t i = 0; i < 6; i++) job_wait(&jobs[i]);
    static const size_t expected[] = {0, 4, 5, 1, 2, 3};
    for (size_t i = 0; i < 6; i++) assert_ptr_equal(record.order[i], &jobs[expected[i]]);
    close_engine(engine);
    job_close(&first);
    for (size_t i = 0; i < 6; i++) job_close(&jobs[i]);
}

static void test_engine_group_reads_a_long_prompt_once(void **state)
{
    const struct world *world = *state;
    enum { JOBS = 6, PROMPT = 500 };
    struct engine_options options = options_of(world, 4, 16);
    options.cache = cache_of(world);
    options.threads = 2;
    struct engine *engine = engine_with(&options);
    char *prompt = long_prompt(PROMPT);
    struct test_job jobs[JOBS];
    struct engine_group group = {0};
    struct engine_job *list[JOBS];
    for (size_t i = 0; i < JOBS; i++) {
        struct generation_request request = request_of(prompt, 30);
        request.seed = i;
        job_open(&jobs[i], world, &request);
        jobs[i].job.use_cache = true;
        jobs[i].job.group = &group;
        list[i] = &jobs[i].job;
    }
    assert_true(engine_submit(engine, list, JOBS, NULL));
    for (size_t i = 0; i < JOBS; i++) {
        job_wait(&jobs[i]);
        assert_int_equal(jobs[i].job.generation.cached, i == 0 ? 0 : PROMPT); /* all but the last of <eos> and prompt */
        struct generation_request request = request_of(prompt, 30);
        request.seed = i;
        assert_text_as_alone(&jobs[i], world, &request);
        job_close(&jobs[i]);
    }
    close_engine(engine);
    state_cache_free(options.cache);
    free(prompt);
}

static void test_engine_group_goes_on_where_the_job_that_reads_is_cancelled(void **state)
{
    const struct world *world = *state;
    struct engine_options options = options_of(world, 2, 16);
    options.cache = cache_of(world);
    struct engine *engine = engine_with(&options);
    char *prompt = long_prompt(50000);
    struct test_job jobs[3];
    struct engine_group group = {0};
    struct engine_job *list[3];
    const struct generation_request request = request_of(prompt, 2);
    for (size_t i = 0; i < 3; i++) {
        job_open(&jobs[i], world, &request);
        jobs[i].job.use_cache = true;
        jobs[i].job.group = &group;
        list[i] = &jobs[i].job;
    }
    assert_true(engine_submit(engine, list, 3, NULL));
    engine_cancel(engine, &jobs[0].job);
    engine_cancel(engine, &jobs[1].job);
    for (size_t i = 0; i < 3; i++) job_wait(&jobs[i]);
    assert_int_equal(jobs[0].job.outcome, ENGINE_CANCELLED);
    assert_int_equal(jobs[1].job.outcome, ENGINE_CANCELLED);
    assert_int_equal(jobs[2].job.outcome, ENGINE_DONE);
    close_engine(engine);
    for (size_t i = 0; i < 3; i++) job_close(&jobs[i]);
    state_cache_free(options.cache);
    free(prompt);
}

/* Runs a request through the engine; returns how many tokens of its prompt the cache had, checks the text. */
static size_t cached_tokens(struct engine *engine, const struct world *world, const char *prompt, bool use_cache)
{
    struct generation_request request = request_of(prompt, 20);
    struct test_job job;
    job_open(&job, world, &request);
    job.job.use_cache = use_cache;
    assert_true(job_submit(engine, &job, NULL));
    job_wait(&job);
    assert_text_as_alone(&job, world, &request);
    const size_t cached = job.job.generation.cached;
    job_close(&job);
    return cached;
}

static void test_engine_starts_from_the_longest_cached_prefix(void **state)
{
    const struct world *world = *state;
    struct engine_options options = options_of(world, 2, 2);
    options.cache = cache_of(world);
    struct engine *engine = engine_with(&options);
    char *prompt = long_prompt(250);
    assert_int_equal(cached_tokens(engine, world, prompt, false), 0);
    assert_int_equal(state_cache_numbers(options.cache).states, 0);
    assert_int_equal(cached_tokens(engine, world, prompt, true), 0);
    assert_int_equal(cached_tokens(engine, world, prompt, false), 0);
    assert_int_equal(cached_tokens(engine, world, prompt, true), 250);
    prompt[220] = prompt[220] == 'a' ? 'b' : 'a'; /* token 221, as <eos> is the first */
    assert_int_equal(cached_tokens(engine, world, prompt, true), 200);
    prompt[150] = '\0';
    assert_int_equal(cached_tokens(engine, world, prompt, true), 100);
    close_engine(engine);
    state_cache_free(options.cache);
    free(prompt);
}

static void test_engine_goes_on_from_where_a_text_ended(void **state)
{
    const struct world *world = *state;
    struct engine_options options = options_of(world, 2, 2);
    options.cache = cache_of(world);
    struct engine *engine = engine_with(&options);
    struct test_job job;
    const struct generation_request request = request_of("abc", 20);
    job_open(&job, world, &request);
    job.job.use_cache = true;
    assert_true(job_submit(engine, &job, NULL));
    job_wait(&job);
    char longer[64];
    snprintf(longer, sizeof longer, "abc%s", job.job.generation.text);
    assert_int_equal(cached_tokens(engine, world, longer, true), 1 + 3 + 19); /* the last token was not fed */
    job_close(&job);
    close_engine(engine);
    state_cache_free(options.cache);
}

static void test_engine_cancelled_jobs_leave_nothing_of_their_end_in_the_cache(void **state)
{
    const struct world *world = *state;
    struct engine_options options = options_of(world, 1, 2);
    options.cache = cache_of(world);
    struct engine *engine = engine_with(&options);
    struct test_job job;
    struct gate gate;
    gate_init(&gate);
    const struct generation_request request = request_of("abc", LONG);
    job_open(&job, world, &request);
    job.context = &gate;
    job.job.progressed = stand_at_gate;
    job.job.use_cache = true;
    assert_true(job_submit(engine, &job, NULL));
    gate_wait(&gate);
    engine_cancel(engine, &job.job);
    sem_post(&gate.open);
    job_wait(&job);
    assert_int_equal(job.job.outcome, ENGINE_CANCELLED);
    assert_int_equal(state_cache_numbers(options.cache).states, 1); /* that of the prompt, which was read */
    job_close(&job);
    close_engine(engine);
    state_cache_free(options.cache);
}

/* One slot for a text without an end and a group: the job that reads for the group is set aside after each token. */
static void assert_group_reads_while_set_aside(const struct world *world, size_t cancelled)
{
    struct engine_options options = options_of(world, 1, 16);
    options.cache = cache_of(world);
    options.share_ns = 0;
    struct engine *engine = engine_with(&options);
    char *prompt = long_prompt(5000);
    struct test_job writer, jobs[3];
    struct gate gate;
    struct engine_group group = {0};
    struct engine_job *list[3];
    const struct generation_request request = request_of(prompt, 20);
    struct generation alone;
    run_alone(&alone, world, &request);
    occupy(engine, world, &writer, &gate, LONG);
    for (size_t i = 0; i < 3; i++) {
        job_open(&jobs[i], world, &request);
        jobs[i].job.use_cache = true;
        jobs[i].job.group = &group;
        list[i] = &jobs[i].job;
    }
    assert_true(engine_submit(engine, list, 3, NULL));
    sem_post(&gate.open);
    for (size_t i = 0; i < cancelled; i++) engine_cancel(engine, &jobs[i].job);
    for (size_t i = 0; i < 3; i++) job_wait(&jobs[i]);
    for (size_t i = cancelled; i < 3; i++) assert_string_equal(jobs[i].job.generation.text, alone.text);
    if (cancelled == 0) assert_int_equal(jobs[1].job.generation.cached, 5000);
    assert_int_equal(sem_trywait(&writer.done), -1);
    close_engine(engine);
    for (size_t i = 0; i < 3; i++) job_close(&jobs[i]);
    job_close(&writer);
    generation_close(&alone);
    state_cache_free(options.cache);
    free(prompt);
}

static void test_engine_group_reads_while_its_job_is_set_aside(void **state)
{
    for (size_t cancelled = 0; cancelled < 3; cancelled++) assert_group_reads_while_set_aside(*state, cancelled);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_engine_serves_groups_in_turns),
        cmocka_unit_test(test_engine_group_reads_a_long_prompt_once),
        cmocka_unit_test(test_engine_group_goes_on_where_the_job_that_reads_is_cancelled),
        cmocka_unit_test(test_engine_starts_from_the_longest_cached_prefix),
        cmocka_unit_test(test_engine_goes_on_from_where_a_text_ended),
        cmocka_unit_test(test_engine_cancelled_jobs_leave_nothing_of_their_end_in_the_cache),
        cmocka_unit_test(test_engine_group_reads_while_its_job_is_set_aside),
    };
    return cmocka_run_group_tests(tests, world_open_default, world_close_default);
}
