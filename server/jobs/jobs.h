/* Training jobs: a queue, threads that train, and the life of a job from its request to its model. It is not the
 * trainer (model/train/trainer.h), and it knows nothing of HTTP.
 *
 * queued -> running -> (paused ->) succeeded | failed | cancelled. One thread, the clerk (base/worker.h), makes all
 * decisions: requests about jobs, what runs tell (server/jobs/run.h) and ticks (server/jobs/ticker.h) are its tasks, in
 * the order in which they come. It alone uses the store, so a state that a client was told is the one on disk.
 *
 * A run works in <state_dir>/jobs/<id> and can be killed at any moment. A job that was running is queued at the next
 * start and goes on from its snapshot, which stays until the job's end is in the store. By then the model is published,
 * whole; a run that is killed in between repeats its last moments and publishes the same bytes. Where the disk is full
 * a job is paused. It is queued again when more of the disk is free than was then, and enough for its next snapshot.
 *
 * Life cycle: jobs_new() takes up what the last process left; jobs_drain() asks all runs for a snapshot and starts no
 * further ones; jobs_stop() waits for them. "The clerk" below marks what only the clerk's tasks may call.
 */
#ifndef LSTMD_SERVER_JOBS_JOBS_H
#define LSTMD_SERVER_JOBS_JOBS_H

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/queue.h>

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
    /* The clerk: a model is now in the state directory; deploy: it shall be the default. NULL, here and for `ended`:
     * nobody wants to know. */
    bool (*published)(void *context, const char *model, bool deploy, struct error *err);
    /* The clerk: a job is over for good: JOB_SUCCEEDED, JOB_FAILED or JOB_CANCELLED. */
    void (*ended)(void *context, enum job_state state);
    /* The clerk: the directory of a model, which the clerk frees with free(); NULL with the error. */
    char *(*find_model)(void *context, const char *model, struct error *err);
    void *context;
};

/* What `options` points to is borrowed. If the store cannot be opened because the disk is full, the clerk tries again
 * once a second; until then there are no jobs, and datasets stay as they are (datasets_freeze()). */
struct jobs *jobs_new(const struct jobs_options *options, struct error *err);
void jobs_drain(struct jobs *jobs); /* any thread */
void jobs_stop(struct jobs *jobs);  /* returns when all runs are over and the clerk has ended */
void jobs_free(struct jobs *jobs);  /* NULL allowed */

struct worker *jobs_clerk(struct jobs *jobs);

/* Any thread: whether the store is open, as the clerk's functions below require. Once open it stays open. Errors:
 * ERROR_NO_SPACE. */
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

/* Any thread: how many jobs wait for room on the disk or for memory. */
size_t jobs_count_waiting(struct jobs *jobs);

/* "j000042" and back. */
#define JOB_ID_SIZE 24
void job_id_print(int64_t id, char out[JOB_ID_SIZE]);
bool job_id_parse(const char *text, int64_t *id);

/* --- The clerk --- */

struct store *jobs_store(struct jobs *jobs);

/* Queues a job. It begins with jobs_schedule(); until then jobs_withdraw() takes it back. order->request: {model,
 * dataset or null, init_from or null, deploy, options: all of the trainer's}. Errors: those of the store and of
 * datasets_acquire(). */
bool jobs_add(struct jobs *jobs, const struct job_order *order, int64_t *id, struct error *err);
bool jobs_withdraw(struct jobs *jobs, int64_t id, struct error *err);
void jobs_schedule(struct jobs *jobs);

/* As store_get_job(), but with an end that could not be written yet. */
bool jobs_get(struct jobs *jobs, int64_t id, struct job *job, struct error *err);

/* What a client may ask for; asking twice is the same as once. Errors: ERROR_NOT_FOUND, ERROR_CONFLICT where the state
 * forbids it. */
enum job_action {
    JOB_PAUSE,  /* the job stops until it is resumed; a running one leaves a snapshot */
    JOB_RESUME, /* a paused job is queued again */
    JOB_CANCEL, /* the job ends for good */
    JOB_DELETE, /* the job is removed with all that belongs to it */
};
bool jobs_act(struct jobs *jobs, int64_t id, enum job_action action, struct error *err);

/* Somebody whom the clerk tells whenever a job has new events; memory of the caller. told() may use the store. */
struct job_listener {
    int64_t id;
    void (*told)(struct job_listener *listener);
    LIST_ENTRY(job_listener) link;
};
void jobs_listen(struct jobs *jobs, struct job_listener *listener);
void jobs_forget(struct jobs *jobs, struct job_listener *listener);

/* Whether a job has no further events: it has ended, or it does not run again in this process. */
bool jobs_is_over(struct jobs *jobs, int64_t id);

#endif
