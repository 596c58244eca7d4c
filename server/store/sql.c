#include "server/store/sql.h"

#include <errno.h>
#include <math.h>
#include <sqlite3.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include "base/json.h"

#define BUSY_MS 5000 /* how long to wait for another program's lock */

struct store {
    sqlite3 *db;
    sqlite3_stmt *rollback; /* prepared in advance, because preparing fails if memory runs out */
    char *path;
};

/* Whether errno says more than SQLite, which reports each of these as an I/O error. */
static bool errno_is_telling(int errno_value)
{
    static const int telling[] = {ENOSPC, EDQUOT, EFBIG, EROFS, ENOMEM, EMFILE, ENFILE};
    for (size_t i = 0; i < sizeof telling / sizeof *telling; i++)
        if (errno_value == telling[i]) return true;
    return false;
}

/* The errno that SQLite got; 0: not known. After a failed COMMIT only SQLite's open files know it: the log, to which it
 * writes changes, and the database, to which it moves them. */
static int sql_find_errno(const struct store *store)
{
    sqlite3_file *log = NULL;
    int value = store->db ? sqlite3_system_errno(store->db) : 0;
    if (!store->db || errno_is_telling(value)) return value;
    sqlite3_file_control(store->db, "main", SQLITE_FCNTL_JOURNAL_POINTER, &log);
    if (log && log->pMethods) log->pMethods->xFileControl(log, SQLITE_FCNTL_LAST_ERRNO, &value);
    if (!errno_is_telling(value)) sqlite3_file_control(store->db, "main", SQLITE_FCNTL_LAST_ERRNO, &value);
    return value;
}

static bool sql_fail(const struct store *store, int code, struct error *err)
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
        return error_set(err, ERROR_CORRUPT, "%s: damaged, or no database (%s); " SQL_WAY_OUT, store->path,
                         sqlite3_errstr(code));
    default:
        if (errno_is_telling(sql_find_errno(store)))
            return error_set_errno(err, sql_find_errno(store), "%s", store->path);
        return error_set(err, ERROR_IO, "%s: %s", store->path,
                         store->db ? sqlite3_errmsg(store->db) : sqlite3_errstr(code));
    }
}

/* Converts to the SQLite type; other files only see struct sql_rows. */
static sqlite3_stmt *statement_of(struct sql_rows *rows)
{
    return (sqlite3_stmt *)rows;
}

bool sql_run(struct store *store, const char *sql, struct error *err)
{
    int code = sqlite3_exec(store->db, sql, NULL, NULL, NULL);
    return code == SQLITE_OK || sql_fail(store, code, err);
}

/* ---- statements ---- */

static int sql_bind(sqlite3_stmt *statement, int index, char type, va_list *values)
{
    if (type == 'i') return sqlite3_bind_int64(statement, index, va_arg(*values, int64_t));
    if (type == 't') return sqlite3_bind_text(statement, index, va_arg(*values, const char *), -1, SQLITE_TRANSIENT);
    const double value = va_arg(*values, double); /* 'r' */
    return isfinite(value) ? sqlite3_bind_double(statement, index, value) : sqlite3_bind_null(statement, index);
}

static sqlite3_stmt *sql_prepare(struct store *store, struct error *err, const char *sql, const char *types,
                                 va_list *values)
{
    sqlite3_stmt *statement = NULL;
    int code = sqlite3_prepare_v2(store->db, sql, -1, &statement, NULL);
    for (int i = 0; code == SQLITE_OK && types[i]; i++) code = sql_bind(statement, i + 1, types[i], values);
    if (code == SQLITE_OK) return statement;
    sql_fail(store, code, err);
    sqlite3_finalize(statement);
    return NULL;
}

struct sql_rows *sql_query(struct store *store, struct error *err, const char *sql, const char *types, ...)
{
    va_list values;
    va_start(values, types);
    sqlite3_stmt *statement = sql_prepare(store, err, sql, types, &values);
    va_end(values);
    return (struct sql_rows *)statement;
}

bool sql_next(struct store *store, struct sql_rows *rows, bool *ok, struct error *err)
{
    int code = sqlite3_step(statement_of(rows));
    if (code == SQLITE_ROW) return true;
    if (code != SQLITE_DONE) *ok = sql_fail(store, code, err);
    return false;
}

