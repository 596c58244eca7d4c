#include "server/store/store.h"

#include <errno.h>
#include <math.h>
#include <sqlite3.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include "base/json.h"

#define APPLICATION_ID 0x6c73746d /* "lstm": tells the file from other programs' */
#define BUSY_MS        5000
#define TEXT_(number)  #number
#define TEXT(number)   TEXT_(number)

struct store {
    sqlite3 *db;
    sqlite3_stmt *rollback; /* ready: where memory is lacking, no statement can be made */
    char *path;
};

const char *const job_state_names[JOB_STATES + 1] = {"queued", "running",   "paused", "succeeded",
                                                     "failed", "cancelled", NULL};

/* migrations[n] leads from version n to n + 1 of the schema (PRAGMA user_version). What was released never changes. */
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

/* ---- statements ---- */

#define WAY_OUT                                                                                                        \
    "restore it from a backup, or move it away: then the jobs and their history are gone, models and datasets stay"

/* Whether the system says more than SQLite, which calls all of these an error of input and output. */
static bool is_telling(int errno_value)
{
    static const int telling[] = {ENOSPC, EDQUOT, EFBIG, EROFS, ENOMEM, EMFILE, ENFILE};
    for (size_t i = 0; i < sizeof telling / sizeof *telling; i++)
        if (errno_value == telling[i]) return true;
    return false;
}

/* What the system said to SQLite; 0: not known. Of what fails in a COMMIT only the files know it: the log, to which
 * changes are written, and the database, to which they move. */
static int find_errno(const struct store *store)
{
    sqlite3_file *log = NULL;
    int value = store->db ? sqlite3_system_errno(store->db) : 0;
    if (!store->db || is_telling(value)) return value;
    sqlite3_file_control(store->db, "main", SQLITE_FCNTL_JOURNAL_POINTER, &log);
    if (log && log->pMethods) log->pMethods->xFileControl(log, SQLITE_FCNTL_LAST_ERRNO, &value);
    if (!is_telling(value)) sqlite3_file_control(store->db, "main", SQLITE_FCNTL_LAST_ERRNO, &value);
    return value;
}

static bool fail(const struct store *store, int code, struct error *err)
{
    switch (code & 0xff) {
    case SQLITE_NOMEM:
        return error_set_no_memory(err, 0, "the job database");
    case SQLITE_FULL:
        return error_set(err, ERROR_NO_SPACE, "%s: the disk is full", store->path);
    case SQLITE_BUSY:
    case SQLITE_LOCKED:
        return error_set(err, ERROR_UNAVAILABLE, "%s: another program keeps it locked", store->path);
    case SQLITE_NOTADB:
    case SQLITE_CORRUPT:
        return error_set(err, ERROR_CORRUPT, "%s: damaged, or no database (%s); " WAY_OUT, store->path,
                         sqlite3_errstr(code));
    default:
        if (is_telling(find_errno(store))) return error_set_errno(err, find_errno(store), "%s", store->path);
        return error_set(err, ERROR_IO, "%s: %s", store->path,
                         store->db ? sqlite3_errmsg(store->db) : sqlite3_errstr(code));
    }
}

static bool run_script(struct store *store, const char *sql, struct error *err)
{
    int code = sqlite3_exec(store->db, sql, NULL, NULL, NULL);
    return code == SQLITE_OK || fail(store, code, err);
}

static int bind(sqlite3_stmt *statement, int index, char type, va_list *values)
{
    if (type == 'i') return sqlite3_bind_int64(statement, index, va_arg(*values, int64_t));
    if (type == 't') return sqlite3_bind_text(statement, index, va_arg(*values, const char *), -1, SQLITE_TRANSIENT);
    const double value = va_arg(*values, double); /* 'r' */
    return isfinite(value) ? sqlite3_bind_double(statement, index, value) : sqlite3_bind_null(statement, index);
}

/* A statement with its values: types has a letter for each, i: int64_t, t: text or NULL, r: double. */
static sqlite3_stmt *prepare(struct store *store, struct error *err, const char *sql, const char *types,
                             va_list *values)
{
    sqlite3_stmt *statement = NULL;
    int code = sqlite3_prepare_v2(store->db, sql, -1, &statement, NULL);
    for (int i = 0; code == SQLITE_OK && types[i]; i++) code = bind(statement, i + 1, types[i], values);
    if (code == SQLITE_OK) return statement;
    fail(store, code, err);
    sqlite3_finalize(statement);
    return NULL;
}

