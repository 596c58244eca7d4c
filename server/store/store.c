/* Opening the database, its tables, and the rows of jobs. */
#include "server/store/store.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/json.h"
#include "server/store/events.h"
#include "server/store/sql.h"

#define APPLICATION_ID 0x6c73746d /* "lstm": distinguishes the file from those of other programs */

const char *const job_state_names[JOB_STATES + 1] = {"queued", "running",   "paused", "succeeded",
                                                     "failed", "cancelled", NULL};

/* migrations[n] leads from version n to n + 1 of the schema (PRAGMA user_version). Released migrations never change. */
static const char *const migrations[] = {
    "CREATE TABLE jobs ("
    "  id INTEGER PRIMARY KEY AUTOINCREMENT,"
    "  state TEXT NOT NULL,"
    "  reason TEXT,"
    "  waits_for_room INTEGER NOT NULL DEFAULT 0,"
    "  request TEXT NOT NULL,"
    "  text TEXT,"
    "  progress TEXT,"
    "  created TEXT NOT NULL,"
    "  started TEXT,"
    "  finished TEXT,"
    "  idempotency_key TEXT UNIQUE,"
    "  request_hash TEXT);"
    "CREATE INDEX jobs_by_state ON jobs (state, id);"
    "CREATE TABLE metrics ("
    "  job INTEGER NOT NULL REFERENCES jobs (id) ON DELETE CASCADE,"
    "  step INTEGER NOT NULL,"
    "  epoch INTEGER NOT NULL,"
    "  seconds REAL,"
    "  train_nats REAL,"
    "  learning_rate REAL,"
    "  gradient_norm REAL,"
    "  tokens_per_second REAL,"
    "  validation_nats REAL,"
    "  PRIMARY KEY (job, step)) WITHOUT ROWID;"
    "CREATE TABLE samples ("
    "  job INTEGER NOT NULL REFERENCES jobs (id) ON DELETE CASCADE,"
    "  epoch INTEGER NOT NULL,"
    "  temperature REAL NOT NULL,"
    "  prompt TEXT NOT NULL,"
    "  text TEXT NOT NULL,"
    "  PRIMARY KEY (job, epoch, temperature)) WITHOUT ROWID;"
    "CREATE TABLE events ("
    "  job INTEGER NOT NULL REFERENCES jobs (id) ON DELETE CASCADE,"
    "  sequence INTEGER NOT NULL,"
    "  type TEXT NOT NULL,"
    "  data TEXT NOT NULL,"
    "  PRIMARY KEY (job, sequence)) WITHOUT ROWID;",
};

#define SCHEMA_VERSION ((int)(sizeof migrations / sizeof *migrations))

/* ---- opening ---- */

/* Refuses a file of another program or of a newer lstmd. *version: version of the tables, 0 for a new file. */
static bool store_check_owner(struct store *store, int64_t *version, struct error *err)
{
    int64_t application = 0, tables = 0;
    if (!sql_read_integer(store, "PRAGMA application_id", &application, err) ||
        !sql_read_integer(store, "PRAGMA user_version", version, err) ||
        !sql_read_integer(store, "SELECT count(*) FROM sqlite_schema", &tables, err))
        return false;
    const bool fresh = application == 0 && *version == 0 && tables == 0;
    if (!fresh && application != APPLICATION_ID)
        return error_set(err, ERROR_CORRUPT, "%s: a database of another program; move it away", sql_path(store));
    if (*version > SCHEMA_VERSION)
        return error_set(err, ERROR_CORRUPT,
                         "%s: written by a newer lstmd (version %lld of the tables, this one knows %d): start that "
                         "lstmd, or " SQL_WAY_OUT,
                         sql_path(store), (long long)*version, SCHEMA_VERSION);
    return true;
}

static bool store_check_content(struct store *store, struct error *err)
{
    struct sql_rows *rows = sql_query(store, err, "PRAGMA quick_check(1)", "");
    bool ok = rows;
    if (ok && sql_next(store, rows, &ok, err) && strcmp(sql_text(rows, 0), "ok") != 0)
        ok = error_set(err, ERROR_CORRUPT, "%s: damaged (%.200s); " SQL_WAY_OUT, sql_path(store), sql_text(rows, 0));
    sql_rows_close(rows);
    return ok;
}

