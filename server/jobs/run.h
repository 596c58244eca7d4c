/* One run of a job: a thread of low priority that calls the trainer and tells the clerk (server/jobs/jobs.h) what it is
 * told.
 *
 * Life cycle: run_new() -> run_start() -> told() for what happens, in its order -> ended() once, the last thing that
 * the thread does
 * -> run_free(), which waits for it. Everything but `stop` belongs to the thread until ended().
 */
#ifndef LSTMD_SERVER_JOBS_RUN_H
#define LSTMD_SERVER_JOBS_RUN_H

#include <jansson.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "base/error.h"
#include "base/worker.h"
#include "server/store/store.h"

struct run;

/* Something that a run tells, for the store. */
struct run_news {
    struct task task; /* first; the clerk's queue */
    struct run *run;
    enum { NEWS_PROGRESS, NEWS_VALIDATION, NEWS_SAMPLE, NEWS_CHECKPOINT, NEWS_NOTE } kind;
    struct metric metric;
    double eta_seconds, fraction; /* PROGRESS */
    struct job_sample sample;     /* texts owned */
    char *event, *progress;       /* JSON */
};

struct run_order {
    int64_t id;
    const char *name;       /* "j000042" */
    const char *directory;  /* to work in; it is there */
    const char *init_from;  /* model directory, or NULL */
    const json_t *request;  /* as in struct job; a reference is taken */
    const json_t *progress; /* of an earlier run of the job, or NULL; a reference is taken */
    const char *data;       /* path of the corpus */
    double snapshot_seconds;
    struct worker *clerk;
    void (*told)(struct run_news *news); /* the clerk: returns it with run_news_free() */
    void (*ended)(struct run *run);      /* the clerk */
    void *context;
};

enum run_end {
    RUN_DONE,        /* the model stands in run_model() */
    RUN_INTERRUPTED, /* there is a snapshot, unless it had not begun to train */
    RUN_NO_ROOM,     /* the disk is full; there may be an older snapshot */
    RUN_FAILED,
};

/* Copies the order's texts, and takes all that may be lacking, the thread too. NULL with the error. */
struct run *run_new(const struct run_order *order, struct error *err);
void run_start(struct run *run); /* once */
void run_stop(struct run *run);  /* any thread: a snapshot, and the end */
void run_free(struct run *run);  /* also of one that was not started */

void *run_context(const struct run *run);
int64_t run_id(const struct run *run);
const char *run_directory(const struct run *run);

/* After ended(). */
enum run_end run_end(const struct run *run);
const char *run_reason(const struct run *run); /* why it failed, or has no room */
const char *run_model(const struct run *run);  /* the model directory */
uint64_t run_room(const struct run *run);      /* bytes that its next snapshot needs */

void run_news_free(struct run_news *news);

#endif
