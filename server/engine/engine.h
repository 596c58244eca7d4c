/* The engine: threads that step the running generations of a model, each thread all of its own in one batch.
 *
 * Requests join and leave between two steps: before a step a thread moves waiting jobs into free slots, after it jobs
 * that are done leave. Waiting jobs stand in one queue (server/engine/queue.h), from which the least loaded thread
 * takes them: two requests run faster on two cores than in one batch. A thread without jobs sleeps on its condition
 * variable. It takes no lock during a step, and between two steps only if a job waits or was cancelled. A job's text
 * does not depend on what runs beside it (model/generate/step.h).
 *
 * If jobs wait and all slots are taken, a job that had its slot for share_ns is set aside: it goes to the end of the
 * queue, and a waiting job takes its slot. Each job owns its hidden state, so it goes on later in any slot of any
 * thread. New jobs and those set aside get slots in turn: a short text never waits for long ones to end, and long ones
 * always go on.
 *
 * Prompts are read in the same batch, one token per step, so that a long prompt costs those beside it next to nothing.
 * While some sequences generate, each full step is followed by prompt-only steps for as long as the full step took: a
 * prompt beside 63 others is read many tokens at a time, and the others' tokens come at worst half as often. A prompt
 * that is alone in its thread is read in pieces of ENGINE_PIECE tokens (model/generate/step_piece.h), always with our
 * own kernels: the bits are the same, so neighbours change nothing, and neither does the state that the cache or a
 * client keeps.
 *
 * A job that may use the cache starts from the longest prefix of its prompt whose hidden state is there, and leaves
 * states behind: before the prompt's last token (the same prompt again then costs one step), every cache_interval
 * tokens of a long prompt, and where the generation ended by itself. Jobs of one group have the same prompt: the
 * first reads a long one, and the others wait for the state that it leaves in the cache.
 *
 * Life cycle of a job: the caller opens job->generation (so that all memory is taken before anything is promised),
 * submits, and gets job->finished() exactly once for each job of a successful engine_submit(); in between, the job and
 * its generation belong to the engine, except for engine_cancel() and what progressed() says.
 */
#ifndef LSTMD_SERVER_ENGINE_ENGINE_H
#define LSTMD_SERVER_ENGINE_ENGINE_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/error.h"
#include "model/generate/generate.h"
#include "model/generate/step.h"
#include "server/engine/state_cache.h"

struct engine;
struct engine_job;

enum engine_outcome {
    ENGINE_DONE,      /* the generation ended by itself */
    ENGINE_CANCELLED, /* engine_cancel() */
    ENGINE_TIMEOUT,   /* the deadline passed; the generation may hold text already (produced > 0) */
    ENGINE_STOPPED,   /* engine_stop() */
};

/* Waiting jobs of one group, and the line whose turn is next. */
struct engine_line {
    struct engine_job *first, *last; /* oldest first */
    struct engine_line *next;
};

/* The jobs of one request (its n continuations): all zero at first, then the engine's until the last of them finished.
 * The queue serves groups in turns, one job each, so that a request for 16 texts does not keep a request for one
 * waiting 16 times. */
struct engine_group {
    struct engine_line fresh; /* had no slot yet */
    struct engine_line aside; /* gave their slots to others */
    bool held;                /* its first job is reading the prompt for all; the fresh ones wait for that */
};

struct engine_job {
    struct generation generation;
    struct engine_group *group; /* NULL: a group of its own */

    /* Called by the engine's threads without locks; both must be short.
     * progressed (NULL: not wanted): the generation has a new token and is not done. Its thread goes on as soon as this
     * returns, so this hands over what another thread shall see: generation.text never moves and its ready part never
     * changes, so storing its size in an atomic is enough. The receiver may combine several calls.
     * finished: the job is the caller's again and may be freed by it. */
    void (*progressed)(struct engine_job *job);
    void (*finished)(struct engine_job *job);

    /* Read and fill the cache; not where the generation has a window or a start_state. generation.end_state is written
     * where the outcome is ENGINE_DONE or ENGINE_TIMEOUT and the prompt was read. */
    bool use_cache;

    /* Set when finished() runs, as generation.cached is: tokens of the prompt whose state the cache had. Times are
     * clock_monotonic_ns(); 0 where the job did not get that far. */
    enum engine_outcome outcome;
    uint64_t submitted_ns; /* engine_submit() */
    uint64_t started_ns;   /* got a slot for the first time */
    uint64_t prompted_ns;  /* the prompt was read but for its last token; what follows yields new tokens */
    uint64_t first_ns;     /* the first new token was there */
    uint64_t finished_ns;

    /* The engine's. */
    struct engine_job *next;
    struct engine_group own;
    uint64_t deadline_ns;
    float *state; /* [stepper->state_size], from engine_submit() until finished() */
    bool reading; /* the prompt's tokens but the last */
    bool caches;  /* uses the cache */
    bool leads;   /* its group is held until it has read the prompt */
    atomic_bool cancelled;
};

struct engine_options {
    const struct stepper *stepper; /* borrowed, as the cache is */
    struct state_cache *cache;     /* NULL: none */
    uint64_t model;                /* version, the cache's key */
    size_t threads;                /* 0: one per processor */
    size_t max_batch;              /* slots of each thread */
    size_t queue_limit;            /* jobs that may wait while all slots are taken; an exchange changes no number */
    uint64_t share_ns;             /* from getting a slot until a job gives it to one that waits */
    size_t cache_interval;         /* tokens of a prompt between two states that are cached */
    uint64_t timeout_ns;           /* from submission to the end of a job; 0: none */
};

/* Tokens of a prompt that are fed at once where nobody else is in the thread. A job that comes meanwhile waits for
 * them: some milliseconds of a large network. */
#define ENGINE_PIECE 16

/* Good for share_ns: a step takes a small part of it, and nobody sees a stream pause for so long. */
#define ENGINE_SHARE_NS 50000000

/* Takes all memory that stepping needs, but for the jobs' states, and starts the threads. */
struct engine *engine_new(const struct engine_options *options, struct error *err);

size_t engine_threads(const struct engine *engine);

/* Any thread. Submits the jobs of a request, all or none. Errors: ERROR_UNAVAILABLE at once where the queue has no room
 * for all of them or the engine was stopped; ERROR_NO_MEMORY. */
bool engine_submit(struct engine *engine, struct engine_job *const *jobs, size_t count, struct error *err);

/* Any thread, for a job that finished() has not been called for: it leaves its slot or its place in the queue before
 * the next step. Only sets flags. May also come before engine_submit(). */
void engine_cancel(struct engine *engine, struct engine_job *job);

/* Any thread: jobs in slots and in the queue (new ones and those set aside) at this moment; steps so far, and the
 * sequences that were stepped in them.
 */
struct engine_load {
    size_t running, waiting;
    uint64_t steps, sequences;
};
struct engine_load engine_load(struct engine *engine);

/* Ends all jobs (ENGINE_STOPPED) before the next step, then the threads. Once, before engine_free() (NULL allowed). */
void engine_stop(struct engine *engine);
void engine_free(struct engine *engine);

#endif
