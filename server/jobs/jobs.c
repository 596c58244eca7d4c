#include "server/jobs/jobs.h"

#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "base/clock.h"
#include "base/file.h"
#include "base/log.h"
#include "model/files/checkpoint.h"
#include "server/jobs/internal.h"

#define TEXT_FILE "corpus.txt"
#define INIT      "init"

#define ROOM_STEP          ((uint64_t)1 << 20) /* bytes that must have become free for a job to try again */
#define ROOM_RETRY_SECONDS 600                 /* after which it tries in any case */

struct store *jobs_store(struct jobs *jobs)
{
    return jobs->store;
}

/* ---- small things ---- */

static struct active *find_active(struct jobs *jobs, int64_t id)
{
    struct active *active = jobs->active;
    while (active && active->id != id) active = active->next;
    return active;
}

void jobs_free_active(struct active *active)
{
    if (active->run) run_free(active->run);
    free(active);
}

static void drop_active(struct active *active)
{
    struct jobs *jobs = active->jobs;
    struct active **link = &jobs->active;
    while (*link != active) link = &(*link)->next;
    pthread_mutex_lock(&jobs->mutex);
    *link = active->next;
    pthread_mutex_unlock(&jobs->mutex);
    jobs_free_active(active);
}

static char *job_path(const struct jobs *jobs, int64_t id, struct error *err)
{
    char name[JOB_ID_SIZE];
    job_id_print(id, name);
    return path_join(state_dir_jobs(jobs->options.state), name, err);
}

static const char *member(const json_t *request, const char *key)
{
    return json_string_value(json_object_get(request, key));
}

static bool is_final(enum job_state state)
{
    return state == JOB_SUCCEEDED || state == JOB_FAILED || state == JOB_CANCELLED;
}

static void log_state(int64_t id, const struct job_change *change)
{
    char name[JOB_ID_SIZE];
    job_id_print(id, name);
    log_event(change->state == JOB_FAILED ? LOG_WARNING : LOG_INFO, "job", LOG_TEXT("job", name),
              LOG_TEXT("state", job_state_names[change->state]), LOG_TEXT("reason", change->reason));
}

static void log_order(int64_t id, const json_t *request)
{
    char name[JOB_ID_SIZE];
    job_id_print(id, name);
    log_event(LOG_INFO, "job", LOG_TEXT("job", name), LOG_TEXT("state", job_state_names[JOB_QUEUED]),
              LOG_TEXT("model", member(request, "model")), LOG_TEXT("dataset", member(request, "dataset")),
              LOG_TEXT("init_from", member(request, "init_from")));
}

/* ---- listeners ---- */

void jobs_listen(struct jobs *jobs, struct job_listener *listener)
{
    listener->previous = NULL;
    listener->next = jobs->listeners;
    if (jobs->listeners) jobs->listeners->previous = listener;
    jobs->listeners = listener;
}

void jobs_forget(struct jobs *jobs, struct job_listener *listener)
{
    if (listener->next) listener->next->previous = listener->previous;
    *(listener->previous ? &listener->previous->next : &jobs->listeners) = listener->next;
}

void jobs_tell_listeners(struct jobs *jobs, int64_t id)
{
    for (struct job_listener *listener = jobs->listeners; listener; listener = listener->next)
        if (id == 0 || listener->id == id) listener->told(listener);
}

/* ---- datasets ---- */

/* A hold on the dataset that the request names, of no job yet. *held is NULL where it names none. */
static bool take_hold(struct jobs *jobs, const json_t *request, struct hold **held, struct error *err)
{
    const char *name = member(request, "dataset");
    *held = NULL;
    if (!name) return true;
    struct hold *hold = malloc(sizeof *hold);
    if (!hold) return error_set_no_memory(err, sizeof *hold, "a job");
    *hold = (struct hold){.dataset = datasets_acquire(jobs->options.datasets, name, err)};
    if (!hold->dataset) {
        free(hold);
        return false;
    }
    *held = hold;
    return true;
}

