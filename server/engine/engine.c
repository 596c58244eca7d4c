#include "server/engine/engine.h"

#include <pthread.h>
#include <sched.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "server/engine/queue.h"

#define NEVER       UINT64_MAX /* a deadline */
#define LONG_PROMPT 64         /* tokens from which a group's first job reads the prompt for all */

/* A job beside the memory that it steps with. Slots 0 .. running-1 are taken; a slot that becomes free changes places
 * with the last taken one, so a batch has no holes. */
struct slot {
    struct engine_job *job;
    float *logits;     /* [logits_size] */
    uint64_t since_ns; /* the job has it */
};

struct worker {
    _Alignas(64) atomic_size_t running;    /* grows under the engine's mutex */
    atomic_uint_fast64_t steps, sequences; /* written by the thread alone */
    struct engine *engine;
    pthread_t thread;
    pthread_cond_t wake;
    bool sleeping; /* under the engine's mutex; whoever ends it clears it, so nobody wakes it twice */
    bool started;

    /* The thread's own. */
    struct step_scratch scratch;
    struct slot *slots; /* [max_batch] */
    size_t *stepped;    /* [max_batch] slots, and arguments of step(): */
    uint32_t *tokens;
    float **states, **logits;
    uint64_t deadline;   /* none of its jobs' comes before */
    uint64_t share_end;  /* none of its jobs' share ends before; for a thread without free slots */
    size_t hand;         /* the slot whose job goes next */
    unsigned long swept; /* cancellations that were looked at */
    struct arena arena;
};

struct engine {
    struct engine_options options;
    struct worker *workers; /* [options.threads] */
    struct arena arena;

    /* What a thread looks at between two steps; written under the mutex, but for `cancellations`. */
    atomic_ulong cancellations; /* calls of engine_cancel(): tells threads to look at the flags of their jobs */
    atomic_bool stopping;
    atomic_size_t ready;           /* queue.ready */
    atomic_uint_fast64_t deadline; /* none of a waiting job's comes before */

    pthread_mutex_t mutex; /* guards what follows, and what is said above; no lock is taken under it */
    struct engine_queue queue;
    unsigned long swept; /* cancellations that the queue was looked through for */
};

/* --- Life --- */

static bool take_memory(struct worker *worker, struct error *err)
{
    const struct stepper *stepper = worker->engine->options.stepper;
    const size_t n = worker->engine->options.max_batch;
    struct arena *arena = &worker->arena;
    worker->slots = arena_alloc(arena, n, sizeof *worker->slots, "the engine's slots", err);
    worker->stepped = arena_alloc(arena, n, sizeof *worker->stepped, "the engine's slots", err);
    worker->tokens = arena_alloc(arena, n, sizeof *worker->tokens, "the engine's tokens", err);
    worker->states = arena_alloc(arena, n, sizeof *worker->states, "the engine's states", err);
    worker->logits = arena_alloc(arena, n, sizeof *worker->logits, "the engine's logits", err);
    if (!worker->slots || !worker->stepped || !worker->tokens || !worker->states || !worker->logits) return false;
    for (size_t i = 0; i < n; i++) {
        worker->slots[i].logits = arena_alloc(arena, stepper->logits_size, sizeof(float), "logits", err);
        if (!worker->slots[i].logits) return false;
    }
    return step_scratch_open(&worker->scratch, stepper, n, err);
}

static void *worker_main(void *argument);

static bool worker_start(struct worker *worker, struct error *err)
{
    worker->deadline = NEVER;
    if (!take_memory(worker, err)) return false;
    const int code = pthread_create(&worker->thread, NULL, worker_main, worker);
    if (code != 0) return error_set_errno(err, code, "cannot start a thread of the engine");
    worker->started = true;
    return true;
}