static bool store_migrate(struct store *store, int64_t version, struct error *err)
{
    char set_version[64];
    if (version == SCHEMA_VERSION) return true;
    snprintf(set_version, sizeof set_version, "PRAGMA user_version = %d", SCHEMA_VERSION);
    bool ok = sql_begin(store, SQL_DURABLE, err);
    while (ok && version < SCHEMA_VERSION) ok = sql_run(store, migrations[version++], err);
    ok = ok && sql_run(store, "PRAGMA application_id = " SQL_TEXT(APPLICATION_ID), err) &&
         sql_run(store, set_version, err);
    return sql_end(store, ok, err);
}

struct store *store_open(const char *path, struct error *err)
{
    static const char settings[] = "PRAGMA journal_mode = WAL; PRAGMA foreign_keys = ON; PRAGMA temp_store = MEMORY";
    int64_t version = 0;
    struct store *store = sql_open(path, err);
    if (store && store_check_owner(store, &version, err) && store_check_content(store, err) &&
        sql_run(store, settings, err) && store_migrate(store, version, err) && sql_get_ready(store, err))
        return store;
    sql_close(store);
    return NULL;
}

void store_close(struct store *store)
{
    sql_close(store);
}

/* ---- jobs ---- */

static void text_copy(char *out, size_t size, const char *text)
{
    size_t n = strlen(text);
    if (n >= size) n = size - 1;
    memcpy(out, text, n);
    out[n] = '\0';
}

static bool store_add_state_event(struct store *store, int64_t id, const struct job_change *change, struct error *err)
{
    json_t *json = json_pack("{s:s, s:s?}", "state", job_state_names[change->state], "reason", change->reason);
    char *text = json ? json_text_print(json, JSON_COMPACT, &(size_t){0}, err) : NULL;
    bool ok = text ? event_add(store, id, "state", text, err) : error_set_no_memory(err, 0, "an event");
    free(text);
    json_decref(json);
    return ok;
}

bool store_add_job(struct store *store, const struct job_order *order, int64_t *id, struct error *err)
{
    const struct job_change queued = {.state = JOB_QUEUED};
    char now[CLOCK_UTC_SIZE];
    char *text = json_text_print(order->request, JSON_COMPACT, &(size_t){0}, err);
    if (!text) return false;
    clock_utc_text(now);
    bool ok = sql_begin(store, SQL_DURABLE, err);
    ok = ok && sql_change(store, err,
                          "INSERT INTO jobs (state, request, text, created, idempotency_key, request_hash)"
                          " VALUES ('queued', ?, ?, ?, ?, ?)",
                          "ttttt", text, order->text, now, order->key, order->hash);
    *id = ok ? sql_last_id(store) : 0;
    ok = ok && store_add_state_event(store, *id, &queued, err);
    free(text);
    return sql_end(store, ok, err);
}

bool store_find_key(struct store *store, const char *key, int64_t *id, char hash[SHA256_TEXT_SIZE], struct error *err)
{
    struct sql_rows *rows =
        sql_query(store, err, "SELECT id, request_hash FROM jobs WHERE idempotency_key = ?", "t", key);
    bool ok = rows;
    *id = 0;
    if (ok && sql_next(store, rows, &ok, err)) {
        *id = sql_integer(rows, 0);
        text_copy(hash, SHA256_TEXT_SIZE, sql_text(rows, 1));
        ok = sql_texts_are_whole(store, err);
    }
    sql_rows_close(rows);
    return ok;
}

#define JOB_COLUMNS "id, state, reason, waits_for_room, request, progress, created, started, finished"

static bool job_state_parse(const char *name, enum job_state *state)
{
    for (int i = 0; i < JOB_STATES; i++) {
        *state = (enum job_state)i;
        if (strcmp(job_state_names[i], name) == 0) return true;
    }
    return false;
}

static bool store_read_job(const struct store *store, struct sql_rows *row, struct job *job, struct error *err)
{
    *job = (struct job){.id = sql_integer(row, 0), .waits_for_room = sql_integer(row, 3) != 0};
    text_copy(job->reason, sizeof job->reason, sql_text(row, 2));
    text_copy(job->created, sizeof job->created, sql_text(row, 6));
    text_copy(job->started, sizeof job->started, sql_text(row, 7));
    text_copy(job->finished, sizeof job->finished, sql_text(row, 8));
    if (sql_json(store, row, 4, &job->request, err) && sql_json(store, row, 5, &job->progress, err) &&
        job_state_parse(sql_text(row, 1), &job->state) && json_is_object(job->request))
        return true;
    store_close_job(job);
    return error_set(err, ERROR_CORRUPT, "%s: the row of job %lld cannot be read", sql_path(store), (long long)job->id);
}

