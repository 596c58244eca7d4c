/* server/engine: a request gets the same text as if it ran alone. This holds for any other requests, for requests that
 * join or leave at any time, for any number of threads and for any cached state. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/rng.h"
#include "model/network/quantize.h"
#include "tests/unit/engine/engine_support.h"

#define MODEL       9
#define JOBS        48
#define MAX_PROMPT  400
#define MAX_LENGTH  60
#define LEAVES_NONE SIZE_MAX

/* A request with what it refers to, and when its client leaves. */
struct wish {
    struct generation_request request;
    char prompt[MAX_PROMPT];
    struct text_span stop;
    struct logit_bias bias;
    size_t leaves_after; /* tokens; 0: at once */
    bool use_cache;
    size_t group;
};

struct mix_job {
    struct test_job test; /* first */
    struct engine *engine;
    size_t seen, leaves_after;
    sem_t *places; /* posted when a job is over: the queue may have room again */
};

static struct rng rng;

static size_t below(size_t n)
{
    return (size_t)rng_below(&rng, n);
}

/* Prompts share beginnings of all lengths; a few are long enough to be read by one of a group. */
static void make_prompt(struct wish *wish)
{
    const size_t n = below(4) == 0 ? below(MAX_PROMPT) : below(30), family = below(3), parting = below(n + 1);
    for (size_t i = 0; i < n; i++) wish->prompt[i] = "abcdefgh "[(i < parting ? i * (family + 1) : below(9)) % 9];
    wish->request.prompt = wish->prompt;
    wish->request.prompt_bytes = n;
}

static void make_wish(struct wish *wish, size_t i)
{
    static const double temperatures[] = {0, 0.3, 1, 1, 2, 50};
    static const char *const stops[] = {"a", "ab", "dcb", " h", "gg"};
    *wish = (struct wish){.request = {.length = 1 + below(MAX_LENGTH), .seed = below(1000)}, .group = i};
    make_prompt(wish);
    wish->request.ignore_eos = below(3) == 0;
    wish->request.logprobs = below(4) == 0 ? 1 + below(4) : 0;
    struct sampler_options *sampler = &wish->request.sampler;
    sampler->temperature = temperatures[below(6)];
    sampler->top_k = below(3) == 0 ? 1 + below(10) : 0;
    sampler->top_p = below(3) == 0 ? 0.2 + 0.1 * (double)below(8) : 1;
    sampler->min_p = below(3) == 0 ? 0.05 * (double)below(8) : 0;
    sampler->repetition_window = below(2) == 0 ? 1 + below(40) : 0;
    sampler->repetition_penalty = 1 + 0.1 * (double)below(8);
    sampler->presence_penalty = 0.2 * (double)below(5);
    sampler->frequency_penalty = 0.2 * (double)below(5);
    if (below(4) == 0) {
        wish->bias = (struct logit_bias){.id = (uint32_t)(1 + below(8)), .bias = (float)below(5) - 2};
        sampler->bias = &wish->bias;
        sampler->bias_count = 1;
    }
    if (below(3) == 0) {
        const char *text = stops[below(5)];
        wish->stop = (struct text_span){text, strlen(text)};
        wish->request.stop = &wish->stop;
        wish->request.stop_count = 1;
    }
    wish->leaves_after = below(5) == 0 ? below(20) : LEAVES_NONE;
    wish->use_cache = below(4) != 0;
}

/* Some wishes are continuations of the one before: the same prompt, the next seed, one group. */
static void make_wishes(struct wish wishes[JOBS])
{
    for (size_t i = 0; i < JOBS; i++) {
        make_wish(&wishes[i], i);
        if (i == 0 || below(3) > 0) continue;
        const struct wish *before = &wishes[i - 1];
        memcpy(wishes[i].prompt, before->prompt, sizeof before->prompt);
        wishes[i].request.prompt_bytes = before->request.prompt_bytes;
        wishes[i].use_cache = before->use_cache;
        wishes[i].group = before->group;
    }
}

static void progressed(struct engine_job *job)
{
    struct mix_job *mine = (struct mix_job *)job;
    if (++mine->seen == mine->leaves_after) engine_cancel(mine->engine, job);
}

static void finished(struct engine_job *job)
{
    struct mix_job *mine = (struct mix_job *)job;
    sem_t *places = mine->places; /* the job may be gone once its own semaphore is posted */
    sem_post(&mine->test.done);
    sem_post(places);
}

static void submit(struct engine *engine, struct mix_job *jobs, size_t first, size_t count, sem_t *places)
{
    struct engine_job *list[JOBS];
    for (size_t i = 0; i < count; i++) list[i] = &jobs[first + i].test.job;
    while (!engine_submit(engine, list, count, NULL))
        while (sem_wait(places) != 0) continue;
    for (size_t i = 0; i < count; i++)
        if (jobs[first + i].leaves_after == 0) engine_cancel(engine, list[i]);
}

static void open_mix_job(struct mix_job *job, const struct world *world, struct engine *engine, const struct wish *wish,
                         struct engine_group *groups, sem_t *places)
{
    *job = (struct mix_job){.engine = engine, .leaves_after = wish->leaves_after, .places = places};
    job_open(&job->test, world, &wish->request);
    job->test.job.progressed = progressed;
    job->test.job.finished = finished;
    job->test.job.use_cache = wish->use_cache;
    job->test.job.group = &groups[wish->group];
}