/* The processors that this process may use. */
static size_t processors(void)
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
    if (engine->options.threads == 0) engine->options.threads = processors();
    atomic_store(&engine->deadline, NEVER);
    pthread_mutex_init(&engine->mutex, NULL);
    const size_t threads = engine->options.threads;
    engine->workers = arena_alloc(&engine->arena, threads, sizeof *engine->workers, "the engine's threads", err);
    bool good = engine->workers;
    for (size_t i = 0; good && i < threads; i++) {
        engine->workers[i].engine = engine;
        pthread_cond_init(&engine->workers[i].wake, NULL);
    }
    for (size_t i = 0; good && i < threads; i++) good = worker_start(&engine->workers[i], err);
    if (good) return engine;
    if (engine->workers) engine_stop(engine);
    engine_free(engine);
    return NULL;
}

size_t engine_threads(const struct engine *engine)
{
    return engine->options.threads;
}

static void free_state(struct engine_job *job)
{
    free(job->state);
    job->state = NULL;
}

/* Gives jobs that have their outcome back. */
static void finish_all(struct engine_job *jobs)
{
    for (struct engine_job *job = jobs, *next; job; job = next) {
        next = job->next;
        free_state(job);
        job->finished_ns = clock_monotonic_ns();
        job->finished(job);
    }
}

static bool everything(struct engine_job *job, void *context)
{
    (void)job;
    (void)context;
    return true;
}

void engine_stop(struct engine *engine)
{
    pthread_mutex_lock(&engine->mutex);
    atomic_store(&engine->stopping, true);
    for (size_t i = 0; i < engine->options.threads; i++) pthread_cond_signal(&engine->workers[i].wake);
    pthread_mutex_unlock(&engine->mutex);
    for (size_t i = 0; i < engine->options.threads; i++)
        if (engine->workers[i].started) pthread_join(engine->workers[i].thread, NULL);
    struct engine_job *waiting = engine_queue_sweep(&engine->queue, everything, NULL);
    for (struct engine_job *job = waiting; job; job = job->next) job->outcome = ENGINE_STOPPED;
    finish_all(waiting);
}

void engine_free(struct engine *engine)
{
    if (!engine) return;
    for (size_t i = 0; engine->workers && i < engine->options.threads; i++) {
        struct worker *worker = &engine->workers[i];
        step_scratch_close(&worker->scratch);
        arena_free(&worker->arena);
        pthread_cond_destroy(&worker->wake);
    }
    arena_free(&engine->arena);
    pthread_mutex_destroy(&engine->mutex);
    free(engine);
}

/* --- The queue; all of these run with the mutex locked --- */

/* Wakes up to n sleeping threads. */
static void wake(struct engine *engine, size_t n)
{
    for (size_t i = 0; n > 0 && i < engine->options.threads; i++) {
        struct worker *worker = &engine->workers[i];
        if (!worker->sleeping) continue;
        worker->sleeping = false;
        pthread_cond_signal(&worker->wake);
        n--;
    }
}

static size_t free_slots(struct engine *engine)
{
    size_t n = 0;
    for (size_t i = 0; i < engine->options.threads; i++)
        n += engine->options.max_batch - atomic_load(&engine->workers[i].running);
    return n;
}

/* Only threads with free slots count, so a full one keeps nobody from taking. */
static bool is_least_loaded(const struct worker *worker)
{
    const struct engine *engine = worker->engine;
    const size_t running = atomic_load(&worker->running);
    for (size_t i = 0; i < engine->options.threads; i++)
        if (atomic_load(&engine->workers[i].running) < running) return false;
    return running < engine->options.max_batch;
}

static bool holds_group(const struct engine_job *job)
{
    return job->caches && job->generation.prompt.count >= LONG_PROMPT;
}

static void expect_deadline(struct engine *engine, const struct engine_job *job)
{
    if (job->deadline_ns < atomic_load(&engine->deadline)) atomic_store(&engine->deadline, job->deadline_ns);
}

/* Cancelled before it stands in the queue: threads may have looked for it there already, so they look again. */
static void expect_cancellation(struct engine *engine, const struct engine_job *job)
{
    if (atomic_load(&job->cancelled)) atomic_fetch_add(&engine->cancellations, 1);
}

