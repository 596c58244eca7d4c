#include "server/engine/engine.h"

#include <sched.h>
#include <stdlib.h>

#include "base/clock.h"
#include "server/engine/internal.h"

/* --- Life --- */

/* The processors that this process may use. */
static size_t engine_count_processors(void)
{
    cpu_set_t set;
    const int n = sched_getaffinity(0, sizeof set, &set) == 0 ? CPU_COUNT(&set) : 0;
    return n > 0 ? (size_t)n : 1;
}

struct engine *engine_new(const struct engine_options *options, struct error *err)
{
    struct engine *engine = calloc(1, sizeof *engine);
    if (!engine) {
        error_set_no_memory(err, sizeof *engine, "the engine");
        return NULL;
    }
    engine->options = *options;
    if (engine->options.threads == 0) engine->options.threads = engine_count_processors();
    atomic_store(&engine->deadline, NEVER);
    pthread_mutex_init(&engine->mutex, NULL);
    const size_t threads = engine->options.threads;
    engine->threads = arena_alloc(&engine->arena, threads, sizeof *engine->threads, "the engine's threads", err);
    bool good = engine->threads;
    for (size_t i = 0; good && i < threads; i++) {
        engine->threads[i].engine = engine;
        pthread_cond_init(&engine->threads[i].wake, NULL);
    }
    for (size_t i = 0; good && i < threads; i++) good = engine_thread_start(&engine->threads[i], err);
    if (good) return engine;
    if (engine->threads) engine_stop(engine);
    engine_free(engine);
    return NULL;
}

size_t engine_threads(const struct engine *engine)
{
    return engine->options.threads;
}

static bool engine_every_job(struct engine_job *job, void *context)
{
    (void)job;
    (void)context;
    return true;
}

void engine_stop(struct engine *engine)
{
    pthread_mutex_lock(&engine->mutex);
    atomic_store(&engine->stopping, true);
    for (size_t i = 0; i < engine->options.threads; i++) pthread_cond_signal(&engine->threads[i].wake);
    pthread_mutex_unlock(&engine->mutex);
    for (size_t i = 0; i < engine->options.threads; i++)
        if (engine->threads[i].started) pthread_join(engine->threads[i].handle, NULL);
    struct engine_job *waiting = engine_queue_sweep(&engine->queue, engine_every_job, NULL);
    for (struct engine_job *job = waiting; job; job = job->next) job->outcome = ENGINE_STOPPED;
    engine_jobs_finish(waiting);
}

void engine_free(struct engine *engine)
{
    if (!engine) return;
    for (size_t i = 0; engine->threads && i < engine->options.threads; i++) {
        struct engine_thread *thread = &engine->threads[i];
        step_piece_close(&thread->piece);
        step_scratch_close(&thread->scratch);
        arena_free(&thread->arena);
        pthread_cond_destroy(&thread->wake);
    }
    arena_free(&engine->arena);
    pthread_mutex_destroy(&engine->mutex);
    free(engine);
}

/* --- What other threads call --- */

static void engine_job_prepare(const struct engine *engine, struct engine_job *job, uint64_t now)
{
    const struct engine_options *options = &engine->options;
    job->submitted_ns = now;
    job->started_ns = job->prompted_ns = job->first_ns = job->finished_ns = 0;
    job->deadline_ns = options->timeout_ns > 0 ? now + options->timeout_ns : NEVER;
    job->state = NULL;
    job->reading = job->leads = false;
    job->caches = job->use_cache && options->cache && !job->generation.start_state && job->generation.window.size == 0;
    job->own = (struct engine_group){0};
    if (!job->group) job->group = &job->own;
}

static void engine_free_states(struct engine_job *const *jobs, size_t count)
{
    for (size_t i = 0; i < count; i++) engine_job_free_state(jobs[i]);
}

static bool engine_take_states(const struct engine *engine, struct engine_job *const *jobs, size_t count,
                               struct error *err)
{
    const size_t bytes = engine->options.stepper->state_size * sizeof(float);
    for (size_t i = 0; i < count; i++) {
        void *state;
        if (posix_memalign(&state, ARENA_ALIGNMENT, bytes) != 0) {
            engine_free_states(jobs, i);
            return error_set_no_memory(err, bytes, "a hidden state");
        }
        jobs[i]->state = state;
    }
    return true;
}

bool engine_submit(struct engine *engine, struct engine_job *const *jobs, size_t count, struct error *err)
{
    const struct engine_options *options = &engine->options;
    const uint64_t now = clock_monotonic_ns();
    for (size_t i = 0; i < count; i++) engine_job_prepare(engine, jobs[i], now);
    if (!engine_take_states(engine, jobs, count, err)) return false;
    pthread_mutex_lock(&engine->mutex);
    const bool stopping = atomic_load(&engine->stopping);
    const bool full = engine->queue.waiting + count > options->queue_limit + engine_free_slots(engine);
    if (!stopping && !full) {
        for (size_t i = 0; i < count; i++) {
            engine_expect_deadline(engine, jobs[i]);
            engine_queue_push(&engine->queue, jobs[i]);
            engine_expect_cancellation(engine, jobs[i]);
        }
        atomic_store(&engine->ready, engine->queue.ready);
        engine_wake(engine, count);
    }
    pthread_mutex_unlock(&engine->mutex);
    if (stopping || full) engine_free_states(jobs, count);
    if (stopping) return error_set(err, ERROR_UNAVAILABLE, "the daemon is shutting down");
    if (full)
        return error_set(err, ERROR_UNAVAILABLE, "%zu requests are running and %zu are waiting; try again later",
                         options->threads * options->max_batch, options->queue_limit);
    return true;
}

void engine_cancel(struct engine *engine, struct engine_job *job)
{
    atomic_store(&job->cancelled, true);
    atomic_fetch_add(&engine->cancellations, 1);
}

struct engine_load engine_load(struct engine *engine)
{
    pthread_mutex_lock(&engine->mutex);
    struct engine_load load = {
        .running = engine->options.threads * engine->options.max_batch - engine_free_slots(engine),
        .waiting = engine->queue.waiting,
    };
    pthread_mutex_unlock(&engine->mutex);
    for (size_t i = 0; i < engine->options.threads; i++) {
        load.steps += atomic_load_explicit(&engine->threads[i].steps, memory_order_relaxed);
        load.sequences += atomic_load_explicit(&engine->threads[i].sequences, memory_order_relaxed);
    }
    return load;
}