bool sql_change(struct store *store, struct error *err, const char *sql, const char *types, ...)
{
    va_list values;
    va_start(values, types);
    struct sql_rows *rows = (struct sql_rows *)sql_prepare(store, err, sql, types, &values);
    va_end(values);
    bool ok = rows;
    while (ok && sql_next(store, rows, &ok, err)) continue;
    sql_rows_close(rows);
    return ok;
}

void sql_rows_close(struct sql_rows *rows)
{
    sqlite3_finalize(statement_of(rows));
}

/* ---- transactions ---- */

/* Rolls back an open transaction. */
static bool sql_roll_back(struct store *store, struct error *err)
{
    if (!store->rollback || sqlite3_get_autocommit(store->db)) return true;
    sqlite3_step(store->rollback);
    const int code = sqlite3_reset(store->rollback);
    return sqlite3_get_autocommit(store->db) || sql_fail(store, code, err);
}

bool sql_begin(struct store *store, enum sql_durability durability, struct error *err)
{
    const char *sql = durability == SQL_DURABLE ? "PRAGMA synchronous = FULL; BEGIN IMMEDIATE"
                                                : "PRAGMA synchronous = NORMAL; BEGIN IMMEDIATE";
    return sql_roll_back(store, err) && sql_run(store, sql, err);
}

bool sql_end(struct store *store, bool ok, struct error *err)
{
    ok = ok && sql_run(store, "COMMIT", err);
    if (!ok) sql_roll_back(store, err);
    return ok;
}

/* ---- columns ---- */

int64_t sql_integer(struct sql_rows *row, int column)
{
    return sqlite3_column_int64(statement_of(row), column);
}

const char *sql_text(struct sql_rows *row, int column)
{
    const unsigned char *text = sqlite3_column_text(statement_of(row), column);
    return text ? (const char *)text : "";
}

bool sql_texts_are_whole(const struct store *store, struct error *err)
{
    return sqlite3_errcode(store->db) != SQLITE_NOMEM || error_set_no_memory(err, 0, "the job database");
}

double sql_real(struct sql_rows *row, int column)
{
    return sqlite3_column_type(statement_of(row), column) == SQLITE_NULL
               ? NAN
               : sqlite3_column_double(statement_of(row), column);
}

bool sql_read_integer(struct store *store, const char *sql, int64_t *value, struct error *err)
{
    struct sql_rows *rows = sql_query(store, err, sql, "");
    bool ok = rows;
    if (ok && sql_next(store, rows, &ok, err)) *value = sql_integer(rows, 0);
    sql_rows_close(rows);
    return ok;
}

bool sql_json(const struct store *store, struct sql_rows *row, int column, json_t **value, struct error *err)
{
    const char *text = sql_text(row, column);
    json_error_t where;
    *value = NULL;
    if (!sql_texts_are_whole(store, err)) return false;
    *value = json_text_parse(text, strlen(text), 0, &where);
    return *value || !json_text_lacked_memory(&where) || error_set_no_memory(err, 0, "a job");
}

int64_t sql_last_id(const struct store *store)
{
    return sqlite3_last_insert_rowid(store->db);
}

/* ---- opening ---- */

static bool sql_open_file(struct store *store, struct error *err)
{
    const int flags = SQLITE_OPEN_READWRITE | SQLITE_OPEN_CREATE | SQLITE_OPEN_NOMUTEX;
    const int code = sqlite3_open_v2(store->path, &store->db, flags, NULL);
    if (code != SQLITE_OK) return sql_fail(store, code, err);
    sqlite3_busy_timeout(store->db, BUSY_MS);
    return true;
}

struct store *sql_open(const char *path, struct error *err)
{
    struct store *store = calloc(1, sizeof *store);
    if (store) store->path = strdup(path);
    if (!store || !store->path) {
        error_set_no_memory(err, sizeof *store, "the job database");
    } else if (sql_open_file(store, err)) {
        return store;
    }
    sql_close(store);
    return NULL;
}

void sql_close(struct store *store)
{
    if (!store) return;
    sqlite3_finalize(store->rollback);
    sqlite3_close(store->db);
    free(store->path);
    free(store);
}

const char *sql_path(const struct store *store)
{
    return store->path;
}

bool sql_get_ready(struct store *store, struct error *err)
{
    store->rollback = statement_of(sql_query(store, err, "ROLLBACK", ""));
    return store->rollback;
}
