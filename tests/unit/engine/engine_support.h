/* Shared by the tests of the engine: a small model, and jobs to wait for. Asserts that nothing fails. */
#ifndef LSTMD_TESTS_UNIT_ENGINE_ENGINE_SUPPORT_H
#define LSTMD_TESTS_UNIT_ENGINE_ENGINE_SUPPORT_H

#include <semaphore.h>

#include "server/engine/engine.h"
#include "tests/unit/network/reference.h"
#include "tests/unit/support.h"

#define TEST_MODEL 5       /* the version in engine_options and in the cache */
#define LONG       2000000 /* tokens: more than any test waits for */

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

/* Asserts that the job's text is the one of run_alone(). */
void assert_text_as_alone(const struct test_job *job, const struct world *world,
                          const struct generation_request *request);

/* One thread, no cache, no deadline; who has a slot keeps it. */
struct engine_options options_of(const struct world *world, size_t max_batch, size_t queue_limit);
struct engine *engine_with(const struct engine_options *options);
struct engine *engine_of(const struct world *world, size_t max_batch, size_t queue_limit); /* both */
void close_engine(struct engine *engine);

struct state_cache *cache_of(const struct world *world);

/* At temperature 1. */
struct generation_request request_of(const char *prompt, size_t length);

/* A letter of eight after the other, in an order that no period of seven has; the caller frees it. */
char *long_prompt(size_t n);

/* The i-th of many different requests, and a job for it, open and submitted. */
struct generation_request numbered(size_t i, size_t length);
void open_numbered(struct test_job *job, const struct world *world, size_t i, size_t length);
void submit_numbered(struct engine *engine, const struct world *world, struct test_job *job, size_t i, size_t length);

/* Asserts that the first `length` tokens of the i-th are those of run_alone(). */
void assert_begins_as_alone(const struct test_job *job, const struct world *world, size_t i, size_t length);

/* A job whose `progressed` is stand_at_gate() and whose context is the gate keeps the engine's thread in its first
 * token until the test posts `open`. */
struct gate {
    sem_t reached, open;
    bool passed;
};
void gate_init(struct gate *gate);
void stand_at_gate(struct engine_job *job);
void gate_wait(struct gate *gate); /* until the job stands there */

/* Submits the job of numbered(0, length) and returns while the thread stands still in it. */
void occupy(struct engine *engine, const struct world *world, struct test_job *job, struct gate *gate, size_t length);

/* The world of a group of tests: *state is a struct world of an LSTM with 12 units. */
int world_open_default(void **state);
int world_close_default(void **state);

#endif