static void give_hold(struct jobs *jobs, struct hold *held, int64_t id)
{
    if (!held) return;
    held->id = id;
    held->next = jobs->holds;
    jobs->holds = held;
}

static void drop_hold(struct jobs *jobs, struct hold *held)
{
    if (!held) return;
    datasets_release(jobs->options.datasets, held->dataset);
    free(held);
}

static void let_go(struct jobs *jobs, int64_t id)
{
    struct hold **link = &jobs->holds;
    while (*link && (*link)->id != id) link = &(*link)->next;
    struct hold *held = *link;
    if (!held) return;
    *link = held->next;
    drop_hold(jobs, held);
}

static const struct dataset *held_dataset(const struct jobs *jobs, int64_t id)
{
    const struct hold *held = jobs->holds;
    while (held && held->id != id) held = held->next;
    return held ? held->dataset : NULL;
}

/* What a job that has ended leaves: nothing but its rows. */
static void clear_away(struct jobs *jobs, int64_t id)
{
    char *path = job_path(jobs, id, NULL);
    if (path) directory_remove(path, NULL);
    free(path);
    let_go(jobs, id);
}

/* ---- states ---- */

static bool set_state(struct jobs *jobs, int64_t id, const struct job_change *change, struct error *err)
{
    if (!store_set_state(jobs->store, id, change, err)) return false;
    log_state(id, change);
    if (is_final(change->state) && jobs->options.ended) jobs->options.ended(jobs->options.context, change->state);
    jobs_tell_listeners(jobs, id);
    return true;
}

/* For a job without a run; where the store cannot be written the job stays as it is. */
static bool set_failed(struct jobs *jobs, int64_t id, const char *reason, struct error *err)
{
    const struct job_change failed = {.state = JOB_FAILED, .reason = reason};
    if (!set_state(jobs, id, &failed, err)) return false;
    clear_away(jobs, id);
    return true;
}

/* ---- the end of a run ---- */

static bool publish(struct jobs *jobs, const struct run *run, const struct job *job, struct error *err)
{
    const char *model = member(job->request, "model");
    char *path = path_join(state_dir_models(jobs->options.state), model, err);
    bool ok = path && state_dir_check_file(path, err) && checkpoint_copy(run_model(run), path, err);
    free(path);
    if (!ok || !jobs->options.published) return ok;
    const bool deploy = json_is_true(json_object_get(job->request, "deploy"));
    return jobs->options.published(jobs->options.context, model, deploy, err);
}

static uint64_t free_room(const struct jobs *jobs)
{
    uint64_t room, size;
    return state_dir_room(jobs->options.state, &room, &size) ? room : 0;
}

static void decide_failure(struct active *active, bool no_room, const char *reason)
{
    active->room_then = free_room(active->jobs);
    active->waits_since_ns = clock_monotonic_ns();
    snprintf(active->reason, sizeof active->reason, "%s", reason);
    active->change = (struct job_change){
        .state = no_room ? JOB_PAUSED : JOB_FAILED, .reason = active->reason, .waits_for_room = no_room};
}

/* What is lacking now and will be there in a while. */
static bool is_passing(const struct error *err)
{
    return err->code == ERROR_NO_MEMORY || err->code == ERROR_UNAVAILABLE;
}

/* What becomes of a job whose run is over. False: it cannot be told yet, since the model could not be published. */
static bool decide(struct active *active, const struct job *job, struct error *err)
{
    switch (run_end(active->run)) {
    case RUN_DONE:
        active->change = (struct job_change){.state = JOB_SUCCEEDED};
        if (publish(active->jobs, active->run, job, err)) break;
        if (is_passing(err)) return false;
        decide_failure(active, err->code == ERROR_NO_SPACE, err->message);
        break;
    case RUN_INTERRUPTED:
        active->change = (struct job_change){.state = JOB_QUEUED};
        break;
    case RUN_NO_ROOM:
    case RUN_FAILED:
        decide_failure(active, run_end(active->run) == RUN_NO_ROOM, run_reason(active->run));
        break;
    }
    active->decided = true;
    return true;
}