static sqlite3_stmt *query(struct store *store, struct error *err, const char *sql, const char *types, ...)
{
    va_list values;
    va_start(values, types);
    sqlite3_stmt *statement = prepare(store, err, sql, types, &values);
    va_end(values);
    return statement;
}

/* Whether there is a further row; false with *ok as it was at the end, false with *ok = false after an error. */
static bool next_row(struct store *store, sqlite3_stmt *statement, bool *ok, struct error *err)
{
    int code = sqlite3_step(statement);
    if (code == SQLITE_ROW) return true;
    if (code != SQLITE_DONE) *ok = fail(store, code, err);
    return false;
}

static bool change(struct store *store, struct error *err, const char *sql, const char *types, ...)
{
    va_list values;
    va_start(values, types);
    sqlite3_stmt *statement = prepare(store, err, sql, types, &values);
    va_end(values);
    bool ok = statement;
    while (ok && next_row(store, statement, &ok, err)) continue;
    sqlite3_finalize(statement);
    return ok;
}

/* Transactions. DURABLE: on disk when it has ended; else in the hands of the operating system. */
enum durability { CASUAL, DURABLE };

/* Takes back a transaction that is open. A database that is not yet open is closed instead. */
static bool roll_back(struct store *store, struct error *err)
{
    if (!store->rollback || sqlite3_get_autocommit(store->db)) return true;
    sqlite3_step(store->rollback);
    const int code = sqlite3_reset(store->rollback);
    return sqlite3_get_autocommit(store->db) || fail(store, code, err);
}

static bool begin(struct store *store, enum durability durability, struct error *err)
{
    const char *sql = durability == DURABLE ? "PRAGMA synchronous = FULL; BEGIN IMMEDIATE"
                                            : "PRAGMA synchronous = NORMAL; BEGIN IMMEDIATE";
    return roll_back(store, err) && run_script(store, sql, err);
}

static bool end(struct store *store, bool ok, struct error *err)
{
    ok = ok && run_script(store, "COMMIT", err);
    if (!ok) roll_back(store, err);
    return ok;
}

static const char *column_text(sqlite3_stmt *statement, int column)
{
    const unsigned char *text = sqlite3_column_text(statement, column);
    return text ? (const char *)text : "";
}

/* Whether memory sufficed for the texts of the row, which are "" otherwise. */
static bool texts_are_whole(const struct store *store, struct error *err)
{
    return sqlite3_errcode(store->db) != SQLITE_NOMEM || error_set_no_memory(err, 0, "the job database");
}

static double column_real(sqlite3_stmt *statement, int column)
{
    return sqlite3_column_type(statement, column) == SQLITE_NULL ? NAN : sqlite3_column_double(statement, column);
}

static void copy_text(char *out, size_t size, const char *text)
{
    size_t n = strlen(text);
    if (n >= size) n = size - 1;
    memcpy(out, text, n);
    out[n] = '\0';
}

/* ---- opening ---- */

static bool read_integer(struct store *store, const char *sql, int64_t *value, struct error *err)
{
    sqlite3_stmt *statement = query(store, err, sql, "");
    bool ok = statement;
    if (ok && next_row(store, statement, &ok, err)) *value = sqlite3_column_int64(statement, 0);
    sqlite3_finalize(statement);
    return ok;
}

/* Whose file it is, and of which version; a new one has neither. */
static bool check_owner(struct store *store, int64_t *version, struct error *err)
{
    int64_t application = 0, tables = 0;
    if (!read_integer(store, "PRAGMA application_id", &application, err) ||
        !read_integer(store, "PRAGMA user_version", version, err) ||
        !read_integer(store, "SELECT count(*) FROM sqlite_schema", &tables, err))
        return false;
    const bool fresh = application == 0 && *version == 0 && tables == 0;
    if (!fresh && application != APPLICATION_ID)
        return error_set(err, ERROR_CORRUPT, "%s: a database of another program; move it away", store->path);
    if (*version > SCHEMA_VERSION)
        return error_set(err, ERROR_CORRUPT,
                         "%s: written by a newer lstmd (version %lld of the tables, this one knows %d): start that "
                         "lstmd, or " WAY_OUT,
                         store->path, (long long)*version, SCHEMA_VERSION);
    return true;
}

static bool check_content(struct store *store, struct error *err)
{
    sqlite3_stmt *statement = query(store, err, "PRAGMA quick_check(1)", "");
    bool ok = statement;
    if (ok && next_row(store, statement, &ok, err) && strcmp(column_text(statement, 0), "ok") != 0)
        ok = error_set(err, ERROR_CORRUPT, "%s: damaged (%.200s); " WAY_OUT, store->path, column_text(statement, 0));
    sqlite3_finalize(statement);
    return ok;
}

