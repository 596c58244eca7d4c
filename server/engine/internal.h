/* What the files of the engine share. Each calls only those below it:
 *
 *   engine.c  what the rest of the daemon calls: life, submission, cancellation
 *   thread.c  the loop of a thread: step, let jobs in and out
 *   job.c     a job's way from its first token to its end
 *   slots.c   which job gets a slot; the mutex is locked
 *   queue.c   the jobs that wait
 */
#ifndef LSTMD_SERVER_ENGINE_INTERNAL_H
#define LSTMD_SERVER_ENGINE_INTERNAL_H

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/arena.h"
#include "model/generate/step_piece.h"
#include "server/engine/engine.h"
#include "server/engine/queue.h"

#define NEVER UINT64_MAX /* a deadline */

/* A job beside the memory that it steps with. Slots 0 .. running-1 are taken; a slot that becomes free changes places
 * with the last taken one, so a batch has no holes. */
struct engine_slot {
    struct engine_job *job;
    float *logits;     /* [logits_size] */
    uint64_t since_ns; /* the job has it */
};

struct engine_thread {
    _Alignas(64) atomic_size_t running;    /* grows under the engine's mutex */
    atomic_uint_fast64_t steps, sequences; /* written by the thread alone */
    struct engine *engine;
    pthread_t handle;
    pthread_cond_t wake;
    bool sleeping; /* under the engine's mutex; whoever wakes the thread clears it, so nobody wakes it twice */
    bool started;

    /* The thread's own. */
    struct step_scratch scratch;
    struct step_piece piece;   /* of a prompt that is read alone */
    struct engine_slot *slots; /* [max_batch] */
    size_t *stepped;           /* [max_batch] slots, and arguments of step(): */
    uint32_t *tokens;
    float **states, **logits;
    uint64_t deadline;   /* not after the first one of its jobs */
    uint64_t share_end;  /* when the first share of its jobs ends; for a thread without free slots */
    size_t hand;         /* the slot whose job goes next */
    unsigned long swept; /* cancellations that were looked at */
    struct arena arena;
};

struct engine {
    struct engine_options options;
    struct engine_thread *threads; /* [options.threads] */
    struct arena arena;

    /* What a thread looks at between two steps; written under the mutex, but for `cancellations`. */
    atomic_ulong cancellations; /* calls of engine_cancel(): tells threads to look at the flags of their jobs */
    atomic_bool stopping;
    atomic_size_t ready;           /* queue.ready */
    atomic_uint_fast64_t deadline; /* not after the first one of a waiting job */

    pthread_mutex_t mutex; /* guards what follows, and what is named above; no lock is taken under it */
    struct engine_queue queue;
    unsigned long swept; /* cancellations that the queue was looked through for */
};

/* --- thread.c --- */

/* Takes the thread's memory and starts it. thread->engine and thread->wake are set. */
bool engine_thread_start(struct engine_thread *thread, struct error *err);

/* --- job.c; without the mutex --- */

/* The job has a slot for the first time: its state comes from the cache, its session, or is zero. */
void engine_job_start(struct engine *engine, struct engine_job *job);

/* One token was fed. logits: [V], or NULL where none were wanted. */
void engine_job_advance(struct engine *engine, struct engine_job *job, float *logits);

/* The job has left its slot or the queue: sets its outcome, fills the cache and end_state, lets its group go. */
void engine_job_end(struct engine *engine, struct engine_job *job, enum engine_outcome outcome);

/* Gives jobs that have their outcome back, linked by `next`. */
void engine_jobs_finish(struct engine_job *jobs);

void engine_job_free_state(struct engine_job *job);

/* The outcome of a job for which engine_job_is_over() is true. */
enum engine_outcome engine_job_outcome(const struct engine_job *job);

/* --- slots.c; with the mutex locked, but for engine_job_is_over() --- */

/* Wakes up to n sleeping threads. */
void engine_wake(struct engine *engine, size_t n);

size_t engine_free_slots(struct engine *engine);

/* Notes the job's deadline before the job is in the queue. */
void engine_expect_deadline(struct engine *engine, const struct engine_job *job);

/* A job that is in the queue now may have been cancelled before: threads may have looked for it there already, so they
 * look again. */
void engine_expect_cancellation(struct engine *engine, const struct engine_job *job);

/* Moves ready jobs into the thread's free slots, as long as no other thread should take them; where all slots of all
 * threads are taken, into those of jobs that had their share. */
void engine_admit(struct engine_thread *thread);

struct engine_sweep {
    uint64_t now, deadline; /* deadline: the first of those that stay */
};

/* Whether the job was cancelled or is late; context: struct engine_sweep. */
bool engine_job_is_over(struct engine_job *job, void *context);

/* Takes jobs that are over out of the queue, linked by `next`. */
struct engine_job *engine_sweep_queue(struct engine *engine, unsigned long cancellations, uint64_t now);

#endif
