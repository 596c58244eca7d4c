/* The clerk: what it decides about jobs, and when. Its tasks are the requests, what runs tell, and ticks. */
#include "server/jobs/jobs.h"

#include <stdio.h>
#include <stdlib.h>

#include "base/log.h"
#include "server/jobs/internal.h"

struct store *jobs_store(struct jobs *jobs)
{
    return jobs->store;
}

/* ---- what a run tells ---- */

static void jobs_ended(struct job_run *run)
{
    struct active_job *active = job_run_context(run);
    struct jobs *jobs = active->jobs;
    const int64_t id = active->id;
    active_end(active);
    jobs_settle(active);
    jobs_tell_listeners(jobs, id); /* perhaps no state was written, but a daemon that drains waited for this run */
    jobs_schedule(jobs);
    active_count_threads(jobs, -1);
}

static bool jobs_store_news(struct store *store, int64_t id, const struct run_news *news, struct error *err)
{
    switch (news->kind) {
    case NEWS_PROGRESS:
        return store_add_progress(store, id, &news->metric, news->progress, err);
    case NEWS_VALIDATION:
        return store_add_validation(store, id, &news->metric, news->event, news->progress, err);
    case NEWS_SAMPLE:
        return store_add_sample(store, id, &news->sample, news->event, err);
    case NEWS_CHECKPOINT:
        return store_add_checkpoint(store, id, news->event, err);
    case NEWS_NOTE:
        return store_add_note(store, id, news->event, err);
    }
    return true;
}

static void jobs_told(struct run_news *news)
{
    struct active_job *active = job_run_context(news->run);
    struct jobs *jobs = active->jobs;
    struct error err = {0};
    if (!active->silent && jobs_store_news(jobs->store, active->id, news, &err)) jobs_tell_listeners(jobs, active->id);
    if (err.code) active_warn_once(active, &err);
    active_keep_figures(active, news);
    run_news_free(news);
}

/* ---- the queue ---- */

/* Starts a job, or fails it. False: room, memory or threads are lacking, or the store cannot be written; the job stays
 * in the queue until a tick. known: the log says already that jobs wait. */
static bool jobs_try_to_start(struct jobs *jobs, int64_t id, bool known)
{
    static const struct run_callbacks callbacks = {jobs_told, jobs_ended};
    struct error err = {0};
    if (jobs_start(jobs, id, &callbacks, &err)) return true;
    const bool passes = err.code == ERROR_NO_SPACE || jobs_is_passing(&err);
    if (!passes && jobs_fail(jobs, id, err.message, &(struct error){0})) return true;
    if (!known) log_event(LOG_WARNING, "jobs wait", LOG_TEXT("error", err.message));
    return false;
}

void jobs_schedule(struct jobs *jobs)
{
    struct error err = {0};
    const bool known = atomic_load(&jobs->blocked);
    bool blocked = false;
    for (int64_t id = 0; !atomic_load(&jobs->draining) && active_count_runs(jobs) < jobs->options.max_parallel;) {
        if (!store_next_queued(jobs->store, id, &id, &err) || id == 0) break;
        /* A job whose run still stops has its turn afterwards. */
        if (!active_find(jobs, id) && !jobs_try_to_start(jobs, id, known)) blocked = true;
    }
    /* If the store cannot be read, a job may wait. */
    atomic_store(&jobs->blocked, blocked || err.code);
    if (err.code && !known) log_event(LOG_ERROR, "job store", LOG_TEXT("error", err.message));
    ticker_want(&jobs->ticker, active_any_over(jobs) || atomic_load(&jobs->blocked));
}

void jobs_tick(struct jobs *jobs)
{
    static const struct job_change queued = {.state = JOB_QUEUED};
    for (struct active_job *active = LIST_FIRST(&jobs->active), *next; active; active = next) {
        next = LIST_NEXT(active, link);
        if (!active->over) continue;
        if (!active->waits_for_room)
            jobs_settle(active);
        else if (room_is_back(active) && jobs_set_state(jobs, active->id, &queued, NULL))
            active_drop(active);
    }
    jobs_schedule(jobs);
}

/* ---- what clients ask for ---- */

/* Checks where the model will be, so that no job trains for a place that is refused in the end. */
static bool jobs_check_place(const struct jobs *jobs, const json_t *request, struct error *err)
{
    char *path = path_join(state_dir_models(jobs->options.state), request_text(request, "model"), err);
    const bool good = path && state_dir_check_file(path, err);
    free(path);
    return good;
}

static void log_job_order(int64_t id, const json_t *request)
{
    char name[JOB_ID_SIZE];
    job_id_print(id, name);
    log_event(LOG_INFO, "job", LOG_TEXT("job", name), LOG_TEXT("state", job_state_names[JOB_QUEUED]),
              LOG_TEXT("model", request_text(request, "model")), LOG_TEXT("dataset", request_text(request, "dataset")),
              LOG_TEXT("init_from", request_text(request, "init_from")));
}