void store_close_job(struct job *job)
{
    json_decref(job->request);
    json_decref(job->progress);
    job->request = job->progress = NULL;
}

bool store_get_job(struct store *store, int64_t id, struct job *job, struct error *err)
{
    struct sql_rows *rows = sql_query(store, err, "SELECT " JOB_COLUMNS " FROM jobs WHERE id = ?", "i", id);
    bool ok = rows, found = ok && sql_next(store, rows, &ok, err);
    *job = (struct job){0};
    if (found)
        ok = store_read_job(store, rows, job, err);
    else if (ok)
        ok = error_set(err, ERROR_NOT_FOUND, "there is no such job");
    sql_rows_close(rows);
    return ok;
}

bool store_list_jobs(struct store *store, const struct job_filter *filter, store_each_job *each, void *context,
                     struct error *err)
{
    struct sql_rows *rows =
        sql_query(store, err,
                  "SELECT " JOB_COLUMNS " FROM jobs WHERE (?1 IS NULL OR state = ?1) AND (?2 = 0 OR id < ?2)"
                  " ORDER BY id DESC LIMIT ?3",
                  "tii", job_state_names[filter->state], filter->before, (int64_t)filter->limit);
    bool ok = rows, more = true;
    while (ok && more && sql_next(store, rows, &ok, err)) {
        struct job job;
        ok = store_read_job(store, rows, &job, err);
        more = ok && each(context, &job);
        if (ok) store_close_job(&job);
    }
    sql_rows_close(rows);
    return ok;
}

char *store_job_text(struct store *store, int64_t id, struct error *err)
{
    struct sql_rows *rows = sql_query(store, err, "SELECT text FROM jobs WHERE id = ?", "i", id);
    bool ok = rows;
    char *text = NULL;
    if (ok && sql_next(store, rows, &ok, err)) {
        const char *stored = sql_text(rows, 0);
        text = sql_texts_are_whole(store, err) ? strdup(stored) : NULL;
    }
    if (ok && !text) error_set_no_memory(err, 0, "the text of a job");
    sql_rows_close(rows);
    return text;
}

bool store_next_queued(struct store *store, int64_t after, int64_t *id, struct error *err)
{
    struct sql_rows *rows =
        sql_query(store, err, "SELECT id FROM jobs WHERE state = 'queued' AND id > ? ORDER BY id LIMIT 1", "i", after);
    bool ok = rows;
    *id = 0;
    if (ok && sql_next(store, rows, &ok, err)) *id = sql_integer(rows, 0);
    sql_rows_close(rows);
    return ok;
}

static bool store_update_state(struct store *store, int64_t id, const struct job_change *wanted, struct error *err)
{
    char now[CLOCK_UTC_SIZE];
    clock_utc_text(now);
    return sql_change(store, err,
                      "UPDATE jobs SET state = ?2, reason = ?3, waits_for_room = ?4,"
                      " started = CASE WHEN ?2 = 'running' THEN coalesce(started, ?5) ELSE started END,"
                      " finished = CASE WHEN ?2 IN ('succeeded', 'failed', 'cancelled') THEN ?5 END WHERE id = ?1",
                      "ittit", id, job_state_names[wanted->state], wanted->reason, (int64_t)wanted->waits_for_room,
                      now) &&
           store_add_state_event(store, id, wanted, err);
}

bool store_set_state(struct store *store, int64_t id, const struct job_change *wanted, struct error *err)
{
    return sql_end(store, sql_begin(store, SQL_DURABLE, err) && store_update_state(store, id, wanted, err), err);
}

bool store_recover(struct store *store, struct error *err)
{
    const struct job_change queued = {.state = JOB_QUEUED};
    bool ok = sql_begin(store, SQL_DURABLE, err);
    for (int64_t id = 1; ok && id;) {
        id = 0;
        ok = sql_read_integer(
                 store, "SELECT id FROM jobs WHERE state = 'running' OR state = 'paused' AND waits_for_room LIMIT 1",
                 &id, err) &&
             (!id || store_update_state(store, id, &queued, err));
    }
    return sql_end(store, ok, err);
}

bool store_delete_job(struct store *store, int64_t id, struct error *err)
{
    return sql_end(
        store, sql_begin(store, SQL_DURABLE, err) && sql_change(store, err, "DELETE FROM jobs WHERE id = ?", "i", id),
        err);
}