static void place(struct worker *worker, struct slot *slot, struct engine_job *job, uint64_t now)
{
    slot->job = job;
    slot->since_ns = now;
    if (job->deadline_ns < worker->deadline) worker->deadline = job->deadline_ns;
}

static bool had_its_share(const struct engine *engine, const struct slot *slot, uint64_t now)
{
    return now - slot->since_ns >= engine->options.share_ns;
}

/* Sets jobs that had their share aside, as many as wait, and gives their slots to those that wait. Who got its slot
 * long ago goes first: the hand passes over all slots in turn. */
static void exchange(struct worker *worker, uint64_t now)
{
    struct engine *engine = worker->engine;
    const size_t slots = engine->options.max_batch;
    size_t n = engine->queue.ready;
    for (size_t i = 0; n > 0 && i < slots; i++) {
        struct slot *slot = &worker->slots[worker->hand];
        if (had_its_share(engine, slot, now)) {
            struct engine_job *aside = slot->job;
            place(worker, slot, engine_queue_pop(&engine->queue, holds_group), now);
            engine_queue_set_aside(&engine->queue, aside);
            expect_deadline(engine, aside);
            expect_cancellation(engine, aside);
            n = n - 1 < engine->queue.ready ? n - 1 : engine->queue.ready; /* a pop may hold a group back */
        }
        worker->hand = (worker->hand + 1) % slots;
    }
}

static uint64_t first_share_end(const struct worker *worker)
{
    const struct engine_options *options = &worker->engine->options;
    uint64_t since = NEVER;
    for (size_t i = 0; i < options->max_batch; i++)
        if (worker->slots[i].since_ns < since) since = worker->slots[i].since_ns;
    return since < NEVER - options->share_ns ? since + options->share_ns : NEVER;
}

/* Moves ready jobs into the thread's free slots, as long as no other thread should take them; where all slots of all
 * threads are taken, into those of jobs that had their share. */
static void admit(struct worker *worker)
{
    struct engine *engine = worker->engine;
    const uint64_t now = clock_monotonic_ns();
    struct engine_job *job;
    while (is_least_loaded(worker) && (job = engine_queue_pop(&engine->queue, holds_group)))
        place(worker, &worker->slots[atomic_fetch_add(&worker->running, 1)], job, now);
    if (engine->queue.ready > 0 && free_slots(engine) == 0) exchange(worker, now);
    if (atomic_load(&worker->running) == engine->options.max_batch) worker->share_end = first_share_end(worker);
    atomic_store(&engine->ready, engine->queue.ready);
}

struct sweep {
    uint64_t now, deadline; /* deadline: the first of those that stay */
};

static bool is_over(struct engine_job *job, void *context)
{
    struct sweep *sweep = context;
    if (atomic_load(&job->cancelled) || sweep->now >= job->deadline_ns) return true;
    if (job->deadline_ns < sweep->deadline) sweep->deadline = job->deadline_ns;
    return false;
}

static struct engine_job *sweep_queue(struct engine *engine, unsigned long cancellations, uint64_t now)
{
    if (engine->swept == cancellations && now < atomic_load(&engine->deadline)) return NULL;
    engine->swept = cancellations;
    struct sweep sweep = {now, NEVER};
    struct engine_job *over = engine_queue_sweep(&engine->queue, is_over, &sweep);
    atomic_store(&engine->deadline, sweep.deadline);
    return over;
}

/* --- What other threads call --- */

static void prepare(const struct engine *engine, struct engine_job *job, uint64_t now)
{
    const struct engine_options *options = &engine->options;
    job->submitted_ns = now;
    job->started_ns = job->prompted_ns = job->first_ns = job->finished_ns = 0;
    job->deadline_ns = options->timeout_ns > 0 ? now + options->timeout_ns : NEVER;
    job->state = NULL;
    job->reading = job->leads = false;
    job->caches = job->use_cache && options->cache && !job->start_state && job->generation.window.size == 0;
    job->own = (struct engine_group){0};
    if (!job->group) job->group = &job->own;
}