static bool migrate(struct store *store, int64_t version, struct error *err)
{
    char set_version[64];
    if (version == SCHEMA_VERSION) return true;
    sqlite3_snprintf(sizeof set_version, set_version, "PRAGMA user_version = %d", SCHEMA_VERSION);
    bool ok = begin(store, DURABLE, err);
    while (ok && version < SCHEMA_VERSION) ok = run_script(store, migrations[version++], err);
    ok = ok && run_script(store, "PRAGMA application_id = " TEXT(APPLICATION_ID), err) &&
         run_script(store, set_version, err);
    return end(store, ok, err);
}

static bool open_database(struct store *store, struct error *err)
{
    int64_t version = 0;
    int code = sqlite3_open_v2(store->path, &store->db,
                               SQLITE_OPEN_READWRITE | SQLITE_OPEN_CREATE | SQLITE_OPEN_NOMUTEX, NULL);
    if (code != SQLITE_OK) return fail(store, code, err);
    sqlite3_busy_timeout(store->db, BUSY_MS);
    const bool good =
        check_owner(store, &version, err) && check_content(store, err) &&
        run_script(store, "PRAGMA journal_mode = WAL; PRAGMA foreign_keys = ON; PRAGMA temp_store = MEMORY", err) &&
        migrate(store, version, err);
    /* Last: settings and new tables make SQLite prepare it anew. */
    if (good) store->rollback = query(store, err, "ROLLBACK", "");
    return store->rollback;
}

struct store *store_open(const char *path, struct error *err)
{
    struct store *store = calloc(1, sizeof *store);
    if (store) store->path = strdup(path);
    if (!store || !store->path) {
        error_set_no_memory(err, sizeof *store, "the job database");
    } else if (open_database(store, err)) {
        return store;
    }
    store_close(store);
    return NULL;
}

void store_close(struct store *store)
{
    if (!store) return;
    sqlite3_finalize(store->rollback);
    sqlite3_close(store->db);
    free(store->path);
    free(store);
}

/* ---- jobs ---- */

/* An event's number is one above the highest: those that are replaced are older than the one that replaces them, so a
 * number never comes twice. */
static bool add_event(struct store *store, int64_t id, const char *type, const char *data, struct error *err)
{
    return change(store, err,
                  "INSERT INTO events (job, sequence, type, data)"
                  " SELECT ?1, coalesce(max(sequence), 0) + 1, ?2, ?3 FROM events WHERE job = ?1",
                  "itt", id, type, data);
}

static bool add_only_event(struct store *store, int64_t id, const char *type, const char *data, struct error *err)
{
    return add_event(store, id, type, data, err) &&
           change(store, err,
                  "DELETE FROM events WHERE job = ?1 AND type = ?2"
                  " AND sequence < (SELECT max(sequence) FROM events WHERE job = ?1)",
                  "it", id, type);
}

static bool add_state_event(struct store *store, int64_t id, const struct job_change *change_, struct error *err)
{
    json_t *json = json_pack("{s:s, s:s?}", "state", job_state_names[change_->state], "reason", change_->reason);
    char *text = json ? json_text_print(json, JSON_COMPACT, &(size_t){0}, err) : NULL;
    bool ok = text ? add_event(store, id, "state", text, err) : error_set_no_memory(err, 0, "an event");
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
    bool ok = begin(store, DURABLE, err);
    ok = ok && change(store, err,
                      "INSERT INTO jobs (state, request, text, created, idempotency_key, request_hash)"
                      " VALUES ('queued', ?, ?, ?, ?, ?)",
                      "ttttt", text, order->text, now, order->key, order->hash);
    *id = ok ? sqlite3_last_insert_rowid(store->db) : 0;
    ok = ok && add_state_event(store, *id, &queued, err);
    free(text);
    return end(store, ok, err);
}

bool store_find_key(struct store *store, const char *key, int64_t *id, char hash[SHA256_TEXT_SIZE], struct error *err)
{
    sqlite3_stmt *statement =
        query(store, err, "SELECT id, request_hash FROM jobs WHERE idempotency_key = ?", "t", key);
    bool ok = statement;
    *id = 0;
    if (ok && next_row(store, statement, &ok, err)) {
        *id = sqlite3_column_int64(statement, 0);
        copy_text(hash, SHA256_TEXT_SIZE, column_text(statement, 1));
        ok = texts_are_whole(store, err);
    }
    sqlite3_finalize(statement);
    return ok;
}

