/* A thread of the engine: it steps its batch, and between two steps lets jobs in and out. */
#include <string.h>

#include "base/clock.h"
#include "server/engine/internal.h"

/* Takes the job of slot i out of the batch and puts it before `ended`. */
static struct engine_job *engine_thread_leave(struct engine_thread *thread, size_t i, enum engine_outcome outcome,
                                              struct engine_job *ended)
{
    struct engine_slot gone = thread->slots[i];
    struct engine_job *job = gone.job;
    engine_job_end(thread->engine, job, outcome);
    const size_t last = atomic_load(&thread->running) - 1;
    thread->slots[i] = thread->slots[last];
    thread->slots[last] = gone;
    thread->slots[last].job = NULL;
    atomic_store(&thread->running, last);
    job->next = ended;
    return job;
}

static void engine_thread_count(struct engine_thread *thread, size_t steps, size_t sequences)
{
    atomic_store_explicit(&thread->steps, atomic_load_explicit(&thread->steps, memory_order_relaxed) + steps,
                          memory_order_relaxed);
    atomic_store_explicit(&thread->sequences,
                          atomic_load_explicit(&thread->sequences, memory_order_relaxed) + sequences,
                          memory_order_relaxed);
}

/* Feeds a piece of the prompt of the thread's only job, which ends where a state goes to the cache. False: there is
 * nothing that could be fed together. */
static bool engine_thread_read_piece(struct engine_thread *thread)
{
    const size_t interval = thread->engine->options.cache_interval;
    struct engine_job *job = thread->slots[0].job;
    const struct generation *generation = &job->generation;
    const uint32_t *tokens;
    size_t n = generation_ahead(generation, &tokens);
    if (n > thread->piece.tokens) n = thread->piece.tokens;
    if (job->caches && n > interval - generation->fed % interval) n = interval - generation->fed % interval;
    if (n < 2) return false;
    step_piece(&thread->piece, n, tokens, job->state, n);
    engine_thread_count(thread, n, n);
    for (size_t i = 0; i < n; i++) engine_job_advance(thread->engine, job, NULL);
    return true;
}

/* Steps all sequences, or only those that read their prompts. Returns their number. */
static size_t engine_thread_step_batch(struct engine_thread *thread, bool readers_only)
{
    const struct stepper *stepper = thread->engine->options.stepper;
    const size_t running = atomic_load(&thread->running);
    size_t n = 0;
    for (size_t i = 0; i < running; i++) {
        struct engine_slot *slot = &thread->slots[i];
        struct engine_job *job = slot->job;
        if (readers_only && !job->reading) continue;
        thread->stepped[n] = i;
        const struct generation *generation = &job->generation;
        if (generation_resets(generation)) memset(job->state, 0, stepper->state_size * sizeof *job->state);
        thread->tokens[n] = generation_token(generation);
        thread->states[n] = job->state;
        thread->logits[n] = generation_wants_logits(generation) ? slot->logits : NULL;
        n++;
    }
    if (n == 0) return 0;
    engine_thread_count(thread, 1, n);
    step(stepper, &thread->scratch, n, thread->tokens, thread->states, thread->logits);
    for (size_t i = 0; i < n; i++)
        engine_job_advance(thread->engine, thread->slots[thread->stepped[i]].job, thread->logits[i]);
    return n;
}

static size_t engine_thread_count_readers(const struct engine_thread *thread)
{
    const size_t running = atomic_load(&thread->running);
    size_t n = 0;
    for (size_t i = 0; i < running; i++) n += thread->slots[i].job->reading;
    return n;
}

/* One step of the batch. If some read and others generate, prompt-only steps follow for the same time. */
static void engine_thread_step(struct engine_thread *thread)
{
    const size_t readers = engine_thread_count_readers(thread);
    if (readers == 1 && atomic_load(&thread->running) == 1 && engine_thread_read_piece(thread)) return;
    if (readers == 0 || readers == atomic_load(&thread->running)) {
        engine_thread_step_batch(thread, false);
        return;
    }
    const uint64_t begun = clock_monotonic_ns();
    engine_thread_step_batch(thread, false);
    const uint64_t stepped = clock_monotonic_ns(), end = stepped + (stepped - begun);
    while (clock_monotonic_ns() < end && engine_thread_step_batch(thread, true) > 0) continue;
}