static void warn_once(struct active *active, const struct error *err)
{
    if (!active->warned) log_event(LOG_ERROR, "job store", LOG_TEXT("error", err->message));
    active->warned = true;
}

/* Writes what was decided. Where that fails, or the job waits for room, its `active` stays, for the next tick. */
static void settle(struct active *active)
{
    struct jobs *jobs = active->jobs;
    struct error err = {0};
    struct job job;
    if (!store_get_job(jobs->store, active->id, &job, &err) && err.code != ERROR_NOT_FOUND) {
        warn_once(active, &err);
        return;
    }
    const bool gone = err.code == ERROR_NOT_FOUND, running = !gone && job.state == JOB_RUNNING;
    bool settled = true;
    if (running) {
        struct error why = {0};
        settled = active->decided || decide(active, &job, &why);
        err = why;
        if (settled) {
            err = (struct error){0};
            settled = set_state(jobs, active->id, &active->change, &err);
        }
    }
    const enum job_state state = running ? active->change.state : job.state;
    store_close_job(&job);
    if (!settled) {
        warn_once(active, &err);
        return;
    }
    active->waits_for_room = running && active->change.waits_for_room;
    if (gone || is_final(state)) clear_away(jobs, active->id);
    if (!active->waits_for_room) drop_active(active);
}

static void ended(struct run *run)
{
    struct active *active = run_context(run);
    struct jobs *jobs = active->jobs;
    const int64_t id = active->id;
    pthread_mutex_lock(&jobs->mutex);
    active->over = true;
    pthread_mutex_unlock(&jobs->mutex);
    settle(active);
    jobs_tell_listeners(jobs, id); /* nothing may have been written, and yet the daemon waited for this run alone */
    jobs_schedule(jobs);
    jobs_count_running(jobs, -1);
}

/* ---- news ---- */

static bool store_news(struct store *store, int64_t id, const struct run_news *news, struct error *err)
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

static void keep_figures(struct active *active, const struct run_news *news)
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
    pthread_mutex_lock(&jobs->mutex);
    for (const struct active *active = jobs->active; active; active = active->next)
        if (!active->over) each(context, active->id, &active->figures);
    pthread_mutex_unlock(&jobs->mutex);
}

size_t jobs_count_waiting(struct jobs *jobs)
{
    size_t count = atomic_load(&jobs->blocked) ? 1 : 0;
    pthread_mutex_lock(&jobs->mutex);
    for (const struct active *active = jobs->active; active; active = active->next)
        if (atomic_load(&active->waits_for_room)) count++;
    pthread_mutex_unlock(&jobs->mutex);
    return count;
}

static void told(struct run_news *news)
{
    struct active *active = run_context(news->run);
    struct jobs *jobs = active->jobs;
    struct error err = {0};
    if (!active->silent && store_news(jobs->store, active->id, news, &err)) jobs_tell_listeners(jobs, active->id);
    if (err.code) warn_once(active, &err);
    keep_figures(active, news);
    run_news_free(news);
}

/* ---- starting ---- */

/* The corpus that came with the request, as a file. */
static char *text_path(struct jobs *jobs, int64_t id, const char *directory, struct error *err)
{
    char *path = path_join(directory, TEXT_FILE, err);
    char *text = path ? store_job_text(jobs->store, id, err) : NULL;
    const bool ok = text && file_publish(path, text, strlen(text), err);
    free(text);
    if (ok) return path;
    free(path);
    return NULL;
}

static char *data_path(struct jobs *jobs, const struct job *job, const char *directory, struct error *err)
{
    const char *dataset = member(job->request, "dataset");
    if (!dataset) return text_path(jobs, job->id, directory, err);
    char *place = path_join(state_dir_datasets(jobs->options.state), dataset, err), *path = NULL;
    if (place && state_dir_check_entry(place, err)) {
        path = strdup(held_dataset(jobs, job->id)->path);
        if (!path) error_set_no_memory(err, 0, "a path");
    }
    free(place);
    return path;
}