#define JOB_COLUMNS "id, state, reason, waits_for_room, request, progress, created, started, finished"

static bool parse_state(const char *name, enum job_state *state)
{
    for (int i = 0; i < JOB_STATES; i++) {
        *state = (enum job_state)i;
        if (strcmp(job_state_names[i], name) == 0) return true;
    }
    return false;
}

/* The value of a column, NULL where there is none, or none that is JSON. False: memory is lacking. */
static bool read_json(const struct store *store, sqlite3_stmt *row, int column, json_t **value, struct error *err)
{
    const char *text = column_text(row, column);
    json_error_t where;
    *value = NULL;
    if (!texts_are_whole(store, err)) return false;
    *value = json_text_parse(text, strlen(text), 0, &where);
    return *value || !json_text_lacked_memory(&where) || error_set_no_memory(err, 0, "a job");
}

static bool read_job(const struct store *store, sqlite3_stmt *row, struct job *job, struct error *err)
{
    *job = (struct job){.id = sqlite3_column_int64(row, 0), .waits_for_room = sqlite3_column_int(row, 3) != 0};
    copy_text(job->reason, sizeof job->reason, column_text(row, 2));
    copy_text(job->created, sizeof job->created, column_text(row, 6));
    copy_text(job->started, sizeof job->started, column_text(row, 7));
    copy_text(job->finished, sizeof job->finished, column_text(row, 8));
    if (read_json(store, row, 4, &job->request, err) && read_json(store, row, 5, &job->progress, err) &&
        parse_state(column_text(row, 1), &job->state) && json_is_object(job->request))
        return true;
    store_close_job(job);
    return error_set(err, ERROR_CORRUPT, "%s: the row of job %lld cannot be read", store->path, (long long)job->id);
}

void store_close_job(struct job *job)
{
    json_decref(job->request);
    json_decref(job->progress);
    job->request = job->progress = NULL;
}

bool store_get_job(struct store *store, int64_t id, struct job *job, struct error *err)
{
    sqlite3_stmt *statement = query(store, err, "SELECT " JOB_COLUMNS " FROM jobs WHERE id = ?", "i", id);
    bool ok = statement, found = ok && next_row(store, statement, &ok, err);
    *job = (struct job){0};
    if (found)
        ok = read_job(store, statement, job, err);
    else if (ok)
        ok = error_set(err, ERROR_NOT_FOUND, "there is no such job");
    sqlite3_finalize(statement);
    return ok;
}

bool store_list_jobs(struct store *store, enum job_state state, int64_t before, size_t limit, store_each_job *each,
                     void *context, struct error *err)
{
    sqlite3_stmt *statement =
        query(store, err,
              "SELECT " JOB_COLUMNS " FROM jobs WHERE (?1 IS NULL OR state = ?1) AND (?2 = 0 OR id < ?2)"
              " ORDER BY id DESC LIMIT ?3",
              "tii", job_state_names[state], before, (int64_t)limit);
    bool ok = statement, more = true;
    while (ok && more && next_row(store, statement, &ok, err)) {
        struct job job;
        ok = read_job(store, statement, &job, err);
        more = ok && each(context, &job);
        if (ok) store_close_job(&job);
    }
    sqlite3_finalize(statement);
    return ok;
}

char *store_job_text(struct store *store, int64_t id, struct error *err)
{
    sqlite3_stmt *statement = query(store, err, "SELECT text FROM jobs WHERE id = ?", "i", id);
    bool ok = statement;
    char *text = NULL;
    if (ok && next_row(store, statement, &ok, err)) {
        const char *stored = column_text(statement, 0);
        text = texts_are_whole(store, err) ? strdup(stored) : NULL;
    }
    if (ok && !text) error_set_no_memory(err, 0, "the text of a job");
    sqlite3_finalize(statement);
    return text;
}

bool store_next_queued(struct store *store, int64_t after, int64_t *id, struct error *err)
{
    sqlite3_stmt *statement =
        query(store, err, "SELECT id FROM jobs WHERE state = 'queued' AND id > ? ORDER BY id LIMIT 1", "i", after);
    bool ok = statement;
    *id = 0;
    if (ok && next_row(store, statement, &ok, err)) *id = sqlite3_column_int64(statement, 0);
    sqlite3_finalize(statement);
    return ok;
}

