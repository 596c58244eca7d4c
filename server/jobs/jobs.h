/* Training jobs: a queue, threads that train, and the life of a job from its request to its model.
 *
 * queued -> running -> (paused ->) succeeded | failed | cancelled. All decisions are made by one thread, the clerk
 * (base/worker.h): requests about jobs and what runs tell (server/jobs/run.h) are its tasks, in the order in which
 * they come. It alone uses the store, so a state that a client was told is the one on disk.
 *
 * A run works in <state_dir>/jobs/<id> and can be killed at any moment: what was running is queued at the next start
 * and goes on from its snapshot, which stays until the job's end is in the store. The model is published by then,
 * whole; a run that is killed in between does its last moments again and publishes the same bytes. Where the disk is
 * full a job is paused, and queued again when more of it is free than was then, and enough for its next snapshot.
 *
 * Life cycle: jobs_new() takes up what the last process left; jobs_drain() asks all runs for a snapshot and starts no
 * further ones; jobs_stop() waits for them. "The clerk" below marks what only its tasks may call.
 */
#ifndef LSTMD_SERVER_JOBS_JOBS_H
#define LSTMD_SERVER_JOBS_JOBS_H

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/error.h"
#include "base/worker.h"
#include "server/store/datasets.h"
#include "server/store/state_dir.h"
#include "server/store/store.h"

struct jobs;

struct jobs_options {
    const struct state_dir *state;
    struct datasets *datasets;
    size_t max_parallel;
    double snapshot_seconds;
    /* The clerk: a model has come to be in the state directory; deploy: it is to be the default. NULL, here and for
     * `ended`: nobody cares. */
    bool (*published)(void *context, const char *model, bool deploy, struct error *err);
    /* The clerk: a job is over for good: JOB_SUCCEEDED, JOB_FAILED or JOB_CANCELLED. */
    void (*ended)(void *context, enum job_state state);
    /* The clerk: the directory of a model that is there, free() it; or NULL with the error. */
    char *(*find_model)(void *context, const char *model, struct error *err);
    void *context;
};

/* What `options` points to is borrowed. Where the store cannot be opened because the disk is full, that is tried again
 * once a second; until then there are no jobs, and datasets stay as they are (datasets_freeze()). */
struct jobs *jobs_new(const struct jobs_options *options, struct error *err);
void jobs_drain(struct jobs *jobs); /* any thread */
void jobs_stop(struct jobs *jobs);  /* returns when all runs are over and the clerk has ended */
void jobs_free(struct jobs *jobs);  /* NULL allowed */

struct worker *jobs_clerk(struct jobs *jobs);

/* Any thread: whether the store is open, which the clerk's functions below need; ERROR_NO_SPACE. It stays open. */
bool jobs_require_open(struct jobs *jobs, struct error *err);

/* What a run told last; NaN: nothing yet. */
struct job_figures {
    char model[STATE_NAME_MAX + 1];
    double train_nats, validation_nats; /* per character */
    double tokens_per_second, eta_seconds, fraction;
};

/* Any thread: calls each() for every job that runs. It must not take long: the clerk waits for it. */
void jobs_each_running(struct jobs *jobs, void (*each)(void *context, int64_t id, const struct job_figures *figures),
                       void *context);

/* Any thread: jobs that cannot go on for want of room on the disk or of memory. */
size_t jobs_count_waiting(struct jobs *jobs);

/* "j000042" and back. */
#define JOB_ID_SIZE 24
void job_id_print(int64_t id, char out[JOB_ID_SIZE]);
bool job_id_parse(const char *text, int64_t *id);

/* --- The clerk --- */

struct store *jobs_store(struct jobs *jobs);

/* Queues a job, which begins with jobs_schedule() and can be taken back until then. order->request: {model, dataset or
 * null, init_from or null, deploy, options: all of the trainer's}. Errors: those of the store and of
 * datasets_acquire(). */
bool jobs_add(struct jobs *jobs, const struct job_order *order, int64_t *id, struct error *err);
bool jobs_withdraw(struct jobs *jobs, int64_t id, struct error *err);
void jobs_schedule(struct jobs *jobs);

/* As store_get_job(), with an end that could not be written yet. */
bool jobs_get(struct jobs *jobs, int64_t id, struct job *job, struct error *err);

/* What a client may ask for. Errors: ERROR_NOT_FOUND, ERROR_CONFLICT where the state forbids it. What is asked for
 * twice is done once. */
enum job_action { JOB_PAUSE, JOB_RESUME, JOB_CANCEL, JOB_DELETE };
bool jobs_act(struct jobs *jobs, int64_t id, enum job_action action, struct error *err);

/* Somebody who is told by the clerk whenever a job has new events; memory of the caller. told() may use the store. */
struct job_listener {
    int64_t id;
    void (*told)(struct job_listener *listener);
    struct job_listener *previous, *next;
};
void jobs_listen(struct jobs *jobs, struct job_listener *listener);
void jobs_forget(struct jobs *jobs, struct job_listener *listener);

/* Whether nothing more will come: it has ended, or it will not run in this process any more. */
bool jobs_is_over(struct jobs *jobs, int64_t id);

#endif
