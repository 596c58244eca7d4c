/* SQLite: one connection to the job database, its statements, rows and transactions. Only sql.c calls SQLite. It does
 * not know the tables; store.c does.
 *
 * Errors: those of store.h. Only the thread that uses the store may call these functions.
 */
#ifndef LSTMD_SERVER_STORE_SQL_H
#define LSTMD_SERVER_STORE_SQL_H

#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>

#include "base/error.h"

struct store; /* the connection */

/* The end of a message about a file that cannot be used. */
#define SQL_WAY_OUT                                                                                                    \
    "restore it from a backup, or move it away: then the jobs and their history are gone, models and datasets stay"

/* A number as part of an SQL text. */
#define SQL_TEXT_(number) #number
#define SQL_TEXT(number)  SQL_TEXT_(number)

/* Opens or makes the file. NULL with the error. */
struct store *sql_open(const char *path, struct error *err);
void sql_close(struct store *store); /* NULL allowed */
const char *sql_path(const struct store *store);

/* Call once, after settings and tables are made. It prepares the statement that sql_end() needs if memory runs out.
 * Before this call, a failed transaction is rolled back when the file is closed. */
bool sql_get_ready(struct store *store, struct error *err);

/* ---- Statements ---- */

/* Several statements without values, separated by semicolons. */
bool sql_run(struct store *store, const char *sql, struct error *err);

/* Runs one statement with its values. types has a letter for each value: i int64_t, t text or NULL, r double (NULL in
 * the table if it is not finite). */
bool sql_change(struct store *store, struct error *err, const char *sql, const char *types, ...);

/* Starts a statement that returns rows. Close with sql_rows_close(); NULL with the error. */
struct sql_rows;
struct sql_rows *sql_query(struct store *store, struct error *err, const char *sql, const char *types, ...);
void sql_rows_close(struct sql_rows *rows); /* NULL allowed */

/* Steps to the next row. False at the end, and after an error, which also sets *ok to false. */
bool sql_next(struct store *store, struct sql_rows *rows, bool *ok, struct error *err);

/* The first column of the only row of a query without values; *value is unchanged if there is no row. */
bool sql_read_integer(struct store *store, const char *sql, int64_t *value, struct error *err);

int64_t sql_last_id(const struct store *store); /* id of the last inserted row */

/* ---- Columns of a row, numbered from 0 ---- */

int64_t sql_integer(struct sql_rows *row, int column);
double sql_real(struct sql_rows *row, int column);      /* NaN for NULL */
const char *sql_text(struct sql_rows *row, int column); /* "" for NULL; valid until sql_next() */

/* Whether there was enough memory for the row's texts; if not, they are "". */
bool sql_texts_are_whole(const struct store *store, struct error *err);

/* Parses a text as JSON; *value is the caller's, or NULL if the text is not JSON. False: out of memory. */
bool sql_json(const struct store *store, struct sql_rows *row, int column, json_t **value, struct error *err);

/* ---- Transactions ---- */

enum sql_durability {
    SQL_CASUAL,  /* the operating system has it when sql_end() returns; it survives a crash of the process */
    SQL_DURABLE, /* it is on the disk when sql_end() returns */
};
bool sql_begin(struct store *store, enum sql_durability durability, struct error *err);

/* Commits if ok, else rolls back. Returns whether it was committed. */
bool sql_end(struct store *store, bool ok, struct error *err);

#endif