static bool update_state(struct store *store, int64_t id, const struct job_change *wanted, struct error *err)
{
    char now[CLOCK_UTC_SIZE];
    clock_utc_text(now);
    return change(store, err,
                  "UPDATE jobs SET state = ?2, reason = ?3, waits_for_room = ?4,"
                  " started = CASE WHEN ?2 = 'running' THEN coalesce(started, ?5) ELSE started END,"
                  " finished = CASE WHEN ?2 IN ('succeeded', 'failed', 'cancelled') THEN ?5 END WHERE id = ?1",
                  "ittit", id, job_state_names[wanted->state], wanted->reason, (int64_t)wanted->waits_for_room, now) &&
           add_state_event(store, id, wanted, err);
}

bool store_set_state(struct store *store, int64_t id, const struct job_change *wanted, struct error *err)
{
    return end(store, begin(store, DURABLE, err) && update_state(store, id, wanted, err), err);
}

bool store_recover(struct store *store, struct error *err)
{
    const struct job_change queued = {.state = JOB_QUEUED};
    bool ok = begin(store, DURABLE, err);
    for (int64_t id = 1; ok && id;) {
        id = 0;
        ok = read_integer(store,
                          "SELECT id FROM jobs WHERE state = 'running' OR state = 'paused' AND waits_for_room LIMIT 1",
                          &id, err) &&
             (!id || update_state(store, id, &queued, err));
    }
    return end(store, ok, err);
}

bool store_delete_job(struct store *store, int64_t id, struct error *err)
{
    return end(store, begin(store, DURABLE, err) && change(store, err, "DELETE FROM jobs WHERE id = ?", "i", id), err);
}

/* ---- what a run tells ---- */

static bool set_progress(struct store *store, int64_t id, const char *progress, struct error *err)
{
    return change(store, err, "UPDATE jobs SET progress = ?2 WHERE id = ?1", "it", id, progress);
}

static bool forget_metrics_after(struct store *store, int64_t id, uint64_t step, struct error *err)
{
    return change(store, err, "DELETE FROM metrics WHERE job = ? AND step > ?", "ii", id, (int64_t)step);
}

bool store_add_progress(struct store *store, int64_t id, const struct metric *metric, const char *progress,
                        struct error *err)
{
    bool ok = begin(store, CASUAL, err) && forget_metrics_after(store, id, metric->step, err) &&
              change(store, err,
                     "INSERT INTO metrics (job, step, epoch, seconds, train_nats, learning_rate, gradient_norm,"
                     " tokens_per_second) VALUES (?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT DO UPDATE SET"
                     " seconds = excluded.seconds, train_nats = excluded.train_nats,"
                     " learning_rate = excluded.learning_rate, gradient_norm = excluded.gradient_norm,"
                     " tokens_per_second = excluded.tokens_per_second",
                     "iiirrrrr", id, (int64_t)metric->step, (int64_t)metric->epoch, metric->seconds, metric->train_nats,
                     metric->learning_rate, metric->gradient_norm, metric->tokens_per_second) &&
              set_progress(store, id, progress, err) && add_only_event(store, id, "progress", progress, err);
    return end(store, ok, err);
}

bool store_add_validation(struct store *store, int64_t id, const struct metric *metric, const char *event,
                          const char *progress, struct error *err)
{
    bool ok =
        begin(store, CASUAL, err) && forget_metrics_after(store, id, metric->step, err) &&
        change(store, err,
               "INSERT INTO metrics (job, step, epoch, seconds, train_nats, validation_nats) VALUES (?, ?, ?, ?, ?, ?)"
               " ON CONFLICT DO UPDATE SET validation_nats = excluded.validation_nats",
               "iiirrr", id, (int64_t)metric->step, (int64_t)metric->epoch, metric->seconds, metric->train_nats,
               metric->validation_nats) &&
        set_progress(store, id, progress, err) && add_event(store, id, "validation", event, err);
    return end(store, ok, err);
}

bool store_add_sample(struct store *store, int64_t id, const struct job_sample *sample, const char *event,
                      struct error *err)
{
    bool ok = begin(store, CASUAL, err) &&
              change(store, err, "DELETE FROM samples WHERE job = ? AND epoch > ?", "ii", id, (int64_t)sample->epoch) &&
              change(store, err,
                     "INSERT OR REPLACE INTO samples (job, epoch, temperature, prompt, text) VALUES (?, ?, ?, ?, ?)",
                     "iirtt", id, (int64_t)sample->epoch, sample->temperature, sample->prompt, sample->text) &&
              add_event(store, id, "sample", event, err);
    return end(store, ok, err);
}

