#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "tests/unit/engine/engine_support.h"

#define MODEL 5

static int open_world(void **state)
{
    static struct world world;
    world_open(&world, &(struct architecture){.cell = CELL_LSTM, .layers = 1, .hidden_size = 12, .vocabulary_size = 10},
               "auto", -1e9f);
    *state = &world;
    return 0;
}

static int close_world(void **state)
{
    world_close(*state);
    return 0;
}

static struct engine_options options_of(const struct world *world, size_t max_batch, size_t queue_limit)
{
    return (struct engine_options){.stepper = &world->stepper,
                                   .model = MODEL,
                                   .threads = 1,
                                   .max_batch = max_batch,
                                   .queue_limit = queue_limit,
                                   .share_ns = UINT64_MAX, /* who has a slot keeps it */
                                   .cache_interval = 100};
}

static struct engine *engine_with(const struct engine_options *options)
{
    struct engine *engine = engine_new(options, NULL);
    assert_non_null(engine);
    return engine;
}

static struct engine *engine_of(const struct world *world, size_t max_batch, size_t queue_limit)
{
    const struct engine_options options = options_of(world, max_batch, queue_limit);
    return engine_with(&options);
}

static struct state_cache *cache_of(const struct world *world)
{
    struct state_cache *cache = state_cache_new(1 << 20, NULL);
    assert_non_null(cache);
    assert_true(state_cache_add_model(cache, MODEL, world->stepper.state_size, 10, NULL));
    return cache;
}

static struct generation_request request_of(const char *prompt, size_t length)
{
    return (struct generation_request){
        .prompt = prompt, .prompt_bytes = strlen(prompt), .length = length, .sampler = {.temperature = 1}};
}

static struct generation_request numbered(size_t i, size_t length)
{
    struct generation_request request = request_of("abc cab bac hdc", length);
    request.prompt_bytes = i % 16;
    request.seed = i;
    request.sampler.temperature = 0.5 + (double)i;
    return request;
}

static void open_numbered(struct test_job *job, const struct world *world, size_t i, size_t length)
{
    const struct generation_request request = numbered(i, length);
    job_open(job, world, &request);
}

/* Seven letters in an order that no period of seven has. */
static char *long_prompt(size_t n)
{
    char *text = malloc(n + 1);
    assert_non_null(text);
    for (size_t i = 0; i < n; i++) text[i] = (char)('a' + (i + i / 5) % 8);
    text[n] = '\0';
    return text;
}

