/* What the files of server/jobs share; nobody else includes this. Each file calls only those above it in this header:
 *
 *     run.h, ticker.h   the runner and the ticker, which know the clerk as a worker alone
 *     room.c            how much of the disk is free, and how much a job needs
 *     active.c          the list of jobs that have a run
 *     holds.c           the datasets that jobs keep from being changed
 *     state.c           a job's state: written, logged, told to listeners
 *     start.c           from a queued job to its run
 *     settle.c          from the end of a run to the job's next state
 *     jobs.c            the clerk: what it decides, and when
 *     life.c            jobs_new() to jobs_free()
 *
 * Everything here belongs to the clerk's thread unless a comment says otherwise.
 */
#ifndef LSTMD_SERVER_JOBS_INTERNAL_H
#define LSTMD_SERVER_JOBS_INTERNAL_H

#include <pthread.h>
#include <stdatomic.h>
#include <sys/queue.h>

#include "server/jobs/jobs.h"
#include "server/jobs/run.h"
#include "server/jobs/ticker.h"

/* A job that has a run, or whose run is over while something is left to do. */
struct active_job {
    LIST_ENTRY(active_job) link;
    int64_t id;
    struct jobs *jobs;
    struct job_run *run;        /* NULL: it has not begun, and waits for room */
    bool silent;                /* asked to stop for good: its news no longer reaches the store */
    bool over;                  /* the thread has ended */
    bool decided;               /* `change` is the job's next state, which the store does not know yet */
    atomic_bool waits_for_room; /* the store knows `change`, and the job waits; any thread may read it under `mutex` */
    uint64_t room_then;         /* free bytes when it began to wait, which were too few */
    uint64_t waits_since_ns;
    uint64_t room_needed;     /* bytes; where there is no run */
    struct job_change change; /* its reason is NULL or `reason` */
    char reason[ERROR_MESSAGE_SIZE];
    bool warned; /* the log says that the store refused this job's news */
    struct job_figures figures;
};

/* A dataset that a job needs until it ends. */
struct hold {
    LIST_ENTRY(hold) link;
    int64_t id;
    const struct stored_dataset *dataset;
};

struct jobs {
    struct jobs_options options;
    struct store *store; /* NULL: not open yet */
    struct worker *clerk;
    struct ticker ticker;                /* runs while a job waits for something that no message announces */
    LIST_HEAD(, active_job) active;      /* newest first; its links, `over` and `figures` are written under `mutex` */
    LIST_HEAD(, hold) holds;             /* of queued, running and paused jobs */
    LIST_HEAD(, job_listener) listeners; /* newest first */
    atomic_bool open;                    /* the store is, and all unfinished jobs are taken up; any thread reads it */
    atomic_bool blocked;                 /* a queued job could not begin; any thread reads it */
    atomic_bool draining;                /* any thread */
    struct task begin_task, drain_task;
    pthread_mutex_t mutex; /* guards what follows, and what is said above; never held for long */
    pthread_cond_t changed;
    bool drained;
    size_t running; /* threads of runs */
};

/* --- room.c --- */

uint64_t room_free(const struct jobs *jobs); /* bytes; 0: the system does not say */

/* Bytes of the disk that a run takes for this dataset, at least. dataset NULL: the text came with the request and stays
 * in memory. */
uint64_t room_needed(const struct stored_dataset *dataset, const json_t *request);

/* Whether a job that waits for room may try again. */
bool room_is_back(const struct active_job *active);

/* --- active.c; jobs.h has jobs_each_running() and jobs_count_waiting() --- */

struct active_job *active_find(const struct jobs *jobs, int64_t id); /* NULL: none */
void active_add(struct jobs *jobs, struct active_job *active);       /* takes it over */
void active_drop(struct active_job *active);                         /* out of the list, and freed with its run */
void active_drop_all(struct jobs *jobs);
void active_end(struct active_job *active); /* its thread has ended */
void active_count_threads(struct jobs *jobs, int change);

size_t active_count_runs(const struct jobs *jobs); /* that are not over */
bool active_any_over(const struct jobs *jobs);

void active_keep_figures(struct active_job *active, const struct run_news *news);

/* Decides that the job is paused until there is room, or that it fails. The store is not told yet. The reason is
 * copied. */
void active_decide_stop(struct active_job *active, bool for_room, const char *reason);

/* Logs that the store refused something, once for each job. */
void active_warn_once(struct active_job *active, const struct error *err);

/* --- holds.c --- */

/* Holds the dataset that the request names, for no job yet. *held is NULL where it names none. */
bool hold_take(struct jobs *jobs, const json_t *request, struct hold **held, struct error *err);
void hold_give(struct jobs *jobs, struct hold *held, int64_t id); /* to a job; NULL allowed */
void hold_drop(struct jobs *jobs, struct hold *held);             /* one that no job has; NULL allowed */
void hold_release(struct jobs *jobs, int64_t id);                 /* what the job holds, if anything */
void hold_release_all(struct jobs *jobs);
const struct stored_dataset *hold_find(const struct jobs *jobs, int64_t id); /* NULL: none */

/* --- state.c; jobs.h has jobs_listen() and jobs_forget() --- */

const char *request_text(const json_t *request, const char *key); /* borrowed; NULL: it has no such text */
bool job_is_final(enum job_state state);
char *jobs_path(const struct jobs *jobs, int64_t id, struct error *err); /* its directory; free() it */

/* Writes a state, logs it, tells options.ended() and the listeners. */
bool jobs_set_state(struct jobs *jobs, int64_t id, const struct job_change *change, struct error *err);

/* Fails a job that has no run. Where the store cannot be written the job stays as it is. */
bool jobs_fail(struct jobs *jobs, int64_t id, const char *reason, struct error *err);

/* Removes what a job leaves that has ended: all but its rows. */
void jobs_clear_away(struct jobs *jobs, int64_t id);

void jobs_tell_listeners(struct jobs *jobs, int64_t id); /* 0: all */

/* Whether it lacks something now that will be there in a while. */
bool jobs_is_passing(const struct error *err);

/* --- start.c --- */

/* What the runner submits to the clerk; see struct run_order. */
struct run_callbacks {
    void (*told)(struct run_news *news);
    void (*ended)(struct job_run *run);
};

/* The job runs, or is paused until there is room: then it is active. False: it stays queued, with the error. */
bool jobs_start(struct jobs *jobs, int64_t id, const struct run_callbacks *callbacks, struct error *err);

/* --- settle.c --- */

/* Decides what becomes of a job whose run is over, and writes it. Where that fails, or where the job waits for room, it
 * stays active, for the next tick. */
void jobs_settle(struct active_job *active);

/* --- jobs.c --- */

/* The work of each second: settles jobs that could not be settled before, and lets jobs that wait for room try again.
 */
void jobs_tick(struct jobs *jobs);

/* Takes up a job of an earlier process: holds what it needs, or fails it. False: neither can be done now. */
bool jobs_take_up(struct jobs *jobs, int64_t id, struct error *err);

#endif
