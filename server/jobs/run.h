/* One run of a job: a thread of low priority that calls the trainer and passes the trainer's reports on to the clerk.
 * It decides nothing, and knows the clerk as a worker alone.
 *
 * Life cycle: job_run_new() -> job_run_start() -> the clerk calls told() for each piece of news, in order -> the clerk
 * calls ended() once, after the thread's last act -> job_run_free(), which waits for the thread. Until ended() the run
 * belongs to its thread, job_run_stop() aside.
 */
#ifndef LSTMD_SERVER_JOBS_RUN_H
#define LSTMD_SERVER_JOBS_RUN_H

#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>

#include "base/error.h"
#include "base/worker.h"
#include "server/store/store.h"

struct job_run;

/* News of a run, for the store. */
struct run_news {
    struct task task; /* first; the clerk's queue */
    struct job_run *run;
    enum {
        NEWS_PROGRESS,   /* metric, eta_seconds, fraction, progress */
        NEWS_VALIDATION, /* metric, event, progress */
        NEWS_SAMPLE,     /* sample, event */
        NEWS_CHECKPOINT, /* event */
        NEWS_NOTE,       /* event */
    } kind;
    struct metric metric;
    double eta_seconds, fraction; /* PROGRESS */
    struct job_sample sample;     /* texts owned */
    char *event, *progress;       /* JSON */
};

struct run_order {
    const char *name;       /* "j000042" */
    const char *directory;  /* the run works in it; it exists */
    const char *init_from;  /* model directory, or NULL */
    const json_t *request;  /* as in struct job; a reference is taken */
    const json_t *progress; /* of an earlier run of the job, or NULL; a reference is taken */
    const char *data;       /* path of the corpus */
    double snapshot_seconds;
    struct worker *clerk;
    void (*told)(struct run_news *news); /* the clerk; it gives the news back with run_news_free() */
    void (*ended)(struct job_run *run);  /* the clerk */
    void *context;
};

enum run_end {
    RUN_DONE,        /* the model is in job_run_model() */
    RUN_INTERRUPTED, /* it left a snapshot, unless it had not begun to train */
    RUN_NO_ROOM,     /* the disk is full; there may be an older snapshot */
    RUN_FAILED,      /* the error says why */
};

/* Copies the order's texts, and takes memory and the thread, so that nothing is lacking later. NULL with the error. */
struct job_run *job_run_new(const struct run_order *order, struct error *err);
void job_run_start(struct job_run *run); /* once */
void job_run_stop(struct job_run *run);  /* any thread: it takes a snapshot and ends */
void job_run_free(struct job_run *run);  /* also a run that was not started */

void *job_run_context(const struct job_run *run);

/* After ended(). */
enum run_end job_run_end(const struct job_run *run);
const char *job_run_reason(const struct job_run *run); /* why it failed, or has no room */
const char *job_run_model(const struct job_run *run);  /* the model directory */
uint64_t job_run_room(const struct job_run *run);      /* bytes that its next snapshot needs */

void run_news_free(struct run_news *news);

#endif