static void test_engine_jobs_get_the_text_that_they_get_alone(void **state)
{
    const struct world *world = *state;
    enum { JOBS = 24 };
    struct test_job jobs[JOBS];
    struct engine *engine = engine_of(world, 5, JOBS);
    for (size_t i = 0; i < JOBS; i++) {
        open_numbered(&jobs[i], world, i, 40 + 7 * (i % 5));
        assert_true(job_submit(engine, &jobs[i], NULL));
    }
    for (size_t i = 0; i < JOBS; i++) {
        struct engine_job *job = &jobs[i].job;
        job_wait(&jobs[i]);
        assert_int_equal(job->outcome, ENGINE_DONE);
        assert_true(job->submitted_ns <= job->started_ns && job->started_ns <= job->prompted_ns);
        assert_true(job->prompted_ns < job->finished_ns);
        struct generation alone;
        const struct generation_request request = numbered(i, 40 + 7 * (i % 5));
        run_alone(&alone, world, &request);
        assert_int_equal(job->generation.text_bytes, 40 + 7 * (i % 5));
        assert_string_equal(job->generation.text, alone.text);
        generation_close(&alone);
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
        struct generation alone;
        struct generation_request request = numbered(i, 30);
        request.window.size = (uint32_t)(i % 3) * 4;
        run_alone(&alone, world, &request);
        job_wait(&jobs[i]);
        assert_string_equal(jobs[i].job.generation.text, alone.text);
        generation_close(&alone);
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
        open_numbered(&job, world, 0, 100);
        assert_true(job_submit(engine, &job, NULL));
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

/* A job that keeps the engine's thread in its first progressed() until the test opens the gate. */
struct gate {
    sem_t reached, open;
    bool passed;
};

static void gate_init(struct gate *gate)
{
    gate->passed = false;
    sem_init(&gate->reached, 0, 0);
    sem_init(&gate->open, 0, 0);
}

static void stand_at_gate(struct engine_job *job)
{
    struct gate *gate = ((struct test_job *)job)->context;
    if (gate->passed) return;
    gate->passed = true;
    sem_post(&gate->reached);
    while (sem_wait(&gate->open) != 0) continue;
}

/* Submits the job and returns while the thread stands still in it. */
static void occupy(struct engine *engine, const struct world *world, struct test_job *job, struct gate *gate,
                   size_t length)
{
    gate_init(gate);
    open_numbered(job, world, 0, length);
    job->context = gate;
    job->job.progressed = stand_at_gate;
    assert_true(job_submit(engine, job, NULL));
    while (sem_wait(&gate->reached) != 0) continue;
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
    open_numbered(&waiting, world, 1, LONG);
    assert_true(job_submit(engine, &waiting, NULL));
    while (clock_monotonic_ns() < waiting.job.submitted_ns + options.timeout_ns) continue;
    sem_post(&gate.open);
    job_wait(&running);
    job_wait(&waiting);
    assert_int_equal(running.job.outcome, ENGINE_TIMEOUT);
    assert_true(running.job.generation.produced > 0);
    assert_int_equal(waiting.job.outcome, ENGINE_TIMEOUT);
    assert_int_equal(waiting.job.started_ns, 0);
    struct test_job later; /* the slot is free again */
    open_numbered(&later, world, 2, 1);
    assert_true(job_submit(engine, &later, NULL));
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
        for (size_t i = 0; i < 2; i++)
            while (sem_wait(&gates[i].reached) != 0) continue;
        for (size_t i = 0; i < 2; i++) sem_post(&gates[i].open);
        for (size_t i = 0; i < 2; i++) job_wait(&jobs[i]);
        close_engine(engine);
        for (size_t i = 0; i < 2; i++) job_close(&jobs[i]);
    }
}

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
        struct generation alone;
        struct generation_request request = request_of(prompt, 30);
        request.seed = i;
        run_alone(&alone, world, &request);
        assert_string_equal(jobs[i].job.generation.text, alone.text);
        generation_close(&alone);
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
    struct generation alone;
    job_open(&job, world, &request);
    job.job.use_cache = use_cache;
    assert_true(job_submit(engine, &job, NULL));
    job_wait(&job);
    run_alone(&alone, world, &request);
    assert_string_equal(job.job.generation.text, alone.text);
    const size_t cached = job.job.generation.cached;
    generation_close(&alone);
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
    while (sem_wait(&gate.reached) != 0) continue;
    engine_cancel(engine, &job.job);
    sem_post(&gate.open);
    job_wait(&job);
    assert_int_equal(job.job.outcome, ENGINE_CANCELLED);
    assert_int_equal(state_cache_numbers(options.cache).states, 1); /* that of the prompt, which was read */
    job_close(&job);
    close_engine(engine);
    state_cache_free(options.cache);
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
    first.job.end_state = middle;
    assert_true(job_submit(engine, &first, NULL));
    job_wait(&first);
    struct generation_request rest = request_of("", 18);
    rest.sampler.temperature = 0;
    rest.continues = true;
    rest.pending = generation_token(&first.job.generation);
    job_open(&second, world, &rest);
    second.job.start_state = middle;
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

static void assert_begins_as_alone(const struct test_job *job, const struct world *world, size_t i, size_t length)
{
    struct generation alone;
    const struct generation_request request = numbered(i, length);
    run_alone(&alone, world, &request);
    assert_true(job->job.generation.text_ready >= alone.text_bytes);
    assert_memory_equal(job->job.generation.text, alone.text, alone.text_bytes);
    generation_close(&alone);
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
    open_numbered(&jobs[SHORT], world, SHORT, SHORT_TOKENS);
    assert_true(job_submit(engine, &jobs[SHORT], NULL));
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
    while (sem_wait(&gates[1].reached) != 0) continue;
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

/* Its session goes on from where it stood. */
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
    aside.job.end_state = ends[0]; /* nobody looks at it before the gate opens */
    while (clock_monotonic_ns() < aside.job.submitted_ns + options.timeout_ns) continue;
    sem_post(&gates[1].open);
    job_wait(&aside);
    job_wait(&other);
    assert_int_equal(aside.job.outcome, ENGINE_TIMEOUT);
    open_numbered(&again, world, 0, aside.job.generation.produced);
    again.job.end_state = ends[1];
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
        cmocka_unit_test(test_engine_serves_groups_in_turns),
        cmocka_unit_test(test_engine_group_reads_a_long_prompt_once),
        cmocka_unit_test(test_engine_group_goes_on_where_the_job_that_reads_is_cancelled),
        cmocka_unit_test(test_engine_starts_from_the_longest_cached_prefix),
        cmocka_unit_test(test_engine_goes_on_from_where_a_text_ended),
        cmocka_unit_test(test_engine_cancelled_jobs_leave_nothing_of_their_end_in_the_cache),
        cmocka_unit_test(test_engine_session_continues_as_one_long_request_would),
        cmocka_unit_test(test_engine_reads_a_prompt_faster_than_others_write),
        cmocka_unit_test(test_engine_long_jobs_keep_no_short_one_waiting),
        cmocka_unit_test(test_engine_cancels_and_stops_jobs_that_are_set_aside),
        cmocka_unit_test(test_engine_deadline_ends_jobs_that_are_set_aside),
        cmocka_unit_test(test_engine_group_reads_while_its_job_is_set_aside),
        cmocka_unit_test(test_engine_submit_survives_failing_allocations),
        cmocka_unit_test(test_engine_new_survives_failing_allocations),
        cmocka_unit_test(test_engine_has_a_thread_per_processor_unless_told),
    };
    return cmocka_run_group_tests(tests, open_world, close_world);
}
