/* What the daemon remembers about training jobs: an SQLite database, <state_dir>/lstmd.db. The only file that knows
 * SQLite is store.c.
 *
 * One connection in WAL mode, used by one thread: that of server/jobs/jobs.h. What a caller was promised (a job, its
 * state) is on disk when the function returns; what a run would do again after a crash (figures, samples) may be lost
 * with the machine's power, never with the process alone. A file that is damaged, of another program or of a newer
 * lstmd is refused when it is opened, and never replaced.
 *
 * Numbers that are not known are NaN here and NULL there. Errors: ERROR_NO_SPACE, ERROR_IO, ERROR_CORRUPT,
 * ERROR_UNAVAILABLE (somebody else keeps it locked), ERROR_NO_MEMORY.
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

/* Opens or makes the database, brings an older one up to date, checks it. */
struct store *store_open(const char *path, struct error *err);
void store_close(struct store *store); /* NULL allowed */

/* --- Jobs --- */

enum job_state { JOB_QUEUED, JOB_RUNNING, JOB_PAUSED, JOB_SUCCEEDED, JOB_FAILED, JOB_CANCELLED, JOB_STATES };
extern const char *const job_state_names[JOB_STATES + 1]; /* NULL-terminated */

struct job {
    int64_t id;
    enum job_state state;
    bool waits_for_room;             /* paused, until there is room on the disk */
    char reason[ERROR_MESSAGE_SIZE]; /* why it is paused or failed; "" for none */
    json_t *request;                 /* owned */
    json_t *progress;                /* the last figures; owned, or NULL */
    char created[CLOCK_UTC_SIZE], started[CLOCK_UTC_SIZE], finished[CLOCK_UTC_SIZE]; /* "" for not yet */
};
void store_close_job(struct job *job);

struct job_order {
    const json_t *request;
    const char *text; /* the corpus, where it came with the request; else NULL */
    const char *key;  /* at most one job has it; NULL: none */
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

/* Calls each(context, job) for the jobs with an id below `before` (0: all), newest first, `limit` at most, of one state
 * or of all (JOB_STATES). each() must not use the store; where it answers false the listing ends there. */
typedef bool store_each_job(void *context, const struct job *job);
bool store_list_jobs(struct store *store, enum job_state state, int64_t before, size_t limit, store_each_job *each,
                     void *context, struct error *err);

/* The oldest queued job with an id above `after`; 0 where there is none. */
bool store_next_queued(struct store *store, int64_t after, int64_t *id, struct error *err);

/* Changes a job's state and adds the event; started and finished are set on the way. */
struct job_change {
    enum job_state state;
    const char *reason; /* NULL for none */
    bool waits_for_room;
};
bool store_set_state(struct store *store, int64_t id, const struct job_change *change, struct error *err);

/* What was running when the last process ended is queued, and so is what waited for room. */
bool store_recover(struct store *store, struct error *err);

/* With all that belongs to it. */
bool store_delete_job(struct store *store, int64_t id, struct error *err);

/* --- What a run tells --- */

/* One point of the loss curve; the same step may be told twice, once by training and once by validation. */
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

/* Each forgets what follows the step or the epoch, which a run told that then went on from an older snapshot, and adds
 * an event with this JSON text. `progress` becomes that of the job. A progress or checkpoint event replaces the last
 * one of its type. */
bool store_add_progress(struct store *store, int64_t id, const struct metric *metric, const char *progress,
                        struct error *err);
bool store_add_validation(struct store *store, int64_t id, const struct metric *metric, const char *event,
                          const char *progress, struct error *err);
bool store_add_sample(struct store *store, int64_t id, const struct job_sample *sample, const char *event,
                      struct error *err);
bool store_add_checkpoint(struct store *store, int64_t id, const char *event, struct error *err);

/* A note is an event, {"text": ...}. A run that goes on says again what it said before: the same note is kept once, and
 * of a job at most STORE_NOTES. */
#define STORE_NOTES 100
bool store_add_note(struct store *store, int64_t id, const char *event, struct error *err);

/* The texts of a job's notes, in their order; the caller's, or NULL. */
json_t *store_notes(struct store *store, int64_t id, struct error *err);

typedef bool store_each_metric(void *context, const struct metric *metric);
/* Calls each(context, metric) for those of the steps behind `after` (-1: all), in their order, `limit` at most. */
bool store_metrics(struct store *store, int64_t id, int64_t after, size_t limit, store_each_metric *each, void *context,
                   struct error *err);

/* [{epoch, temperature, prompt, text}] of the last epoch that has any; the caller's, or NULL. */
json_t *store_samples(struct store *store, int64_t id, struct error *err);

/* Events of a job, numbered from 1, those after `after` in their order, `limit` at most. */
typedef bool store_each_event(void *context, int64_t sequence, const char *type, const char *data);
bool store_events(struct store *store, int64_t id, int64_t after, size_t limit, store_each_event *each, void *context,
                  struct error *err);

#endif