/* The model that is fine-tuned, as it is when the job begins: a copy, so that a resumed run reads the same. */
static bool copy_init(struct jobs *jobs, const struct job *job, const char *directory, char **init, struct error *err)
{
    const char *name = member(job->request, "init_from");
    *init = NULL;
    if (!name) return true;
    *init = path_join(directory, INIT, err);
    struct stat there;
    if (*init && stat(*init, &there) == 0) return true;
    char *from = *init ? jobs->options.find_model(jobs->options.context, name, err) : NULL;
    const bool ok = from && checkpoint_copy(from, *init, err);
    free(from);
    return ok;
}

/* What a run needs, then the promise that it runs, which nothing can break any more. */
static struct run *start_run(struct jobs *jobs, struct active *active, const struct job *job, const char *directory,
                             struct error *err)
{
    static const struct job_change running = {.state = JOB_RUNNING};
    char name[JOB_ID_SIZE], *init = NULL, *data = NULL;
    struct run *run = NULL;
    job_id_print(job->id, name);
    if (state_dir_check_entry(directory, err) && copy_init(jobs, job, directory, &init, err) &&
        (data = data_path(jobs, job, directory, err))) {
        const struct run_order order = {.id = job->id,
                                        .name = name,
                                        .directory = directory,
                                        .init_from = init,
                                        .request = job->request,
                                        .progress = job->progress,
                                        .data = data,
                                        .snapshot_seconds = jobs->options.snapshot_seconds,
                                        .clerk = jobs->clerk,
                                        .told = told,
                                        .ended = ended,
                                        .context = active};
        run = run_new(&order, err);
    }
    if (run && set_state(jobs, job->id, &running, err)) {
        run_start(run);
    } else if (run) {
        run_free(run);
        run = NULL;
    }
    free(data);
    free(init);
    return run;
}

/* What a run lays on the disk of the job's dataset, at least. A text that came with the request stays in memory. */
static uint64_t needed_room(const struct jobs *jobs, const struct job *job)
{
    const struct dataset *dataset = held_dataset(jobs, job->id);
    const json_t *options = json_object_get(job->request, "options");
    const char *level = member(options, "level");
    if (!dataset) return 0;
    const double trained = 1 - json_number_value(json_object_get(options, "validation"));
    const bool words = level && strcmp(level, "word") == 0; /* how many there are is not known */
    return corpus_disk_bytes(dataset->corpus.format, dataset->size, dataset->documents,
                             words ? 0 : (uint64_t)((double)dataset->characters * trained));
}

/* A job that the disk has no room for does not begin to fill it. */
static bool pause_for_room(struct jobs *jobs, struct active *active, uint64_t needed, struct error *err)
{
    char reason[ERROR_MESSAGE_SIZE];
    snprintf(
        reason, sizeof reason,
        "No space left on device: while it trains on this dataset it takes %.1f MB of the disk, and %.1f MB are free",
        (double)needed * 1e-6, (double)free_room(jobs) * 1e-6);
    decide_failure(active, true, reason);
    if (!set_state(jobs, active->id, &active->change, err)) return false;
    active->room_needed = needed;
    active->over = active->decided = true;
    active->waits_for_room = true;
    return true;
}

static void add_active(struct jobs *jobs, struct active *active)
{
    pthread_mutex_lock(&jobs->mutex);
    jobs->active = active;
    pthread_mutex_unlock(&jobs->mutex);
    if (active->run) jobs_count_running(jobs, 1);
}

static const struct job_figures no_figures = {"", NAN, NAN, NAN, NAN, NAN};

