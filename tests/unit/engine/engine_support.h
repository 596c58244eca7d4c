/* What the tests of the engine share: a small model, and jobs that can be waited for. Asserts where something fails. */
#ifndef LSTMD_TESTS_UNIT_ENGINE_ENGINE_SUPPORT_H
#define LSTMD_TESTS_UNIT_ENGINE_ENGINE_SUPPORT_H

#include <semaphore.h>

#include "server/engine/engine.h"
#include "tests/unit/network/reference.h"
#include "tests/unit/support.h"

#define LONG 2000000 /* tokens: more than any test waits for */

/* Characters a to h and space, <eos> is 0. */
struct world {
    struct vocabulary *vocabulary;
    struct network network;
    struct stepper stepper;
};

/* eos_bias: -1e9 for texts that never end by themselves. */
void world_open(struct world *world, const struct architecture *architecture, const char *kernels, float eos_bias);
void world_open_as(struct world *world, const struct architecture *architecture, const char *kernels,
                   enum kernel_format format, float eos_bias);
void world_close(struct world *world);

struct test_job {
    struct engine_job job; /* first */
    sem_t done;            /* posted by finished() */
    void *context;         /* the test's */
};

/* A job whose prompt is the text, greedy unless the request is changed: opens the generation. */
void job_open(struct test_job *job, const struct world *world, const struct generation_request *request);
void job_wait(struct test_job *job);
void job_close(struct test_job *job);

bool job_submit(struct engine *engine, struct test_job *job, struct error *err);

/* The same request, run without an engine. */
void run_alone(struct generation *generation, const struct world *world, const struct generation_request *request);

void close_engine(struct engine *engine);

#endif
