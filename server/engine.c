#include "server/engine.h"

#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"

/* A job beside the memory that it steps with. Slots 0 .. running-1 are taken; a slot that becomes free changes places
 * with the last taken one, so a batch has no holes. */
struct slot {
    struct engine_job *job;
    float *state;  /* [state_size] */
    float *logits; /* [logits_size] */
    bool reading;  /* the prompt's tokens but the last */
};

struct engine {
    const struct stepper *stepper;
    size_t max_batch, queue_limit;
    atomic_ulong cancellations; /* calls of engine_cancel(): tells the thread to look at the flags of its jobs */

    /* The thread's own. */
    pthread_t thread;
    struct step_scratch scratch;
    struct slot *slots;  /* [max_batch] */
    uint32_t *tokens;    /* [max_batch], arguments of step() */
    float **states;      /* [max_batch] */
    float **logits;      /* [max_batch] */
    size_t running;      /* written under the mutex, too: engine_submit() reads it */
    unsigned long swept; /* cancellations that were looked at */
    struct arena arena;

    pthread_mutex_t
        mutex; /* guards the queue, `stopping` and, for other threads, `running`; no lock is taken under it */
    pthread_cond_t changed;
    struct engine_job *first, **last; /* waiting jobs, oldest first */
    size_t waiting;
    bool stopping;
};

static bool take_memory(struct engine *engine, struct error *err)
{
    const struct stepper *stepper = engine->stepper;
    const size_t n = engine->max_batch;
    struct arena *arena = &engine->arena;
    engine->slots = arena_alloc(arena, n, sizeof *engine->slots, "the engine's slots", err);
    engine->tokens = arena_alloc(arena, n, sizeof *engine->tokens, "the engine's tokens", err);
    engine->states = arena_alloc(arena, n, sizeof *engine->states, "the engine's states", err);
    engine->logits = arena_alloc(arena, n, sizeof *engine->logits, "the engine's logits", err);
    if (!engine->slots || !engine->tokens || !engine->states || !engine->logits) return false;
    for (size_t i = 0; i < n; i++) {
        engine->slots[i].state = arena_alloc(arena, stepper->state_size, sizeof(float), "a hidden state", err);
        engine->slots[i].logits = arena_alloc(arena, stepper->logits_size, sizeof(float), "logits", err);
        if (!engine->slots[i].state || !engine->slots[i].logits) return false;
    }
    return step_scratch_open(&engine->scratch, stepper, n, err);
}

static void *engine_main(void *argument);

struct engine *engine_new(const struct stepper *stepper, size_t max_batch, size_t queue_limit, struct error *err)
{
    struct engine *engine = calloc(1, sizeof *engine);
    if (!engine) {
        error_set_no_memory(err, sizeof *engine, "the engine");
        return NULL;
    }
    engine->stepper = stepper;
    engine->max_batch = max_batch;
    engine->queue_limit = queue_limit;
    engine->last = &engine->first;
    pthread_mutex_init(&engine->mutex, NULL);
    pthread_cond_init(&engine->changed, NULL);
    if (take_memory(engine, err)) {
        int code = pthread_create(&engine->thread, NULL, engine_main, engine);
        if (code == 0) return engine;
        error_set_errno(err, code, "cannot start the engine's thread");
    }
    engine_free(engine);
    return NULL;
}

bool engine_submit(struct engine *engine, struct engine_job *job, struct error *err)
{
    job->next = NULL;
    job->submitted_ns = clock_monotonic_ns();
    job->started_ns = job->prompted_ns = job->finished_ns = 0;
    pthread_mutex_lock(&engine->mutex);
    const bool stopping = engine->stopping;
    const bool full = engine->waiting >= engine->queue_limit + (engine->max_batch - engine->running);
    if (!stopping && !full) {
        *engine->last = job;
        engine->last = &job->next;
        engine->waiting++;
        pthread_cond_signal(&engine->changed);
    }
    pthread_mutex_unlock(&engine->mutex);
    if (stopping) return error_set(err, ERROR_UNAVAILABLE, "the daemon is shutting down");
    if (full)
        return error_set(err, ERROR_UNAVAILABLE, "%zu requests are running and %zu are waiting; try again later",
                         engine->max_batch, engine->queue_limit);
    return true;
}

void engine_cancel(struct engine *engine, struct engine_job *job)
{
    atomic_store(&job->cancelled, true);
    atomic_fetch_add(&engine->cancellations, 1);
}

static void finish(struct engine_job *job, enum engine_outcome outcome, uint64_t now)
{
    job->outcome = outcome;
    job->finished_ns = now;
    job->finished(job);
}