/* It runs, or is paused until there is room. */
static bool start_job(struct jobs *jobs, int64_t id, struct error *err)
{
    struct job job = {0};
    bool settled = false;
    struct active *active = calloc(1, sizeof *active);
    char *directory = active ? job_path(jobs, id, err) : NULL;
    if (!active)
        error_set_no_memory(err, sizeof *active, "a job");
    else if (directory && mkdir(directory, 0700) != 0 && errno != EEXIST)
        error_set_errno(err, errno, "%s: cannot make this directory", directory);
    else if (directory && store_get_job(jobs->store, id, &job, err)) {
        *active = (struct active){.id = id, .jobs = jobs, .next = jobs->active, .figures = no_figures};
        snprintf(active->figures.model, sizeof active->figures.model, "%s", member(job.request, "model"));
        const uint64_t needed = needed_room(jobs, &job);
        if (needed > free_room(jobs)) {
            settled = pause_for_room(jobs, active, needed, err);
        } else {
            active->run = start_run(jobs, active, &job, directory, err);
            settled = active->run;
        }
    }
    if (settled)
        add_active(jobs, active);
    else
        free(active);
    store_close_job(&job);
    free(directory);
    return settled;
}

/* A job that cannot begin for want of room, memory or threads stays in the queue, until a tick, and so does one where
 * the store cannot be written; any other fails. False: it stays. */
static bool try_to_start(struct jobs *jobs, int64_t id, bool known)
{
    struct error err = {0};
    if (start_job(jobs, id, &err)) return true;
    const bool passes = err.code == ERROR_NO_SPACE || is_passing(&err);
    if (!passes && set_failed(jobs, id, err.message, &(struct error){0})) return true;
    if (!known) log_event(LOG_WARNING, "jobs wait", LOG_TEXT("error", err.message));
    return false;
}

static size_t count_runs(const struct jobs *jobs)
{
    size_t count = 0;
    for (const struct active *active = jobs->active; active; active = active->next) count += !active->over;
    return count;
}

static bool anything_waits(const struct jobs *jobs)
{
    for (const struct active *active = jobs->active; active; active = active->next)
        if (active->over) return true;
    return jobs->blocked;
}

void jobs_schedule(struct jobs *jobs)
{
    struct error err = {0};
    const bool known = atomic_load(&jobs->blocked);
    bool blocked = false;
    for (int64_t id = 0; !atomic_load(&jobs->draining) && count_runs(jobs) < jobs->options.max_parallel;) {
        if (!store_next_queued(jobs->store, id, &id, &err) || id == 0) break;
        /* One that is still stopping has its turn when it has stopped. */
        if (!find_active(jobs, id) && !try_to_start(jobs, id, known)) blocked = true;
    }
    /* Where the store cannot tell, one may wait. */
    atomic_store(&jobs->blocked, blocked || err.code);
    if (err.code && !known) log_event(LOG_ERROR, "job store", LOG_TEXT("error", err.message));
    jobs_want_ticks(jobs, anything_waits(jobs));
}

/* ---- ticks ---- */

/* How much a run lacked is not known: its snapshot is the least, and tokens of a large corpus may be far more. What was
 * free when it failed was too little; where that does not tell (a quota is none of the disk's), it is tried anyway. */
static bool has_room(const struct active *active)
{
    const uint64_t room = free_room(active->jobs);
    return room >= (active->run ? run_room(active->run) : active->room_needed) &&
           (room >= active->room_then + ROOM_STEP ||
            clock_monotonic_ns() - active->waits_since_ns >= (uint64_t)ROOM_RETRY_SECONDS * 1000000000);
}

void jobs_tick(struct jobs *jobs)
{
    static const struct job_change queued = {.state = JOB_QUEUED};
    for (struct active *active = jobs->active, *next; active; active = next) {
        next = active->next;
        if (!active->over) continue;
        if (!active->waits_for_room)
            settle(active);
        else if (has_room(active) && set_state(jobs, active->id, &queued, NULL))
            drop_active(active);
    }
    jobs_schedule(jobs);
}

/* ---- what clients ask for ---- */

/* Where the model will be: what can be refused now is not trained in vain. */
static bool check_place(const struct jobs *jobs, const json_t *request, struct error *err)
{
    char *path = path_join(state_dir_models(jobs->options.state), member(request, "model"), err);
    const bool good = path && state_dir_check_file(path, err);
    free(path);
    return good;
}