static void assert_text_is_that_of(const struct mix_job *job, const struct wish *wish, const struct world *world,
                                   const char *what)
{
    const struct generation *generation = &job->test.job.generation;
    struct generation alone;
    run_alone(&alone, world, &wish->request);
    const bool done = job->test.job.outcome == ENGINE_DONE;
    if (!done) assert_int_equal(job->test.job.outcome, ENGINE_CANCELLED);
    if (!done) assert_true(wish->leaves_after != LEAVES_NONE);
    if (done) assert_int_equal(generation->finish, alone.finish);
    if (done) assert_int_equal(generation->produced, alone.produced);
    if (done) assert_int_equal(generation->text_bytes, alone.text_bytes);
    /* Who left has a beginning of the text. */
    if (memcmp(generation->text, alone.text, generation->text_ready) != 0 || generation->text_ready > alone.text_bytes)
        fail_msg("%s: \"%.*s\" instead of \"%s\"", what, (int)generation->text_ready, generation->text, alone.text);
    for (size_t i = 0; i < generation->produced; i++) {
        assert_int_equal(generation->tokens[i].id, alone.tokens[i].id);
        assert_memory_equal(&generation->tokens[i].logprob, &alone.tokens[i].logprob, sizeof(float));
    }
    generation_close(&alone);
}

struct counts {
    size_t cached, cancelled;
};

static void run_mix(const struct world *world, const struct engine_options *options, struct counts *counts)
{
    static struct wish wishes[JOBS];
    static struct mix_job jobs[JOBS];
    struct engine_group groups[JOBS] = {0};
    sem_t places;
    char what[120];
    snprintf(what, sizeof what, "%s, %s, %zu threads of %zu, cache %d", world->stepper.kernels->name,
             kernel_format_name(world->stepper.weights.format), options->threads, options->max_batch,
             options->cache != NULL);
    sem_init(&places, 0, 0);
    make_wishes(wishes);
    struct engine *engine = engine_new(options, NULL);
    assert_non_null(engine);
    for (size_t i = 0; i < JOBS; i++) open_mix_job(&jobs[i], world, engine, &wishes[i], groups, &places);
    for (size_t i = 0, n; i < JOBS; i += n) {
        n = 1;
        while (i + n < JOBS && n < options->max_batch && wishes[i + n].group == wishes[i].group) n++;
        submit(engine, jobs, i, n, &places);
    }
    for (size_t i = 0; i < JOBS; i++) {
        job_wait(&jobs[i].test);
        counts->cached += jobs[i].test.job.generation.cached > 0;
        counts->cancelled += jobs[i].test.job.outcome == ENGINE_CANCELLED;
        assert_text_is_that_of(&jobs[i], &wishes[i], world, what);
    }
    close_engine(engine);
    for (size_t i = 0; i < JOBS; i++) job_close(&jobs[i].test);
    sem_destroy(&places);
}

/* Float32 on any number of threads. The other formats on one number only: threads do not depend on weights. */
static void run_world(const struct world *world, struct counts *counts)
{
    const bool all = world->stepper.weights.format == KERNEL_F32;
    for (size_t threads = all ? 1 : 3; threads <= (all ? 4 : 3); threads++) {
        const size_t max_bytes = (size_t)3000 << below(5); /* from nearly nothing to all there is */
        struct state_cache *cache = below(4) > 0 ? state_cache_new(max_bytes, NULL) : NULL;
        if (cache) assert_true(state_cache_add_model(cache, MODEL, world->stepper.state_size, 10, NULL));
        const struct engine_options options = {.stepper = &world->stepper,
                                               .cache = cache,
                                               .model = MODEL,
                                               .threads = threads,
                                               .max_batch = 1 + below(9),
                                               .queue_limit = below(20),
                                               .share_ns = below(2) ? 0 : 20000 * below(5), /* often after each step */
                                               .cache_interval = 1 + below(50)};
        run_mix(world, &options, counts);
        if (cache) run_mix(world, &options, counts); /* the cache is warm */
        state_cache_free(cache);
    }
}

static void run_kernel(const char *kernel, enum kernel_format format, struct counts *counts)
{
    static const struct architecture architectures[] = {
        {.cell = CELL_LSTM, .layers = 2, .hidden_size = 20, .vocabulary_size = 10},
        {.cell = CELL_GRU, .layers = 1, .hidden_size = 17, .embedding_size = 6, .vocabulary_size = 10},
        {.cell = CELL_RNN, .layers = 1, .hidden_size = 40, .vocabulary_size = 10},
        {.cell = CELL_LSTM,
         .layers = 1,
         .hidden_size = 24,
         .embedding_size = 24,
         .vocabulary_size = 10,
         .tie_weights = true}};
    for (size_t i = 0; i < sizeof architectures / sizeof architectures[0]; i++) {
        struct world world;
        world_open_as(&world, &architectures[i], kernel, format, -1);
        run_world(&world, counts);
        world_close(&world);
    }
}

static void test_engine_text_does_not_depend_on_company_threads_or_cache(void **state)
{
    (void)state;
    static const char *const kernels[] = {"ref", "portable", "avx2", "avx512", "avx512vnni", "neon"};
    struct counts counts = {0};
    for (size_t i = 0; i < sizeof kernels / sizeof kernels[0]; i++) {
        if (!kernels_select(kernels[i])) continue;
        for (enum kernel_format format = KERNEL_F32; format <= KERNEL_INT8; format++) {
            rng_seed(&rng, 20 + format, i);
            run_kernel(kernels[i], format, &counts);
        }
    }
    /* All of it happened. */
    assert_true(counts.cached > 100);
    assert_true(counts.cancelled > 50);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_engine_text_does_not_depend_on_company_threads_or_cache),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