static void free_states(struct engine_job *const *jobs, size_t count)
{
    for (size_t i = 0; i < count; i++) free_state(jobs[i]);
}

static bool take_states(const struct engine *engine, struct engine_job *const *jobs, size_t count, struct error *err)
{
    const size_t bytes = engine->options.stepper->state_size * sizeof(float);
    for (size_t i = 0; i < count; i++) {
        void *state;
        if (posix_memalign(&state, ARENA_ALIGNMENT, bytes) != 0) {
            free_states(jobs, i);
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
    for (size_t i = 0; i < count; i++) prepare(engine, jobs[i], now);
    if (!take_states(engine, jobs, count, err)) return false;
    pthread_mutex_lock(&engine->mutex);
    const bool stopping = atomic_load(&engine->stopping);
    const bool full = engine->queue.waiting + count > options->queue_limit + free_slots(engine);
    if (!stopping && !full) {
        for (size_t i = 0; i < count; i++) {
            expect_deadline(engine, jobs[i]);
            engine_queue_push(&engine->queue, jobs[i]);
            expect_cancellation(engine, jobs[i]);
        }
        atomic_store(&engine->ready, engine->queue.ready);
        wake(engine, count);
    }
    pthread_mutex_unlock(&engine->mutex);
    if (stopping || full) free_states(jobs, count);
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
        .running = engine->options.threads * engine->options.max_batch - free_slots(engine),
        .waiting = engine->queue.waiting,
    };
    pthread_mutex_unlock(&engine->mutex);
    for (size_t i = 0; i < engine->options.threads; i++) {
        load.steps += atomic_load_explicit(&engine->workers[i].steps, memory_order_relaxed);
        load.sequences += atomic_load_explicit(&engine->workers[i].sequences, memory_order_relaxed);
    }
    return load;
}

/* --- A job --- */

/* The prompt is read but for its last token. */
static void end_reading(const struct engine *engine, struct engine_job *job)
{
    const struct generation *generation = &job->generation;
    job->reading = false;
    job->prompted_ns = clock_monotonic_ns();
    if (job->caches && generation->fed > generation->cached)
        state_cache_store(engine->options.cache, engine->options.model, generation->prompt.ids, generation->fed,
                          job->state);
}

/* Lets the other jobs of its group go. */
static void stop_leading(struct engine *engine, struct engine_job *job)
{
    if (!job->leads) return;
    job->leads = false;
    pthread_mutex_lock(&engine->mutex);
    engine_queue_release(&engine->queue, job->group);
    atomic_store(&engine->ready, engine->queue.ready);
    wake(engine, engine->queue.ready);
    pthread_mutex_unlock(&engine->mutex);
}

static void start(struct engine *engine, struct engine_job *job)
{
    const struct engine_options *options = &engine->options;
    struct generation *generation = &job->generation;
    const size_t bytes = options->stepper->state_size * sizeof *job->state;
    size_t covered = 0;
    job->started_ns = clock_monotonic_ns();
    if (job->caches)
        covered = state_cache_find(options->cache, options->model, generation->prompt.ids, generation->prompt.count - 1,
                                   job->state);
    if (covered > 0)
        generation_skip(generation, covered);
    else if (job->start_state)
        memcpy(job->state, job->start_state, bytes);
    else
        memset(job->state, 0, bytes);
    job->reading = true;
    if (!generation_wants_logits(generation)) return;
    end_reading(engine, job);
    stop_leading(engine, job);
}

static void advance(struct engine *engine, struct engine_job *job, float *logits)
{
    const struct engine_options *options = &engine->options;
    struct generation *generation = &job->generation;
    generation_advance(generation, logits);
    if (!job->reading) {
        if (logits && job->first_ns == 0) job->first_ns = clock_monotonic_ns();
        if (logits && job->progressed && !generation_done(generation)) job->progressed(job);
    } else if (generation_wants_logits(generation)) {
        end_reading(engine, job);
        stop_leading(engine, job);
    } else if (job->caches && generation->fed % options->cache_interval == 0) {
        state_cache_store(options->cache, options->model, generation->prompt.ids, generation->fed, job->state);
    }
}

/* Leaves the state where the generation ended by itself in the cache, under the prompt and the new tokens. */
static void cache_end(const struct engine_options *options, const struct engine_job *job)
{
    const struct generation *generation = &job->generation;
    const size_t prompt = generation->prompt.count, fed = generation->fed;
    if (fed <= prompt) return; /* the state before the prompt's last token is there, and as good */
    uint32_t *tokens = malloc(fed * sizeof *tokens);
    if (!tokens) return;
    memcpy(tokens, generation->prompt.ids, prompt * sizeof *tokens);
    for (size_t i = prompt; i < fed; i++) tokens[i] = generation->tokens[i - prompt].id;
    state_cache_store(options->cache, options->model, tokens, fed, job->state);
    free(tokens);
}

/* What a job leaves behind, wherever it stood. */
static void end(struct engine *engine, struct engine_job *job, enum engine_outcome outcome)
{
    const struct engine_options *options = &engine->options;
    job->outcome = outcome;
    stop_leading(engine, job);
    if (outcome == ENGINE_DONE && job->caches) cache_end(options, job);
    if (job->end_state && job->prompted_ns > 0 && (outcome == ENGINE_DONE || outcome == ENGINE_TIMEOUT))
        memcpy(job->end_state, job->state, options->stepper->state_size * sizeof *job->state);
}

static enum engine_outcome outcome_of_over(const struct engine_job *job)
{
    return atomic_load(&job->cancelled) ? ENGINE_CANCELLED : ENGINE_TIMEOUT;
}

/* Takes the job of slot i out of the batch and puts it before `ended`. */
static struct engine_job *leave(struct worker *worker, size_t i, enum engine_outcome outcome, struct engine_job *ended)
{
    struct slot gone = worker->slots[i];
    struct engine_job *job = gone.job;
    end(worker->engine, job, outcome);
    const size_t last = atomic_load(&worker->running) - 1;
    worker->slots[i] = worker->slots[last];
    worker->slots[last] = gone;
    worker->slots[last].job = NULL;
    atomic_store(&worker->running, last);
    job->next = ended;
    return job;
}

/* --- A thread --- */

/* Steps all sequences, or only those that read their prompts; returns how many. */
static size_t step_batch(struct worker *worker, bool readers_only)
{
    const struct stepper *stepper = worker->engine->options.stepper;
    const size_t running = atomic_load(&worker->running);
    size_t n = 0;
    for (size_t i = 0; i < running; i++) {
        struct slot *slot = &worker->slots[i];
        struct engine_job *job = slot->job;
        if (readers_only && !job->reading) continue;
        worker->stepped[n] = i;
        const struct generation *generation = &job->generation;
        if (generation_resets(generation)) memset(job->state, 0, stepper->state_size * sizeof *job->state);
        worker->tokens[n] = generation_token(generation);
        worker->states[n] = job->state;
        worker->logits[n] = generation_wants_logits(generation) ? slot->logits : NULL;
        n++;
    }
    if (n == 0) return 0;
    atomic_store_explicit(&worker->steps, atomic_load_explicit(&worker->steps, memory_order_relaxed) + 1,
                          memory_order_relaxed);
    atomic_store_explicit(&worker->sequences, atomic_load_explicit(&worker->sequences, memory_order_relaxed) + n,
                          memory_order_relaxed);
    step(stepper, &worker->scratch, n, worker->tokens, worker->states, worker->logits);
    for (size_t i = 0; i < n; i++) advance(worker->engine, worker->slots[worker->stepped[i]].job, worker->logits[i]);
    return n;
}

static size_t count_readers(const struct worker *worker)
{
    const size_t running = atomic_load(&worker->running);
    size_t n = 0;
    for (size_t i = 0; i < running; i++) n += worker->slots[i].job->reading;
    return n;
}

/* One step of the batch; then, where some read and others generate, as much time again for those that read. */
static void step_round(struct worker *worker)
{
    const size_t readers = count_readers(worker);
    if (readers == 0 || readers == atomic_load(&worker->running)) {
        step_batch(worker, false);
        return;
    }
    const uint64_t begun = clock_monotonic_ns();
    step_batch(worker, false);
    const uint64_t stepped = clock_monotonic_ns(), end = stepped + (stepped - begun);
    while (clock_monotonic_ns() < end && step_batch(worker, true) > 0) continue;
}

/* Takes out what is done and, where sweep is set, what was cancelled or is late. */
static void retire(struct worker *worker, bool sweep, uint64_t now)
{
    struct engine_job *ended = NULL;
    struct sweep at = {now, NEVER};
    for (size_t i = atomic_load(&worker->running); i-- > 0;) {
        struct engine_job *job = worker->slots[i].job;
        if (generation_done(&job->generation))
            ended = leave(worker, i, ENGINE_DONE, ended);
        else if (sweep && is_over(job, &at))
            ended = leave(worker, i, outcome_of_over(job), ended);
    }
    if (sweep) worker->deadline = at.deadline;
    finish_all(ended);
}

/* Whether there may be something to do besides stepping. */
static bool must_look(const struct worker *worker, unsigned long cancellations, uint64_t now)
{
    const struct engine *engine = worker->engine;
    const size_t running = atomic_load(&worker->running);
    return running == 0 || atomic_load(&engine->stopping) || cancellations != worker->swept ||
           (atomic_load(&engine->ready) > 0 && (running < engine->options.max_batch || now >= worker->share_end)) ||
           now >= atomic_load(&engine->deadline);
}

/* Sleeps while there is nothing to do, takes new jobs, ends waiting ones that are over. False: the engine stops. */
static bool look(struct worker *worker, unsigned long cancellations, uint64_t now)
{
    struct engine *engine = worker->engine;
    const size_t before = atomic_load(&worker->running);
    pthread_mutex_lock(&engine->mutex);
    while (!atomic_load(&engine->stopping) && engine->queue.ready == 0 && before == 0) {
        worker->sleeping = true;
        pthread_cond_wait(&worker->wake, &engine->mutex);
    }
    worker->sleeping = false;
    const bool stopping = atomic_load(&engine->stopping);
    struct engine_job *over = stopping ? NULL : sweep_queue(engine, cancellations, now);
    if (!stopping) admit(worker);
    pthread_mutex_unlock(&engine->mutex);

    for (struct engine_job *job = over; job; job = job->next) end(engine, job, outcome_of_over(job));
    finish_all(over);
    for (size_t i = 0; i < atomic_load(&worker->running); i++)
        if (worker->slots[i].job->started_ns == 0) start(engine, worker->slots[i].job);
    return !stopping;
}

static void *worker_main(void *argument)
{
    struct worker *worker = argument;
    for (;;) {
        const uint64_t now = clock_monotonic_ns();
        /* Read before the flags are: a cancellation that comes in between is swept again, never missed. */
        const unsigned long cancellations = atomic_load(&worker->engine->cancellations);
        if (must_look(worker, cancellations, now) && !look(worker, cancellations, now)) break;
        const bool sweep = cancellations != worker->swept || now >= worker->deadline;
        worker->swept = cancellations;
        step_round(worker);
        retire(worker, sweep, now);
    }
    struct engine_job *ended = NULL;
    for (size_t n; (n = atomic_load(&worker->running)) > 0;) ended = leave(worker, n - 1, ENGINE_STOPPED, ended);
    finish_all(ended);
    return NULL;
}
