/* The store: the records of training jobs, in an SQLite database, <state_dir>/lstmd.db. It does not run jobs
 * (server/jobs does). Only sql.c calls SQLite.
 *
 * One thread, the clerk of server/jobs/jobs.h, uses one connection in WAL mode. A job and its state are on disk when
 * the function returns. Figures and samples survive a crash of the process but may be lost if the machine loses power;
 * a resumed run repeats them. store_open() refuses a file that is damaged, or that another program or a newer lstmd
 * made, and never replaces it.
 *
 * Unknown numbers are NaN in C and NULL in the database. Errors: ERROR_NO_SPACE, ERROR_IO, ERROR_CORRUPT,
 * ERROR_UNAVAILABLE (another program keeps the file locked), ERROR_NO_MEMORY.
 */
#ifndef LSTMD_SERVER_STORE_STORE_H
#define LSTMD_SERVER_STORE_STORE_H

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/clock.h"
#include "base/error.h"
#include "base/sha256.h"

#define STORE_FILE "lstmd.db"

struct store;

/* Opens or makes the database, upgrades an older one, checks it. */
struct store *store_open(const char *path, struct error *err);
void store_close(struct store *store); /* NULL allowed */

/* ---- Jobs ---- */

enum job_state {
    JOB_QUEUED,    /* it waits for its turn */
    JOB_RUNNING,   /* a run trains it */
    JOB_PAUSED,    /* a client paused it, or the disk is full */
    JOB_SUCCEEDED, /* done: its model is published */
    JOB_FAILED,    /* it has a reason */
    JOB_CANCELLED, /* a client cancelled it */
    JOB_STATES,    /* their number; as a filter: all states */
};
extern const char *const job_state_names[JOB_STATES + 1]; /* NULL-terminated */

struct job {
    int64_t id;
    enum job_state state;
    bool waits_for_room;             /* it is paused until there is room on the disk */
    char reason[ERROR_MESSAGE_SIZE]; /* why it is paused or failed; "" for none */
    json_t *request;                 /* owned */
    json_t *progress;                /* the last figures; owned, or NULL */
    char created[CLOCK_UTC_SIZE], started[CLOCK_UTC_SIZE], finished[CLOCK_UTC_SIZE]; /* "" for not yet */
};
void store_close_job(struct job *job);

struct job_order {
    const json_t *request;
    const char *text; /* the corpus, if it came with the request; else NULL */
    const char *key;  /* at most one job has the same key; NULL: none */
    const char *hash; /* of the body that came with the key */
};
/* Adds a queued job and its first event. */
bool store_add_job(struct store *store, const struct job_order *order, int64_t *id, struct error *err);

/* The text that came with the request; "" for none. The caller's, free(); NULL with the error. */
char *store_job_text(struct store *store, int64_t id, struct error *err);

/* The job that has the key: *id (0: none) and the hash. */
bool store_find_key(struct store *store, const char *key, int64_t *id, char hash[SHA256_TEXT_SIZE], struct error *err);

/* Close with store_close_job(). ERROR_NOT_FOUND. */
bool store_get_job(struct store *store, int64_t id, struct job *job, struct error *err);

struct job_filter {
    enum job_state state; /* JOB_STATES: all */
    int64_t before;       /* jobs with a smaller id; 0: all */
    size_t limit;         /* so many at most */
};

/* Calls each(context, job) for these jobs, newest first, until it returns false. each() must not use the store. */
typedef bool store_each_job(void *context, const struct job *job);
bool store_list_jobs(struct store *store, const struct job_filter *filter, store_each_job *each, void *context,
                     struct error *err);

/* The oldest queued job with an id above `after`; 0 where there is none. */
bool store_next_queued(struct store *store, int64_t after, int64_t *id, struct error *err);

/* Changes a job's state, sets started and finished, and adds the event. */
struct job_change {
    enum job_state state;
    const char *reason; /* NULL for none */
    bool waits_for_room;
};
bool store_set_state(struct store *store, int64_t id, const struct job_change *change, struct error *err);

/* Queues the jobs that were running when the last process ended, and those that waited for room. */
bool store_recover(struct store *store, struct error *err);

/* Deletes a job and all that belongs to it. */
bool store_delete_job(struct store *store, int64_t id, struct error *err);

/* ---- What a run tells ---- */

/* One point of the loss curve; a step may come twice, once from training and once from validation. */
struct metric {
    uint64_t step, epoch;
    double seconds, train_nats, learning_rate, gradient_norm, tokens_per_second;
    double validation_nats; /* per character, like train_nats */
};

struct job_sample {
    uint64_t epoch;
    double temperature;
    const char *prompt, *text; /* UTF-8 */
};

/* Each deletes figures that follow the step or epoch, because a run that resumed from an older snapshot repeats them,
 * and adds an event with this JSON text. `progress` becomes the job's progress. A progress or checkpoint event replaces
 * the last one of its type. */
bool store_add_progress(struct store *store, int64_t id, const struct metric *metric, const char *progress,
                        struct error *err);
bool store_add_validation(struct store *store, int64_t id, const struct metric *metric, const char *event,
                          const char *progress, struct error *err);
bool store_add_sample(struct store *store, int64_t id, const struct job_sample *sample, const char *event,
                      struct error *err);
bool store_add_checkpoint(struct store *store, int64_t id, const char *event, struct error *err);

/* Adds a note: an event, {"text": ...}. A resumed run repeats its notes, so equal notes are stored once. A job has at
 * most STORE_NOTES. */
#define STORE_NOTES 100
bool store_add_note(struct store *store, int64_t id, const char *event, struct error *err);

/* The texts of a job's notes, in their order; the caller's, or NULL with the error. */
json_t *store_notes(struct store *store, int64_t id, struct error *err);

/* Rows of a job, in their order. */
struct store_range {
    int64_t job;
    int64_t after; /* only rows with a greater number: of the step (-1: all), or of the event (0: all) */
    size_t limit;  /* so many at most */
};

/* Calls each(context, metric) for these points until it returns false. */
typedef bool store_each_metric(void *context, const struct metric *metric);
bool store_metrics(struct store *store, const struct store_range *range, store_each_metric *each, void *context,
                   struct error *err);

/* [{epoch, temperature, prompt, text}] of the last epoch that has samples; the caller's, or NULL with the error. */
json_t *store_samples(struct store *store, int64_t id, struct error *err);

/* Calls each() for these events, which are numbered from 1, until it returns false. */
typedef bool store_each_event(void *context, int64_t sequence, const char *type, const char *data);
bool store_events(struct store *store, const struct store_range *range, store_each_event *each, void *context,
                  struct error *err);

#endif
