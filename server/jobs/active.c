/* The list of jobs that have a run. The clerk alone changes it; other threads read figures from it. */
#include <stdio.h>
#include <stdlib.h>

#include "base/clock.h"
#include "base/log.h"
#include "server/jobs/internal.h"

struct active_job *active_find(const struct jobs *jobs, int64_t id)
{
    struct active_job *active = LIST_FIRST(&jobs->active);
    while (active && active->id != id) active = LIST_NEXT(active, link);
    return active;
}

void active_add(struct jobs *jobs, struct active_job *active)
{
    pthread_mutex_lock(&jobs->mutex);
    LIST_INSERT_HEAD(&jobs->active, active, link);
    pthread_mutex_unlock(&jobs->mutex);
    if (active->run) active_count_threads(jobs, 1);
}

void active_drop(struct active_job *active)
{
    pthread_mutex_lock(&active->jobs->mutex);
    LIST_REMOVE(active, link);
    pthread_mutex_unlock(&active->jobs->mutex);
    if (active->run) job_run_free(active->run);
    free(active);
}

void active_drop_all(struct jobs *jobs)
{
    for (struct active_job *active = LIST_FIRST(&jobs->active), *next; active; active = next) {
        next = LIST_NEXT(active, link);
        active_drop(active);
    }
}

void active_end(struct active_job *active)
{
    pthread_mutex_lock(&active->jobs->mutex);
    active->over = true;
    pthread_mutex_unlock(&active->jobs->mutex);
}

void active_count_threads(struct jobs *jobs, int change)
{
    pthread_mutex_lock(&jobs->mutex);
    jobs->running += (size_t)change;
    pthread_cond_broadcast(&jobs->changed);
    pthread_mutex_unlock(&jobs->mutex);
}

size_t active_count_runs(const struct jobs *jobs)
{
    const struct active_job *active;
    size_t count = 0;
    LIST_FOREACH(active, &jobs->active, link) count += !active->over;
    return count;
}

bool active_any_over(const struct jobs *jobs)
{
    const struct active_job *active;
    LIST_FOREACH(active, &jobs->active, link)
    if (active->over) return true;
    return false;
}

/* ---- what other threads read ---- */

void active_keep_figures(struct active_job *active, const struct run_news *news)
{
    struct job_figures *figures = &active->figures;
    pthread_mutex_lock(&active->jobs->mutex);
    if (news->kind == NEWS_PROGRESS) {
        figures->train_nats = news->metric.train_nats;
        figures->tokens_per_second = news->metric.tokens_per_second;
        figures->eta_seconds = news->eta_seconds;
        figures->fraction = news->fraction;
    } else if (news->kind == NEWS_VALIDATION) {
        figures->validation_nats = news->metric.validation_nats;
    }
    pthread_mutex_unlock(&active->jobs->mutex);
}

void jobs_each_running(struct jobs *jobs, void (*each)(void *context, int64_t id, const struct job_figures *figures),
                       void *context)
{
    const struct active_job *active;
    pthread_mutex_lock(&jobs->mutex);
    LIST_FOREACH(active, &jobs->active, link)
    if (!active->over) each(context, active->id, &active->figures);
    pthread_mutex_unlock(&jobs->mutex);
}

size_t jobs_count_waiting(struct jobs *jobs)
{
    const struct active_job *active;
    size_t count = atomic_load(&jobs->blocked) ? 1 : 0;
    pthread_mutex_lock(&jobs->mutex);
    LIST_FOREACH(active, &jobs->active, link)
    if (atomic_load(&active->waits_for_room)) count++;
    pthread_mutex_unlock(&jobs->mutex);
    return count;
}

/* ---- what is decided of one ---- */

void active_decide_stop(struct active_job *active, bool for_room, const char *reason)
{
    active->room_then = room_free(active->jobs);
    active->waits_since_ns = clock_monotonic_ns();
    snprintf(active->reason, sizeof active->reason, "%s", reason);
    active->change = (struct job_change){
        .state = for_room ? JOB_PAUSED : JOB_FAILED, .reason = active->reason, .waits_for_room = for_room};
}

void active_warn_once(struct active_job *active, const struct error *err)
{
    if (!active->warned) log_event(LOG_ERROR, "job store", LOG_TEXT("error", err->message));
    active->warned = true;
}
