/* The state directory (server.state_dir): everything that a daemon keeps between starts.
 *
 *     <path>/models/<name>/    model directories (model/files/checkpoint.h)
 *     <path>/datasets/<name>/  corpora (server/store/datasets.h)
 *     <path>/jobs/<id>/        working directories of training jobs
 *     <path>/default           the name of the default model (server/models/registry.h)
 *     <path>/lstmd.db          the job database (server/store/store.h)
 *     <path>/lock              held by the daemon that uses it, with its process id
 *
 * One daemon uses it at a time. The kernel drops the lock when the process ends, also after a crash. Everything in it
 * is published (base/file.h), and state_dir_open() removes what a killed process left aside. Immutable while open, so
 * any thread may use it.
 */
#ifndef LSTMD_SERVER_STORE_STATE_DIR_H
#define LSTMD_SERVER_STORE_STATE_DIR_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/error.h"

#define STATE_NAME_MAX     64 /* bytes */
#define STATE_DEFAULT_FILE "default"

struct state_dir;

/* Makes missing directories (only their owner has access; the parent directory must exist), takes the lock, sweeps. It
 * refuses a directory that others could change: everybody may write to it, or it belongs to another user (except root;
 * for a daemon that runs as root, this is a warning). The path may be a symbolic link; links inside the directory are
 * not followed. Errors: ERROR_INVALID if others could change the directory, ERROR_CONFLICT for links and if another
 * daemon uses it, ERROR_IO, ERROR_NO_SPACE. */
struct state_dir *state_dir_open(const char *path, struct error *err);
void state_dir_close(struct state_dir *state); /* NULL allowed */

/* Borrowed. */
const char *state_dir_path(const struct state_dir *state);
const char *state_dir_models(const struct state_dir *state);
const char *state_dir_datasets(const struct state_dir *state);
const char *state_dir_jobs(const struct state_dir *state);

/* Bytes of its file system: those free for the daemon, and the total. False: the system does not say. */
bool state_dir_room(const struct state_dir *state, uint64_t *room, uint64_t *size);

/* False with ERROR_CONFLICT: the file is a symbolic link, which could lead to any file. */
bool state_dir_check_file(const char *path, struct error *err);

/* The same check for a model, a dataset or a job, "DIR/models/NAME", and everything in it. A missing one passes. The
 * error names it as "models/NAME/...", without the state directory. */
bool state_dir_check_entry(const char *path, struct error *err);

/* False if state is NULL: ERROR_CONFLICT; the message says how to configure a state directory. */
bool state_dir_require(const struct state_dir *state, struct error *err);

/* Whether this may be the name of a model, a dataset or a session on disk: 1 to 64 letters, digits and ._-, the first
 * neither . nor -, and not a name of an aside file (base/file.h). */
bool state_name_valid(const char *name, size_t size);

/* The same check with an error: ERROR_INVALID, which names `what` ("a model's name"). */
bool state_name_check(const char *name, size_t size, const char *what, struct error *err);

#endif
