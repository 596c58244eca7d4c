#include "tests/unit/engine/engine_support.h"

#include <stdlib.h>
#include <string.h>

static const char vocabulary_json[] =
    "{\"level\": \"char\", \"tokens\": [\"<eos>\", \"a\", \"b\", \"c\", \"d\", \"e\", \"f\", \"g\", \"h\", \" \"], "
    "\"eos\": 0, \"pad\": null, \"unknown\": null}";

void world_open(struct world *world, const struct architecture *architecture, const char *kernels, float eos_bias)
{
    world_open_as(world, architecture, kernels, KERNEL_F32, eos_bias);
}

void world_open_as(struct world *world, const struct architecture *architecture, const char *kernels,
                   enum kernel_format format, float eos_bias)
{
    world->vocabulary = vocabulary_from_json(vocabulary_json, sizeof vocabulary_json - 1, "test", NULL);
    assert_non_null(world->vocabulary);
    reference_random_network(&world->network, architecture, 3, 1.0);
    world->network.output_bias[0] = eos_bias;
    assert_true(stepper_open_as(&world->stepper, &world->network, kernels_select(kernels), format, NULL));
}

void world_close(struct world *world)
{
    stepper_close(&world->stepper);
    network_close(&world->network);
    vocabulary_free(world->vocabulary);
}

static void finished(struct engine_job *job)
{
    sem_post(&((struct test_job *)job)->done);
}

static void open_generation(struct generation *generation, const struct world *world,
                            const struct generation_request *request)
{
    struct generation_request with_kernels = *request;
    struct error err = {0};
    with_kernels.kernels = world->stepper.kernels;
    if (!generation_open(generation, world->vocabulary, &with_kernels, NULL, &err)) fail_msg("%s", err.message);
}

void job_open(struct test_job *job, const struct world *world, const struct generation_request *request)
{
    *job = (struct test_job){.job.finished = finished};
    assert_int_equal(sem_init(&job->done, 0, 0), 0);
    open_generation(&job->job.generation, world, request);
}

void job_wait(struct test_job *job)
{
    while (sem_wait(&job->done) != 0) continue;
}

void job_close(struct test_job *job)
{
    generation_close(&job->job.generation);
    sem_destroy(&job->done);
}

bool job_submit(struct engine *engine, struct test_job *job, struct error *err)
{
    return engine_submit(engine, &(struct engine_job *){&job->job}, 1, err);
}

void run_alone(struct generation *generation, const struct world *world, const struct generation_request *request)
{
    open_generation(generation, world, request);
    assert_true(generation_run(generation, &world->stepper, NULL, NULL, NULL));
}

void close_engine(struct engine *engine)
{
    engine_stop(engine);
    engine_free(engine);
}

int world_open_default(void **state)
{
    static struct world world;
    world_open(&world, &(struct architecture){.cell = CELL_LSTM, .layers = 1, .hidden_size = 12, .vocabulary_size = 10},
               "auto", -1e9f);
    *state = &world;
    return 0;
}

int world_close_default(void **state)
{
    world_close(*state);
    return 0;
}

struct engine_options options_of(const struct world *world, size_t max_batch, size_t queue_limit)
{
    return (struct engine_options){.stepper = &world->stepper,
                                   .model = TEST_MODEL,
                                   .threads = 1,
                                   .max_batch = max_batch,
                                   .queue_limit = queue_limit,
                                   .share_ns = UINT64_MAX, /* who has a slot keeps it */
                                   .cache_interval = 100};
}

struct engine *engine_with(const struct engine_options *options)
{
    struct engine *engine = engine_new(options, NULL);
    assert_non_null(engine);
    return engine;
}

struct engine *engine_of(const struct world *world, size_t max_batch, size_t queue_limit)
{
    const struct engine_options options = options_of(world, max_batch, queue_limit);
    return engine_with(&options);
}

struct state_cache *cache_of(const struct world *world)
{
    struct state_cache *cache = state_cache_new(1 << 20, NULL);
    assert_non_null(cache);
    assert_true(state_cache_add_model(cache, TEST_MODEL, world->stepper.state_size, 10, NULL));
    return cache;
}

struct generation_request request_of(const char *prompt, size_t length)
{
    return (struct generation_request){
        .prompt = prompt, .prompt_bytes = strlen(prompt), .length = length, .sampler = {.temperature = 1}};
}

struct generation_request numbered(size_t i, size_t length)
{
    struct generation_request request = request_of("abc cab bac hdc", length);
    request.prompt_bytes = i % 16;
    request.seed = i;
    request.sampler.temperature = 0.5 + (double)i;
    return request;
}

void open_numbered(struct test_job *job, const struct world *world, size_t i, size_t length)
{
    const struct generation_request request = numbered(i, length);
    job_open(job, world, &request);
}

/* Seven letters in an order that no period of seven has. */
char *long_prompt(size_t n)
{
    char *text = malloc(n + 1);
    assert_non_null(text);
    for (size_t i = 0; i < n; i++) text[i] = (char)('a' + (i + i / 5) % 8);
    text[n] = '\0';
    return text;
}

void gate_init(struct gate *gate)
{
    gate->passed = false;
    sem_init(&gate->reached, 0, 0);
    sem_init(&gate->open, 0, 0);
}

void stand_at_gate(struct engine_job *job)
{
    struct gate *gate = ((struct test_job *)job)->context;
    if (gate->passed) return;
    gate->passed = true;
    sem_post(&gate->reached);
    while (sem_wait(&gate->open) != 0) continue;
}

/* Submits the job and returns while the thread stands still in it. */
void occupy(struct engine *engine, const struct world *world, struct test_job *job, struct gate *gate, size_t length)
{
    gate_init(gate);
    open_numbered(job, world, 0, length);
    job->context = gate;
    job->job.progressed = stand_at_gate;
    assert_true(job_submit(engine, job, NULL));
    gate_wait(gate);
}

void assert_begins_as_alone(const struct test_job *job, const struct world *world, size_t i, size_t length)
{
    struct generation alone;
    const struct generation_request request = numbered(i, length);
    run_alone(&alone, world, &request);
    assert_true(job->job.generation.text_ready >= alone.text_bytes);
    assert_memory_equal(job->job.generation.text, alone.text, alone.text_bytes);
    generation_close(&alone);
}

void submit_numbered(struct engine *engine, const struct world *world, struct test_job *job, size_t i, size_t length)
{
    open_numbered(job, world, i, length);
    assert_true(job_submit(engine, job, NULL));
}

void assert_text_as_alone(const struct test_job *job, const struct world *world,
                          const struct generation_request *request)
{
    struct generation alone;
    run_alone(&alone, world, request);
    assert_int_equal(job->job.generation.text_bytes, alone.text_bytes);
    assert_string_equal(job->job.generation.text, alone.text);
    generation_close(&alone);
}

void gate_wait(struct gate *gate)
{
    while (sem_wait(&gate->reached) != 0) continue;
}
