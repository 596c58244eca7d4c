/* The engine: one thread that steps every running generation of a model in one batch.
 *
 * Requests join and leave between two steps, never between two batches: before each step the thread moves waiting jobs
 * into free slots, after it those that are done leave. A prompt is read in the same batch, one token per step. A job's
 * text does not depend on what runs beside it (model/step.h). The thread sleeps on a condition variable while it has
 * nothing to do, and takes no lock during a step.
 *
 * Life cycle of a job: the caller opens job->generation (so that all memory is taken before anything is promised),
 * submits, and gets job->finished() exactly once for each successful engine_submit(); in between, the job and its
 * generation belong to the engine, except for engine_cancel().
 */
#ifndef LSTMD_SERVER_ENGINE_H
#define LSTMD_SERVER_ENGINE_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/error.h"
#include "model/generate.h"
#include "model/step.h"

struct engine;

enum engine_outcome {
    ENGINE_DONE,      /* the generation ended by itself */
    ENGINE_CANCELLED, /* engine_cancel() */
    ENGINE_STOPPED,   /* engine_stop() */
};

struct engine_job {
    struct generation generation;
    /* The engine's thread, without locks; the job is the caller's again and may be freed by it. Must be short. */
    void (*finished)(struct engine_job *job);

    /* Set when finished() runs. Times are clock_monotonic_ns(); 0 where the job did not get that far. */
    enum engine_outcome outcome;
    uint64_t submitted_ns; /* engine_submit() */
    uint64_t started_ns;   /* got a slot */
    uint64_t prompted_ns;  /* the prompt was read but for its last token; what follows yields new tokens */
    uint64_t finished_ns;

    /* The engine's. */
    struct engine_job *next;
    atomic_bool cancelled;
};

/* stepper: borrowed for the engine's life. max_batch: slots. queue_limit: jobs that may wait while all slots are taken.
 * Takes all memory that stepping needs and starts the thread. */
struct engine *engine_new(const struct stepper *stepper, size_t max_batch, size_t queue_limit, struct error *err);

/* Any thread. Errors: ERROR_UNAVAILABLE at once where the queue is full or the engine was stopped. */
bool engine_submit(struct engine *engine, struct engine_job *job, struct error *err);

/* Any thread, for a job that finished() has not been called for: it leaves its slot or its place in the queue before
 * the next step. Only sets flags. May also come before engine_submit(). */
void engine_cancel(struct engine *engine, struct engine_job *job);

/* Ends all jobs (ENGINE_STOPPED) before the next step, then the thread. Once, before engine_free() (NULL allowed). */
void engine_stop(struct engine *engine);
void engine_free(struct engine *engine);

#endif
