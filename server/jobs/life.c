/* The life of struct jobs: it takes up what the last process left, runs its threads, and ends them. */
#include <dirent.h>
#include <stdlib.h>

#include "base/file.h"
#include "base/log.h"
#include "server/jobs/internal.h"

/* ---- what the last process left ---- */

struct id_list {
    int64_t *ids;
    size_t count;
    bool complete;
};

static bool id_list_add(void *context, const struct job *job)
{
    struct id_list *list = context;
    int64_t *ids = realloc(list->ids, (list->count + 1) * sizeof *ids);
    list->complete = list->complete && ids;
    if (!ids) return false;
    list->ids = ids;
    ids[list->count++] = job->id;
    return true;
}

static bool jobs_list_unfinished(struct jobs *jobs, struct id_list *list, struct error *err)
{
    static const enum job_state states[] = {JOB_PAUSED, JOB_QUEUED};
    *list = (struct id_list){.complete = true};
    for (size_t i = 0; i < sizeof states / sizeof *states; i++) {
        const struct job_filter filter = {.state = states[i], .limit = INT64_MAX};
        if (!store_list_jobs(jobs->store, &filter, id_list_add, list, err)) return false;
    }
    return list->complete || error_set_no_memory(err, list->count * sizeof *list->ids, "the list of jobs");
}

static bool id_list_has(const struct id_list *list, int64_t id)
{
    for (size_t i = 0; i < list->count; i++)
        if (list->ids[i] == id) return true;
    return false;
}

/* Removes the directories of jobs that have ended and of jobs that the store does not know. */
static void jobs_sweep(struct jobs *jobs, const struct id_list *unfinished)
{
    DIR *directory = opendir(state_dir_jobs(jobs->options.state));
    if (!directory) return;
    for (struct dirent *entry; (entry = readdir(directory));) {
        int64_t id;
        if (!job_id_parse(entry->d_name, &id) || id_list_has(unfinished, id)) continue;
        char *path = path_join(state_dir_jobs(jobs->options.state), entry->d_name, NULL);
        if (path) directory_remove(path, NULL);
        free(path);
    }
    closedir(directory);
}

static bool jobs_take_up_all(struct jobs *jobs, struct error *err)
{
    struct id_list unfinished;
    bool ok = jobs_list_unfinished(jobs, &unfinished, err);
    if (ok) jobs_sweep(jobs, &unfinished);
    for (size_t i = 0; ok && i < unfinished.count; i++) ok = jobs_take_up(jobs, unfinished.ids[i], err);
    free(unfinished.ids);
    return ok;
}

/* Refuses links, since SQLite follows them to each of its files. */
static bool jobs_check_links(const struct jobs *jobs, struct error *err)
{
    static const char *const names[] = {STORE_FILE, STORE_FILE "-wal", STORE_FILE "-shm", STORE_FILE "-journal"};
    bool good = true;
    for (size_t i = 0; good && i < sizeof names / sizeof *names; i++) {
        char *path = path_join(state_dir_path(jobs->options.state), names[i], err);
        good = path && state_dir_check_file(path, err);
        free(path);
    }
    return good;
}

static bool jobs_open_store(struct jobs *jobs, struct error *err)
{
    char *path = path_join(state_dir_path(jobs->options.state), STORE_FILE, err);
    jobs->store = path && jobs_check_links(jobs, err) ? store_open(path, err) : NULL;
    free(path);
    return jobs->store && store_recover(jobs->store, err);
}

/* Opens the store and takes up its unfinished jobs. A failure leaves nothing behind. */
static bool jobs_take_over(struct jobs *jobs, struct error *err)
{
    const bool taken = jobs_open_store(jobs, err) && jobs_take_up_all(jobs, err);
    if (!taken) {
        hold_release_all(jobs);
        store_close(jobs->store);
        jobs->store = NULL;
    }
    atomic_store(&jobs->open, taken);
    atomic_store(&jobs->blocked, !taken); /* nobody knows whether a job waits */
    datasets_freeze(jobs->options.datasets, !taken);
    return taken;
}