/* Called with the mutex locked. Moves waiting jobs into free slots; cancelled ones to the list that is returned. */
static struct engine_job *admit(struct engine *engine, bool sweep)
{
    struct engine_job *cancelled = NULL, **link = &engine->first;
    while (*link && (sweep || engine->running < engine->max_batch)) {
        struct engine_job *job = *link;
        const bool gone = atomic_load(&job->cancelled);
        if (!gone && engine->running == engine->max_batch) {
            link = &job->next;
            continue;
        }
        *link = job->next;
        engine->waiting--;
        if (gone) {
            job->next = cancelled;
            cancelled = job;
        } else {
            engine->slots[engine->running++].job = job;
        }
    }
    if (sweep || !engine->first) {
        while (*link) link = &(*link)->next;
        engine->last = link;
    }
    return cancelled;
}

static void start(struct engine *engine, struct slot *slot, uint64_t now)
{
    memset(slot->state, 0, engine->stepper->state_size * sizeof *slot->state);
    slot->job->started_ns = now;
    slot->reading = true;
}

static void step_all(struct engine *engine)
{
    const size_t n = engine->running;
    uint64_t now = 0;
    for (size_t i = 0; i < n; i++) {
        struct slot *slot = &engine->slots[i];
        const struct generation *generation = &slot->job->generation;
        const bool wants = generation_wants_logits(generation);
        if (slot->reading && wants) {
            if (!now) now = clock_monotonic_ns();
            slot->job->prompted_ns = now;
            slot->reading = false;
        }
        engine->tokens[i] = generation_token(generation);
        engine->states[i] = slot->state;
        engine->logits[i] = wants ? slot->logits : NULL;
    }
    step(engine->stepper, &engine->scratch, n, engine->tokens, engine->states, engine->logits);
    for (size_t i = 0; i < n; i++) generation_advance(&engine->slots[i].job->generation, engine->logits[i]);
}

/* Takes job i out of the batch; `running` is published to other threads at the next lock. */
static struct engine_job *leave(struct engine *engine, size_t i)
{
    struct slot gone = engine->slots[i];
    pthread_mutex_lock(&engine->mutex);
    const size_t last = --engine->running;
    pthread_mutex_unlock(&engine->mutex);
    engine->slots[i] = engine->slots[last];
    engine->slots[last] = gone;
    engine->slots[last].job = NULL;
    return gone.job;
}

static void retire(struct engine *engine, bool sweep)
{
    for (size_t i = engine->running; i-- > 0;) {
        struct engine_job *job = engine->slots[i].job;
        if (generation_done(&job->generation))
            finish(leave(engine, i), ENGINE_DONE, clock_monotonic_ns());
        else if (sweep && atomic_load(&job->cancelled))
            finish(leave(engine, i), ENGINE_CANCELLED, clock_monotonic_ns());
    }
}

/* Everything that is left ends here; the mutex is not needed, as nobody adds jobs while `stopping` is set. */
static void stop_all(struct engine *engine)
{
    while (engine->running > 0) finish(leave(engine, engine->running - 1), ENGINE_STOPPED, clock_monotonic_ns());
    for (struct engine_job *job = engine->first, *next; job; job = next) {
        next = job->next;
        finish(job, ENGINE_STOPPED, clock_monotonic_ns());
    }
    engine->first = NULL;
}

static void *engine_main(void *argument)
{
    struct engine *engine = argument;
    for (;;) {
        pthread_mutex_lock(&engine->mutex);
        while (!engine->stopping && !engine->first && engine->running == 0)
            pthread_cond_wait(&engine->changed, &engine->mutex);
        const bool stopping = engine->stopping;
        /* Read before the flags are: a cancellation that comes in between is swept again, never missed. */
        const unsigned long cancellations = atomic_load(&engine->cancellations);
        const bool sweep = cancellations != engine->swept;
        engine->swept = cancellations;
        const size_t before = engine->running;
        struct engine_job *cancelled = stopping ? NULL : admit(engine, sweep);
        pthread_mutex_unlock(&engine->mutex);

        if (stopping) break;
        for (struct engine_job *job = cancelled, *next; job; job = next) {
            next = job->next;
            finish(job, ENGINE_CANCELLED, clock_monotonic_ns());
        }
        for (size_t i = before; i < engine->running; i++) start(engine, &engine->slots[i], clock_monotonic_ns());
        if (engine->running > 0) step_all(engine);
        retire(engine, sweep);
    }
    stop_all(engine);
    return NULL;
}

void engine_stop(struct engine *engine)
{
    pthread_mutex_lock(&engine->mutex);
    engine->stopping = true;
    pthread_cond_signal(&engine->changed);
    pthread_mutex_unlock(&engine->mutex);
    pthread_join(engine->thread, NULL);
}

void engine_free(struct engine *engine)
{
    if (!engine) return;
    step_scratch_close(&engine->scratch);
    arena_free(&engine->arena);
    pthread_cond_destroy(&engine->changed);
    pthread_mutex_destroy(&engine->mutex);
    free(engine);
}
