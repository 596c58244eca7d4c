#include "tests/unit/engine/engine_support.h"

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
