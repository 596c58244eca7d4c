/* What the files of server/jobs/jobs.h share: jobs.c (the clerk's decisions), jobs/life.c (starting and stopping). All
 * of it is the clerk's, but for what says otherwise. */
#ifndef LSTMD_SERVER_JOBS_INTERNAL_H
#define LSTMD_SERVER_JOBS_INTERNAL_H

#include <pthread.h>
#include <stdatomic.h>

#include "server/jobs/jobs.h"
#include "server/jobs/run.h"

/* A job that has a run, or whose run is over with something left to do. */
struct active {
    int64_t id;
    struct jobs *jobs;
    struct run *run;            /* NULL: it has not begun, and waits for room */
    bool silent;                /* asked to stop for good: what it still tells is not for the store */
    bool over;                  /* the thread has ended */
    bool decided;               /* what becomes of the job, in `change`, which the store does not know yet */
    atomic_bool waits_for_room; /* it does, and the job waits; any thread may read it under `mutex` */
    uint64_t room_then;         /* bytes that were free when it began to wait, and were too few */
    uint64_t waits_since_ns;
    uint64_t room_needed;     /* where there is no run */
    struct job_change change; /* its reason is the run's, or `reason` */
    char reason[ERROR_MESSAGE_SIZE];
    bool warned; /* that the store took no news */
    struct job_figures figures;
    struct active *next;
};

/* A dataset that a job needs until it ends. */
struct hold {
    int64_t id;
    const struct dataset *dataset;
    struct hold *next;
};

struct jobs {
    struct jobs_options options;
    struct store *store; /* NULL: not open yet */
    struct worker *clerk;
    struct active
        *active; /* the clerk writes its links, `over` and `figures` under `mutex`, for other threads to read */
    struct hold *holds;
    struct job_listener *listeners;
    atomic_bool open;     /* the store is, and what the last process left is known; any thread may read it */
    atomic_bool blocked;  /* a queued job could not begin; any thread may read it */
    atomic_bool draining; /* any thread */
    struct task begin_task, drain_task, tick_task;
    /* The ticker submits tick_task once a second while `ticks` is set. Guarded by `mutex`, which is never
     * held for long: ticks, tick_submitted, stopping, drained, running. */
    pthread_t ticker;
    bool ticker_started;
    pthread_mutex_t mutex;
    pthread_cond_t changed;
    bool ticks, tick_submitted, stopping, drained;
    size_t running; /* threads */
};

/* jobs.c */
void jobs_tick(struct jobs *jobs);
void jobs_tell_listeners(struct jobs *jobs, int64_t id); /* 0: all */
/* Takes up a job of an earlier process: what it needs is held, or it fails. False: that cannot be done now. */
bool jobs_take_up(struct jobs *jobs, int64_t id, struct error *err);
void jobs_free_active(struct active *active);

/* jobs/life.c */
void jobs_want_ticks(struct jobs *jobs, bool wanted);
void jobs_count_running(struct jobs *jobs, int change);

#endif
