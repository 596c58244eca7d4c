/* Starting and stopping: what the last process left, the clock's ticks, the end. */
#include <dirent.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/file.h"
#include "base/log.h"
#include "server/jobs/internal.h"

#define TICK_SECONDS 1

/* ---- ticks ---- */

static void *ticker_main(void *argument)
{
    struct jobs *jobs = argument;
    pthread_mutex_lock(&jobs->mutex);
    while (!jobs->stopping) { /* locked here */
        struct timespec next;
        if (!jobs->ticks) {
            pthread_cond_wait(&jobs->changed, &jobs->mutex);
            continue;
        }
        clock_gettime(CLOCK_MONOTONIC, &next);
        next.tv_sec += TICK_SECONDS;
        while (!jobs->stopping && pthread_cond_timedwait(&jobs->changed, &jobs->mutex, &next) == 0) continue;
        if (jobs->stopping || jobs->tick_submitted) continue;
        jobs->tick_submitted = worker_submit(jobs->clerk, &jobs->tick_task);
    }
    pthread_mutex_unlock(&jobs->mutex);
    return NULL;
}

void jobs_want_ticks(struct jobs *jobs, bool wanted)
{
    pthread_mutex_lock(&jobs->mutex);
    jobs->ticks = wanted;
    pthread_cond_broadcast(&jobs->changed);
    pthread_mutex_unlock(&jobs->mutex);
}

void jobs_count_running(struct jobs *jobs, int change)
{
    pthread_mutex_lock(&jobs->mutex);
    jobs->running += (size_t)change;
    pthread_cond_broadcast(&jobs->changed);
    pthread_mutex_unlock(&jobs->mutex);
}

/* ---- what the last process left ---- */

struct id_list {
    int64_t *ids;
    size_t count;
    bool complete;
};

static bool collect(void *context, const struct job *job)
{
    struct id_list *list = context;
    int64_t *ids = realloc(list->ids, (list->count + 1) * sizeof *ids);
    list->complete = list->complete && ids;
    if (!ids) return false;
    list->ids = ids;
    ids[list->count++] = job->id;
    return true;
}

static bool list_unfinished(struct jobs *jobs, struct id_list *list, struct error *err)
{
    static const enum job_state states[] = {JOB_PAUSED, JOB_QUEUED};
    *list = (struct id_list){.complete = true};
    for (size_t i = 0; i < sizeof states / sizeof *states; i++)
        if (!store_list_jobs(jobs->store, states[i], 0, INT64_MAX, collect, list, err)) return false;
    return list->complete || error_set_no_memory(err, list->count * sizeof *list->ids, "the list of jobs");
}

static bool is_listed(const struct id_list *list, int64_t id)
{
    for (size_t i = 0; i < list->count; i++)
        if (list->ids[i] == id) return true;
    return false;
}

/* Removes the directories of jobs that have ended, or that the store does not know. */
static void sweep_directories(struct jobs *jobs, const struct id_list *unfinished)
{
    DIR *directory = opendir(state_dir_jobs(jobs->options.state));
    if (!directory) return;
    for (struct dirent *entry; (entry = readdir(directory));) {
        int64_t id;
        if (!job_id_parse(entry->d_name, &id) || is_listed(unfinished, id)) continue;
        char *path = path_join(state_dir_jobs(jobs->options.state), entry->d_name, NULL);
        if (path) directory_remove(path, NULL);
        free(path);
    }
    closedir(directory);
}

static bool take_up_all(struct jobs *jobs, struct error *err)
{
    struct id_list unfinished;
    bool ok = list_unfinished(jobs, &unfinished, err);
    if (ok) sweep_directories(jobs, &unfinished);
    for (size_t i = 0; ok && i < unfinished.count; i++) ok = jobs_take_up(jobs, unfinished.ids[i], err);
    free(unfinished.ids);
    return ok;
}

/* SQLite follows links to each of its files. */
static bool check_files(const struct jobs *jobs, struct error *err)
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

static bool open_store(struct jobs *jobs, struct error *err)
{
    char *path = path_join(state_dir_path(jobs->options.state), STORE_FILE, err);
    jobs->store = path && check_files(jobs, err) ? store_open(path, err) : NULL;
    free(path);
    return jobs->store && store_recover(jobs->store, err);
}

static void drop_holds(struct jobs *jobs)
{
    for (struct hold *hold = jobs->holds, *next; hold; hold = next) {
        next = hold->next;
        datasets_release(jobs->options.datasets, hold->dataset);
        free(hold);
    }
    jobs->holds = NULL;
}

/* The store, and what is in it. A failure leaves nothing behind. */
static bool take_over(struct jobs *jobs, struct error *err)
{
    const bool taken = open_store(jobs, err) && take_up_all(jobs, err);
    if (!taken) {
        drop_holds(jobs);
        store_close(jobs->store);
        jobs->store = NULL;
    }
    atomic_store(&jobs->open, taken);
    atomic_store(&jobs->blocked, !taken); /* for all that is known, a job waits */
    datasets_freeze(jobs->options.datasets, !taken);
    return taken;
}