/* Takes jobs out that are done; with sweep, also those that were cancelled or are late. */
static void engine_thread_retire(struct engine_thread *thread, bool sweep, uint64_t now)
{
    struct engine_job *ended = NULL;
    struct engine_sweep at = {now, NEVER};
    for (size_t i = atomic_load(&thread->running); i-- > 0;) {
        struct engine_job *job = thread->slots[i].job;
        if (generation_done(&job->generation))
            ended = engine_thread_leave(thread, i, ENGINE_DONE, ended);
        else if (sweep && engine_job_is_over(job, &at))
            ended = engine_thread_leave(thread, i, engine_job_outcome(job), ended);
    }
    if (sweep) thread->deadline = at.deadline;
    engine_jobs_finish(ended);
}

/* Whether the thread may have something to do besides stepping. */
static bool engine_thread_must_look(const struct engine_thread *thread, unsigned long cancellations, uint64_t now)
{
    const struct engine *engine = thread->engine;
    const size_t running = atomic_load(&thread->running);
    return running == 0 || atomic_load(&engine->stopping) || cancellations != thread->swept ||
           (atomic_load(&engine->ready) > 0 && (running < engine->options.max_batch || now >= thread->share_end)) ||
           now >= atomic_load(&engine->deadline);
}

/* Sleeps while there is nothing to do, takes new jobs, ends waiting ones that are over. False: the engine stops. */
static bool engine_thread_look(struct engine_thread *thread, unsigned long cancellations, uint64_t now)
{
    struct engine *engine = thread->engine;
    const size_t before = atomic_load(&thread->running);
    pthread_mutex_lock(&engine->mutex);
    while (!atomic_load(&engine->stopping) && engine->queue.ready == 0 && before == 0) {
        thread->sleeping = true;
        pthread_cond_wait(&thread->wake, &engine->mutex);
    }
    thread->sleeping = false;
    const bool stopping = atomic_load(&engine->stopping);
    struct engine_job *over = stopping ? NULL : engine_sweep_queue(engine, cancellations, now);
    if (!stopping) engine_admit(thread);
    pthread_mutex_unlock(&engine->mutex);

    for (struct engine_job *job = over; job; job = job->next) engine_job_end(engine, job, engine_job_outcome(job));
    engine_jobs_finish(over);
    for (size_t i = 0; i < atomic_load(&thread->running); i++)
        if (thread->slots[i].job->started_ns == 0) engine_job_start(engine, thread->slots[i].job);
    return !stopping;
}

void *engine_thread_main(void *argument)
{
    struct engine_thread *thread = argument;
    for (;;) {
        const uint64_t now = clock_monotonic_ns();
        /* The count is read before the flags: a cancellation in between is looked for again, never missed. */
        const unsigned long cancellations = atomic_load(&thread->engine->cancellations);
        if (engine_thread_must_look(thread, cancellations, now) && !engine_thread_look(thread, cancellations, now))
            break;
        const bool sweep = cancellations != thread->swept || now >= thread->deadline;
        thread->swept = cancellations;
        engine_thread_step(thread);
        engine_thread_retire(thread, sweep, now);
    }
    struct engine_job *ended = NULL;
    for (size_t n; (n = atomic_load(&thread->running)) > 0;)
        ended = engine_thread_leave(thread, n - 1, ENGINE_STOPPED, ended);
    engine_jobs_finish(ended);
    return NULL;
}

static bool engine_thread_take_memory(struct engine_thread *thread, struct error *err)
{
    const struct stepper *stepper = thread->engine->options.stepper;
    const size_t n = thread->engine->options.max_batch;
    struct arena *arena = &thread->arena;
    thread->slots = arena_alloc(arena, n, sizeof *thread->slots, "the engine's slots", err);
    thread->stepped = arena_alloc(arena, n, sizeof *thread->stepped, "the engine's slots", err);
    thread->tokens = arena_alloc(arena, n, sizeof *thread->tokens, "the engine's tokens", err);
    thread->states = arena_alloc(arena, n, sizeof *thread->states, "the engine's states", err);
    thread->logits = arena_alloc(arena, n, sizeof *thread->logits, "the engine's logits", err);
    if (!thread->slots || !thread->stepped || !thread->tokens || !thread->states || !thread->logits) return false;
    for (size_t i = 0; i < n; i++) {
        thread->slots[i].logits = arena_alloc(arena, stepper->logits_size, sizeof(float), "logits", err);
        if (!thread->slots[i].logits) return false;
    }
    return step_scratch_open(&thread->scratch, stepper, n, err) &&
           step_piece_open(&thread->piece, stepper, ENGINE_PIECE, false, false, err);
}

bool engine_thread_start(struct engine_thread *thread, struct error *err)
{
    thread->deadline = NEVER;
    if (!engine_thread_take_memory(thread, err)) return false;
    const int code = pthread_create(&thread->handle, NULL, engine_thread_main, thread);
    if (code != 0) return error_set_errno(err, code, "cannot start a thread of the engine");
    thread->started = true;
    return true;
}