static bool jobs_open_again(struct jobs *jobs)
{
    if (!jobs_take_over(jobs, NULL)) return false;
    log_event(LOG_INFO, "jobs can be read again", LOG_TEXT("file", STORE_FILE));
    return true;
}

/* The clerk's first task. */
static void jobs_begin(struct task *task)
{
    struct jobs *jobs = (struct jobs *)((char *)task - offsetof(struct jobs, begin_task));
    if (atomic_load(&jobs->open))
        jobs_schedule(jobs);
    else
        ticker_want(&jobs->ticker, true);
}

/* The clerk, once a second while the ticker is wanted. */
static void jobs_open_or_tick(void *context)
{
    struct jobs *jobs = context;
    if (atomic_load(&jobs->open) || jobs_open_again(jobs)) jobs_tick(jobs);
}

/* ---- life ---- */

static bool jobs_start_threads(struct jobs *jobs, struct error *err)
{
    jobs->clerk = worker_new(err);
    return jobs->clerk && ticker_start(&jobs->ticker, jobs->clerk, err);
}

struct jobs *jobs_new(const struct jobs_options *options, struct error *err)
{
    struct jobs *jobs = calloc(1, sizeof *jobs);
    if (!jobs) {
        error_set_no_memory(err, sizeof *jobs, "training jobs");
        return NULL;
    }
    pthread_mutex_init(&jobs->mutex, NULL);
    pthread_cond_init(&jobs->changed, NULL);
    ticker_open(&jobs->ticker, jobs_open_or_tick, jobs);
    jobs->options = *options;
    jobs->begin_task.run = jobs_begin;
    struct error cause = {0};
    bool good = jobs_take_over(jobs, &cause) || cause.code == ERROR_NO_SPACE;
    if (!good && err) *err = cause;
    if (good && cause.code) log_event(LOG_ERROR, "no jobs until there is room", LOG_TEXT("error", cause.message));
    if (good && jobs_start_threads(jobs, err)) {
        worker_submit(jobs->clerk, &jobs->begin_task);
        return jobs;
    }
    jobs_stop(jobs);
    jobs_free(jobs);
    return NULL;
}

/* The clerk. */
static void jobs_drain_now(struct task *task)
{
    struct jobs *jobs = (struct jobs *)((char *)task - offsetof(struct jobs, drain_task));
    struct active_job *active;
    LIST_FOREACH(active, &jobs->active, link)
    if (active->run) job_run_stop(active->run);
    jobs_tell_listeners(jobs, 0);
    pthread_mutex_lock(&jobs->mutex);
    jobs->drained = true;
    pthread_cond_broadcast(&jobs->changed);
    pthread_mutex_unlock(&jobs->mutex);
}

void jobs_drain(struct jobs *jobs)
{
    if (!jobs->clerk || atomic_exchange(&jobs->draining, true)) return;
    jobs->drain_task.run = jobs_drain_now;
    worker_submit(jobs->clerk, &jobs->drain_task);
}

void jobs_stop(struct jobs *jobs)
{
    jobs_drain(jobs);
    pthread_mutex_lock(&jobs->mutex);
    while (jobs->clerk && (!jobs->drained || jobs->running > 0)) pthread_cond_wait(&jobs->changed, &jobs->mutex);
    pthread_mutex_unlock(&jobs->mutex);
    ticker_stop(&jobs->ticker);
    if (jobs->clerk) worker_stop(jobs->clerk);
}

void jobs_free(struct jobs *jobs)
{
    if (!jobs) return;
    active_drop_all(jobs);
    hold_release_all(jobs);
    worker_free(jobs->clerk);
    store_close(jobs->store);
    ticker_close(&jobs->ticker);
    pthread_cond_destroy(&jobs->changed);
    pthread_mutex_destroy(&jobs->mutex);
    free(jobs);
}

bool jobs_require_open(struct jobs *jobs, struct error *err)
{
    return atomic_load(&jobs->open) ||
           error_set(err, ERROR_NO_SPACE,
                     "the disk of the state directory is full: jobs can be read and begun when there is room again");
}

struct worker *jobs_clerk(struct jobs *jobs)
{
    return jobs->clerk;
}
