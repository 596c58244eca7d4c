/* A job while it has a slot: where its state comes from, what becomes of each token, and what it leaves behind. */
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "server/engine/internal.h"

void engine_job_free_state(struct engine_job *job)
{
    free(job->state);
    job->state = NULL;
}

void engine_jobs_finish(struct engine_job *jobs)
{
    for (struct engine_job *job = jobs, *next; job; job = next) {
        next = job->next;
        engine_job_free_state(job);
        job->finished_ns = clock_monotonic_ns();
        job->finished(job);
    }
}

/* The prompt is read but for its last token. */
static void engine_job_end_reading(const struct engine *engine, struct engine_job *job)
{
    const struct generation *generation = &job->generation;
    job->reading = false;
    job->prompted_ns = clock_monotonic_ns();
    if (job->caches && generation->fed > generation->cached)
        state_cache_store(engine->options.cache, engine->options.model, generation->prompt.ids, generation->fed,
                          job->state);
}

/* Lets the other jobs of its group go. */
static void engine_job_stop_leading(struct engine *engine, struct engine_job *job)
{
    if (!job->leads) return;
    job->leads = false;
    pthread_mutex_lock(&engine->mutex);
    engine_queue_release(&engine->queue, job->group);
    atomic_store(&engine->ready, engine->queue.ready);
    engine_wake(engine, engine->queue.ready);
    pthread_mutex_unlock(&engine->mutex);
}

void engine_job_start(struct engine *engine, struct engine_job *job)
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
    else if (generation->start_state)
        memcpy(job->state, generation->start_state, bytes);
    else
        memset(job->state, 0, bytes);
    job->reading = true;
    if (generation_is_reading(generation)) return;
    engine_job_end_reading(engine, job);
    engine_job_stop_leading(engine, job);
}

void engine_job_advance(struct engine *engine, struct engine_job *job, float *logits)
{
    const struct engine_options *options = &engine->options;
    struct generation *generation = &job->generation;
    generation_advance(generation, logits);
    if (!job->reading) {
        if (logits && job->first_ns == 0) job->first_ns = clock_monotonic_ns();
        if (logits && job->progressed && !generation_done(generation)) job->progressed(job);
    } else if (!generation_is_reading(generation)) {
        engine_job_end_reading(engine, job);
        engine_job_stop_leading(engine, job);
    } else if (job->caches && generation->fed % options->cache_interval == 0) {
        state_cache_store(options->cache, options->model, generation->prompt.ids, generation->fed, job->state);
    }
}

/* Stores the last state of a generation that ended by itself, under its prompt and new tokens. */
static void engine_job_cache_end(const struct engine_options *options, const struct engine_job *job)
{
    const struct generation *generation = &job->generation;
    const size_t prompt = generation->prompt.count, fed = generation->fed;
    if (fed <= prompt) return; /* the cache has the state before the prompt's last token, which is as good */
    uint32_t *tokens = malloc(fed * sizeof *tokens);
    if (!tokens) return;
    memcpy(tokens, generation->prompt.ids, prompt * sizeof *tokens);
    for (size_t i = prompt; i < fed; i++) tokens[i] = generation->tokens[i - prompt].id;
    state_cache_store(options->cache, options->model, tokens, fed, job->state);
    free(tokens);
}

void engine_job_end(struct engine *engine, struct engine_job *job, enum engine_outcome outcome)
{
    const struct engine_options *options = &engine->options;
    job->outcome = outcome;
    engine_job_stop_leading(engine, job);
    if (outcome == ENGINE_DONE && job->caches) engine_job_cache_end(options, job);
    float *end_state = job->generation.end_state;
    if (end_state && job->prompted_ns > 0 && (outcome == ENGINE_DONE || outcome == ENGINE_TIMEOUT))
        memcpy(end_state, job->state, options->stepper->state_size * sizeof *job->state);
}

enum engine_outcome engine_job_outcome(const struct engine_job *job)
{
    return atomic_load(&job->cancelled) ? ENGINE_CANCELLED : ENGINE_TIMEOUT;
}