bool jobs_add(struct jobs *jobs, const struct job_order *order, int64_t *id, struct error *err)
{
    struct hold *held;
    if (!check_place(jobs, order->request, err)) return false;
    if (!take_hold(jobs, order->request, &held, err)) return false;
    if (!store_add_job(jobs->store, order, id, err)) {
        drop_hold(jobs, held);
        return false;
    }
    give_hold(jobs, held, *id);
    log_order(*id, order->request);
    return true;
}

bool jobs_withdraw(struct jobs *jobs, int64_t id, struct error *err)
{
    if (!store_delete_job(jobs->store, id, err)) return false;
    let_go(jobs, id);
    return true;
}

bool jobs_take_up(struct jobs *jobs, int64_t id, struct error *err)
{
    struct job job;
    struct error cause = {0};
    struct hold *held;
    if (!store_get_job(jobs->store, id, &job, err)) return false;
    const bool ok = take_hold(jobs, job.request, &held, &cause);
    store_close_job(&job);
    if (ok) {
        give_hold(jobs, held, id);
    } else if (cause.code == ERROR_NOT_FOUND) {
        error_add_context(&cause, "the dataset has gone");
        return set_failed(jobs, id, cause.message, err);
    }
    return ok || error_set(err, cause.code, "%s", cause.message);
}

bool jobs_get(struct jobs *jobs, int64_t id, struct job *job, struct error *err)
{
    if (!store_get_job(jobs->store, id, job, err)) return false;
    const struct active *active = find_active(jobs, id);
    if (!active || !active->decided || job->state != JOB_RUNNING) return true;
    job->state = active->change.state;
    job->waits_for_room = active->change.waits_for_room;
    snprintf(job->reason, sizeof job->reason, "%s", active->change.reason ? active->change.reason : "");
    return true;
}

/* Its run, if any, ends soon, and what it still tells does not matter. */
static void retire(struct jobs *jobs, int64_t id, bool final)
{
    struct active *active = find_active(jobs, id);
    if (active && active->over) {
        drop_active(active);
        active = NULL;
    }
    if (active) {
        active->silent = true;
        run_stop(active->run);
    } else if (final) {
        clear_away(jobs, id);
    }
}

static bool refuse(const struct job *job, const char *action, struct error *err)
{
    return error_set(err, ERROR_CONFLICT, "the job is %s and cannot be %s", job_state_names[job->state], action);
}

static bool change_state(struct jobs *jobs, const struct job *job, enum job_state state, struct error *err)
{
    const struct job_change change = {.state = state};
    if (job->state == state && !job->waits_for_room) return true;
    if (!set_state(jobs, job->id, &change, err)) return false;
    retire(jobs, job->id, is_final(state));
    return true;
}

static bool delete_job(struct jobs *jobs, const struct job *job, struct error *err)
{
    if (job->state == JOB_RUNNING) return refuse(job, "deleted: cancel it first", err);
    if (!store_delete_job(jobs->store, job->id, err)) return false;
    retire(jobs, job->id, true);
    jobs_tell_listeners(jobs, job->id);
    return true;
}

static bool act(struct jobs *jobs, const struct job *job, enum job_action action, struct error *err)
{
    switch (action) {
    case JOB_PAUSE:
        return is_final(job->state) ? refuse(job, "paused", err) : change_state(jobs, job, JOB_PAUSED, err);
    case JOB_RESUME:
        if (is_final(job->state)) return refuse(job, "resumed", err);
        return job->state != JOB_PAUSED || change_state(jobs, job, JOB_QUEUED, err);
    case JOB_CANCEL:
        if (job->state == JOB_SUCCEEDED || job->state == JOB_FAILED) return refuse(job, "cancelled", err);
        return change_state(jobs, job, JOB_CANCELLED, err);
    case JOB_DELETE:
        return delete_job(jobs, job, err);
    }
    return false;
}

bool jobs_act(struct jobs *jobs, int64_t id, enum job_action action, struct error *err)
{
    struct job job;
    bool ok = jobs_get(jobs, id, &job, err) && act(jobs, &job, action, err);
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
    if (is_final(job.state)) return true;
    const struct active *active = find_active(jobs, id);
    return atomic_load(&jobs->draining) && (!active || active->over);
}