static bool open_again(struct jobs *jobs)
{
    if (!take_over(jobs, NULL)) return false;
    log_event(LOG_INFO, "jobs can be read again", LOG_TEXT("file", STORE_FILE));
    return true;
}

static void begin(struct task *task)
{
    struct jobs *jobs = (struct jobs *)((char *)task - offsetof(struct jobs, begin_task));
    if (atomic_load(&jobs->open))
        jobs_schedule(jobs);
    else
        jobs_want_ticks(jobs, true);
}

/* ---- ticks ---- */

/* The clerk. */
static void tick(struct task *task)
{
    struct jobs *jobs = (struct jobs *)((char *)task - offsetof(struct jobs, tick_task));
    pthread_mutex_lock(&jobs->mutex);
    jobs->tick_submitted = false;
    pthread_mutex_unlock(&jobs->mutex);
    if (atomic_load(&jobs->open) || open_again(jobs)) jobs_tick(jobs);
}

/* ---- life ---- */

static bool start_threads(struct jobs *jobs, struct error *err)
{
    jobs->clerk = worker_new(err);
    if (!jobs->clerk) return false;
    int code = pthread_create(&jobs->ticker, NULL, ticker_main, jobs);
    jobs->ticker_started = code == 0;
    return code == 0 || error_set_errno(err, code, "cannot start a thread");
}

struct jobs *jobs_new(const struct jobs_options *options, struct error *err)
{
    struct jobs *jobs = calloc(1, sizeof *jobs);
    if (!jobs) {
        error_set_no_memory(err, sizeof *jobs, "training jobs");
        return NULL;
    }
    pthread_condattr_t monotonic;
    pthread_condattr_init(&monotonic);
    pthread_condattr_setclock(&monotonic, CLOCK_MONOTONIC);
    pthread_mutex_init(&jobs->mutex, NULL);
    pthread_cond_init(&jobs->changed, &monotonic);
    pthread_condattr_destroy(&monotonic);
    jobs->options = *options;
    jobs->tick_task.run = tick;
    jobs->begin_task.run = begin;
    struct error cause = {0};
    bool good = take_over(jobs, &cause) || cause.code == ERROR_NO_SPACE;
    if (!good && err) *err = cause;
    if (good && cause.code) log_event(LOG_ERROR, "no jobs until there is room", LOG_TEXT("error", cause.message));
    if (good && start_threads(jobs, err)) {
        worker_submit(jobs->clerk, &jobs->begin_task);
        return jobs;
    }
    jobs_stop(jobs);
    jobs_free(jobs);
    return NULL;
}

static void drain(struct task *task)
{
    struct jobs *jobs = (struct jobs *)((char *)task - offsetof(struct jobs, drain_task));
    for (struct active *active = jobs->active; active; active = active->next)
        if (active->run) run_stop(active->run);
    jobs_tell_listeners(jobs, 0);
    pthread_mutex_lock(&jobs->mutex);
    jobs->drained = true;
    pthread_cond_broadcast(&jobs->changed);
    pthread_mutex_unlock(&jobs->mutex);
}

void jobs_drain(struct jobs *jobs)
{
    if (!jobs->clerk || atomic_exchange(&jobs->draining, true)) return;
    jobs->drain_task.run = drain;
    worker_submit(jobs->clerk, &jobs->drain_task);
}

void jobs_stop(struct jobs *jobs)
{
    jobs_drain(jobs);
    pthread_mutex_lock(&jobs->mutex);
    while (jobs->clerk && (!jobs->drained || jobs->running > 0)) pthread_cond_wait(&jobs->changed, &jobs->mutex);
    jobs->stopping = true;
    pthread_cond_broadcast(&jobs->changed);
    pthread_mutex_unlock(&jobs->mutex);
    if (jobs->ticker_started) pthread_join(jobs->ticker, NULL);
    if (jobs->clerk) worker_stop(jobs->clerk);
}

void jobs_free(struct jobs *jobs)
{
    if (!jobs) return;
    for (struct active *active = jobs->active, *next; active; active = next) {
        next = active->next;
        jobs_free_active(active);
    }
    drop_holds(jobs);
    worker_free(jobs->clerk);
    store_close(jobs->store);
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

void job_id_print(int64_t id, char out[JOB_ID_SIZE])
{
    snprintf(out, JOB_ID_SIZE, "j%06lld", (long long)id);
}

bool job_id_parse(const char *text, int64_t *id)
{
    char again[JOB_ID_SIZE], *end;
    if (*text != 'j') return false;
    errno = 0;
    *id = strtoll(text + 1, &end, 10);
    if (errno != 0 || *end != '\0' || *id < 1) return false;
    job_id_print(*id, again);
    return strcmp(again, text) == 0;
}