bool jobs_add(struct jobs *jobs, const struct job_order *order, int64_t *id, struct error *err)
{
    struct hold *held;
    if (!jobs_check_place(jobs, order->request, err)) return false;
    if (!hold_take(jobs, order->request, &held, err)) return false;
    if (!store_add_job(jobs->store, order, id, err)) {
        hold_drop(jobs, held);
        return false;
    }
    hold_give(jobs, held, *id);
    log_job_order(*id, order->request);
    return true;
}

bool jobs_withdraw(struct jobs *jobs, int64_t id, struct error *err)
{
    if (!store_delete_job(jobs->store, id, err)) return false;
    hold_release(jobs, id);
    return true;
}

bool jobs_take_up(struct jobs *jobs, int64_t id, struct error *err)
{
    struct job job;
    struct error cause = {0};
    struct hold *held;
    if (!store_get_job(jobs->store, id, &job, err)) return false;
    const bool ok = hold_take(jobs, job.request, &held, &cause);
    store_close_job(&job);
    if (ok) {
        hold_give(jobs, held, id);
    } else if (cause.code == ERROR_NOT_FOUND) {
        error_add_context(&cause, "the dataset has gone");
        return jobs_fail(jobs, id, cause.message, err);
    }
    return ok || error_set(err, cause.code, "%s", cause.message);
}

bool jobs_get(struct jobs *jobs, int64_t id, struct job *job, struct error *err)
{
    if (!store_get_job(jobs->store, id, job, err)) return false;
    const struct active_job *active = active_find(jobs, id);
    if (!active || !active->decided || job->state != JOB_RUNNING) return true;
    job->state = active->change.state;
    job->waits_for_room = active->change.waits_for_room;
    snprintf(job->reason, sizeof job->reason, "%s", active->change.reason ? active->change.reason : "");
    return true;
}

/* Stops the run of a job, if there is one, and ignores what it still tells. */
static void jobs_retire(struct jobs *jobs, int64_t id, bool final)
{
    struct active_job *active = active_find(jobs, id);
    if (active && active->over) {
        active_drop(active);
        active = NULL;
    }
    if (active) {
        active->silent = true;
        job_run_stop(active->run);
    } else if (final) {
        jobs_clear_away(jobs, id);
    }
}

static bool jobs_refuse_action(const struct job *job, const char *action, struct error *err)
{
    return error_set(err, ERROR_CONFLICT, "the job is %s and cannot be %s", job_state_names[job->state], action);
}

static bool jobs_change_state(struct jobs *jobs, const struct job *job, enum job_state state, struct error *err)
{
    const struct job_change change = {.state = state};
    if (job->state == state && !job->waits_for_room) return true;
    if (!jobs_set_state(jobs, job->id, &change, err)) return false;
    jobs_retire(jobs, job->id, job_is_final(state));
    return true;
}

static bool jobs_delete(struct jobs *jobs, const struct job *job, struct error *err)
{
    if (job->state == JOB_RUNNING) return jobs_refuse_action(job, "deleted: cancel it first", err);
    if (!store_delete_job(jobs->store, job->id, err)) return false;
    jobs_retire(jobs, job->id, true);
    jobs_tell_listeners(jobs, job->id);
    return true;
}

static bool jobs_do(struct jobs *jobs, const struct job *job, enum job_action action, struct error *err)
{
    switch (action) {
    case JOB_PAUSE:
        return job_is_final(job->state) ? jobs_refuse_action(job, "paused", err)
                                        : jobs_change_state(jobs, job, JOB_PAUSED, err);
    case JOB_RESUME:
        if (job_is_final(job->state)) return jobs_refuse_action(job, "resumed", err);
        return job->state != JOB_PAUSED || jobs_change_state(jobs, job, JOB_QUEUED, err);
    case JOB_CANCEL:
        if (job->state == JOB_SUCCEEDED || job->state == JOB_FAILED) return jobs_refuse_action(job, "cancelled", err);
        return jobs_change_state(jobs, job, JOB_CANCELLED, err);
    case JOB_DELETE:
        return jobs_delete(jobs, job, err);
    }
    return false;
}

bool jobs_act(struct jobs *jobs, int64_t id, enum job_action action, struct error *err)
{
    struct job job;
    bool ok = jobs_get(jobs, id, &job, err) && jobs_do(jobs, &job, action, err);
    store_close_job(&job);
    if (ok) jobs_schedule(jobs);
    return ok;
}

bool jobs_is_over(struct jobs *jobs, int64_t id)
{
    struct job job;
    struct error err = {0};
    if (!jobs_get(jobs, id, &job, &err)) return err.code == ERROR_NOT_FOUND;
    store_close_job(&job);
    if (job_is_final(job.state)) return true;
    const struct active_job *active = active_find(jobs, id);
    return atomic_load(&jobs->draining) && (!active || active->over);
}