bool store_add_checkpoint(struct store *store, int64_t id, const char *event, struct error *err)
{
    return end(store, begin(store, CASUAL, err) && add_only_event(store, id, "checkpoint", event, err), err);
}

bool store_add_note(struct store *store, int64_t id, const char *event, struct error *err)
{
    return end(store,
               begin(store, CASUAL, err) &&
                   change(store, err,
                          "INSERT INTO events (job, sequence, type, data)"
                          " SELECT ?1, coalesce(max(sequence), 0) + 1, 'note', ?2 FROM events WHERE job = ?1"
                          " HAVING coalesce(sum(type = 'note'), 0) < " TEXT(
                              STORE_NOTES) " AND coalesce(sum(type = 'note' AND data = ?2), 0) = 0",
                          "it", id, event),
               err);
}

/* ---- reading that ---- */

bool store_metrics(struct store *store, int64_t id, int64_t after, size_t limit, store_each_metric *each, void *context,
                   struct error *err)
{
    sqlite3_stmt *row = query(store, err,
                              "SELECT step, epoch, seconds, train_nats, learning_rate, gradient_norm,"
                              " tokens_per_second, validation_nats FROM metrics WHERE job = ?1 AND step > ?2"
                              " ORDER BY step LIMIT ?3",
                              "iii", id, after, (int64_t)limit);
    bool ok = row, more = true;
    while (ok && more && next_row(store, row, &ok, err)) {
        const struct metric metric = {.step = (uint64_t)sqlite3_column_int64(row, 0),
                                      .epoch = (uint64_t)sqlite3_column_int64(row, 1),
                                      .seconds = column_real(row, 2),
                                      .train_nats = column_real(row, 3),
                                      .learning_rate = column_real(row, 4),
                                      .gradient_norm = column_real(row, 5),
                                      .tokens_per_second = column_real(row, 6),
                                      .validation_nats = column_real(row, 7)};
        more = each(context, &metric);
    }
    sqlite3_finalize(row);
    return ok;
}

json_t *store_samples(struct store *store, int64_t id, struct error *err)
{
    json_t *list = json_array();
    sqlite3_stmt *row = query(store, err,
                              "SELECT epoch, temperature, prompt, text FROM samples WHERE job = ?1"
                              " AND epoch = (SELECT max(epoch) FROM samples WHERE job = ?1) ORDER BY temperature",
                              "i", id);
    bool ok = row;
    while (ok && next_row(store, row, &ok, err)) {
        json_t *sample =
            json_pack("{s:I, s:f, s:s, s:s}", "epoch", (json_int_t)sqlite3_column_int64(row, 0), "temperature",
                      sqlite3_column_double(row, 1), "prompt", column_text(row, 2), "text", column_text(row, 3));
        ok = texts_are_whole(store, err);
        if (json_array_append_new(list, sample) != 0) ok = error_set_no_memory(err, 0, "samples");
    }
    sqlite3_finalize(row);
    if (ok) return list;
    json_decref(list);
    return NULL;
}

json_t *store_notes(struct store *store, int64_t id, struct error *err)
{
    json_t *list = json_array();
    sqlite3_stmt *row =
        query(store, err, "SELECT data FROM events WHERE job = ? AND type = 'note' ORDER BY sequence", "i", id);
    bool ok = row;
    while (ok && next_row(store, row, &ok, err)) {
        json_t *note;
        ok = read_json(store, row, 0, &note, err);
        if (ok && json_array_append(list, json_object_get(note, "text")) != 0)
            ok = error_set_no_memory(err, 0, "notes");
        json_decref(note);
    }
    sqlite3_finalize(row);
    if (ok) return list;
    json_decref(list);
    return NULL;
}

bool store_events(struct store *store, int64_t id, int64_t after, size_t limit, store_each_event *each, void *context,
                  struct error *err)
{
    sqlite3_stmt *row = query(store, err,
                              "SELECT sequence, type, data FROM events WHERE job = ? AND sequence > ?"
                              " ORDER BY sequence LIMIT ?",
                              "iii", id, after, (int64_t)limit);
    bool ok = row, more = true;
    while (ok && more && next_row(store, row, &ok, err)) {
        const char *type = column_text(row, 1), *data = column_text(row, 2);
        ok = texts_are_whole(store, err);
        more = ok && each(context, sqlite3_column_int64(row, 0), type, data);
    }
    sqlite3_finalize(row);
    return ok;
}
