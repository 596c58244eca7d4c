/* Who gets a slot, and when: of the jobs that wait, those whose turn it is; a job that had its share gives way. */
#include "base/clock.h"
#include "server/engine/internal.h"

#define LONG_PROMPT 64 /* tokens from which a group's first job reads the prompt for all */

void engine_wake(struct engine *engine, size_t n)
{
    for (size_t i = 0; n > 0 && i < engine->options.threads; i++) {
        struct engine_thread *thread = &engine->threads[i];
        if (!thread->sleeping) continue;
        thread->sleeping = false;
        pthread_cond_signal(&thread->wake);
        n--;
    }
}

size_t engine_free_slots(struct engine *engine)
{
    size_t n = 0;
    for (size_t i = 0; i < engine->options.threads; i++)
        n += engine->options.max_batch - atomic_load(&engine->threads[i].running);
    return n;
}

/* Only threads with free slots take jobs, so a full thread has no say. */
static bool engine_thread_is_least_loaded(const struct engine_thread *thread)
{
    const struct engine *engine = thread->engine;
    const size_t running = atomic_load(&thread->running);
    for (size_t i = 0; i < engine->options.threads; i++)
        if (atomic_load(&engine->threads[i].running) < running) return false;
    return running < engine->options.max_batch;
}

static bool engine_job_holds_group(const struct engine_job *job)
{
    return job->caches && job->generation.prompt.count >= LONG_PROMPT;
}

void engine_expect_deadline(struct engine *engine, const struct engine_job *job)
{
    if (job->deadline_ns < atomic_load(&engine->deadline)) atomic_store(&engine->deadline, job->deadline_ns);
}

void engine_expect_cancellation(struct engine *engine, const struct engine_job *job)
{
    if (atomic_load(&job->cancelled)) atomic_fetch_add(&engine->cancellations, 1);
}

static void engine_place(struct engine_thread *thread, struct engine_slot *slot, struct engine_job *job, uint64_t now)
{
    slot->job = job;
    slot->since_ns = now;
    if (job->deadline_ns < thread->deadline) thread->deadline = job->deadline_ns;
}

static bool engine_slot_had_its_share(const struct engine *engine, const struct engine_slot *slot, uint64_t now)
{
    return now - slot->since_ns >= engine->options.share_ns;
}

/* Sets jobs aside that had their share, at most as many as wait, and gives their slots to waiting ones. The hand passes
 * over all slots in turn, so the job that got its slot first goes first. */
static void engine_exchange(struct engine_thread *thread, uint64_t now)
{
    struct engine *engine = thread->engine;
    const size_t slots = engine->options.max_batch;
    size_t n = engine->queue.ready;
    for (size_t i = 0; n > 0 && i < slots; i++) {
        struct engine_slot *slot = &thread->slots[thread->hand];
        if (engine_slot_had_its_share(engine, slot, now)) {
            struct engine_job *aside = slot->job;
            engine_place(thread, slot, engine_queue_pop(&engine->queue, engine_job_holds_group), now);
            engine_queue_set_aside(&engine->queue, aside);
            engine_expect_deadline(engine, aside);
            engine_expect_cancellation(engine, aside);
            n = n - 1 < engine->queue.ready ? n - 1 : engine->queue.ready; /* a pop may hold a group back */
        }
        thread->hand = (thread->hand + 1) % slots;
    }
}

static uint64_t engine_first_share_end(const struct engine_thread *thread)
{
    const struct engine_options *options = &thread->engine->options;
    uint64_t since = NEVER;
    for (size_t i = 0; i < options->max_batch; i++)
        if (thread->slots[i].since_ns < since) since = thread->slots[i].since_ns;
    return since < NEVER - options->share_ns ? since + options->share_ns : NEVER;
}

void engine_admit(struct engine_thread *thread)
{
    struct engine *engine = thread->engine;
    const uint64_t now = clock_monotonic_ns();
    struct engine_job *job;
    while (engine_thread_is_least_loaded(thread) && (job = engine_queue_pop(&engine->queue, engine_job_holds_group)))
        engine_place(thread, &thread->slots[atomic_fetch_add(&thread->running, 1)], job, now);
    if (engine->queue.ready > 0 && engine_free_slots(engine) == 0) engine_exchange(thread, now);
    if (atomic_load(&thread->running) == engine->options.max_batch) thread->share_end = engine_first_share_end(thread);
    atomic_store(&engine->ready, engine->queue.ready);
}

bool engine_job_is_over(struct engine_job *job, void *context)
{
    struct engine_sweep *sweep = context;
    if (atomic_load(&job->cancelled) || sweep->now >= job->deadline_ns) return true;
    if (job->deadline_ns < sweep->deadline) sweep->deadline = job->deadline_ns;
    return false;
}

struct engine_job *engine_sweep_queue(struct engine *engine, unsigned long cancellations, uint64_t now)
{
    if (engine->swept == cancellations && now < atomic_load(&engine->deadline)) return NULL;
    engine->swept = cancellations;
    struct engine_sweep sweep = {now, NEVER};
    struct engine_job *over = engine_queue_sweep(&engine->queue, engine_job_is_over, &sweep);
    atomic_store(&engine->deadline, sweep.deadline);
    return over;
}
