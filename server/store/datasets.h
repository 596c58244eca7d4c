/* Datasets: uploaded corpora. Each has a name and a directory of its own:
 *
 *     <directory>/<name>/data            the uploaded file, unpacked and as UTF-8 (bytes=true: as it is)
 *     <directory>/<name>/dataset.json    its description
 *
 * An upload is written aside piece by piece and checked, then described, then published: nobody sees a part of it. If
 * the daemon is killed, the next start removes the rest (state_dir_open()). A reader holds a dataset. A held dataset
 * cannot be deleted or replaced (ERROR_CONFLICT), because a job that resumes after a restart must find the same bytes.
 * Thread-safe; an upload belongs to one thread at a time.
 */
#ifndef LSTMD_SERVER_STORE_DATASETS_H
#define LSTMD_SERVER_STORE_DATASETS_H

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/error.h"
#include "model/text/corpus.h"

struct datasets;

/* Reads the datasets in the directory; the path is borrowed. A dataset that cannot be read is logged and left out. */
struct datasets *datasets_new(const char *directory, struct error *err);
void datasets_free(struct datasets *datasets); /* NULL allowed; nothing may be held */

/* frozen: no dataset may be replaced or deleted (ERROR_NO_SPACE), because the daemon does not know yet which ones jobs
 * need. */
void datasets_freeze(struct datasets *datasets, bool frozen);

/* A held dataset. It is immutable. */
struct stored_dataset {
    const char *name;
    const char *path;             /* path of the data file */
    struct corpus_options corpus; /* how to read it; its format is never CORPUS_AUTO */
    uint64_t size, characters, documents;
    char sha256[65];
};

/* Errors: ERROR_NOT_FOUND; ERROR_CONFLICT while it is being replaced or deleted; ERROR_NO_MEMORY. */
const struct stored_dataset *datasets_acquire(struct datasets *datasets, const char *name, struct error *err);
void datasets_release(struct datasets *datasets, const struct stored_dataset *dataset);

/* {name, size, sha256, encoding, format, columns, label_column, field, csv_header, bytes, characters, documents,
 * labels, alphabet_size, alphabet, uploaded, users}; a new reference, NULL with ERROR_NOT_FOUND or ERROR_NO_MEMORY. */
json_t *datasets_describe(struct datasets *datasets, const char *name, struct error *err);
/* The description of the next dataset in the order of names, after the name `after` ("": the first), without its
 * alphabet. NULL without an error: there is no further one. */
json_t *datasets_next(struct datasets *datasets, const char *after, struct error *err);

/* Errors: ERROR_NOT_FOUND, ERROR_CONFLICT, ERROR_IO. */
bool datasets_delete(struct datasets *datasets, const char *name, struct error *err);

/* ---- Uploading ---- */

struct dataset_upload;

/* Allocates memory and touches no file, so the HTTP thread may call it. Options are copied; with CORPUS_AUTO the name
 * and the text decide the format. Errors: ERROR_INVALID for a bad name, ERROR_CONFLICT for a dataset that is held. */
struct dataset_upload *dataset_upload_new(struct datasets *datasets, const char *name,
                                          const struct corpus_options *options, struct error *err);

/* Writes the next piece. Errors: ERROR_INVALID if it is not UTF-8 (with line and byte offset) or damaged,
 * ERROR_TOO_LARGE if it unpacks to more than options.most_unpacked, ERROR_NO_SPACE, ERROR_IO. */
bool dataset_upload_write(struct dataset_upload *upload, const char *data, size_t size, struct error *err);

/* Describes the written data and publishes it. Errors: those of corpus_summarise(); ERROR_CONFLICT if somebody now
 * holds the old dataset of the name; those of dataset_upload_write(). */
bool dataset_upload_finish(struct dataset_upload *upload, struct error *err);

/* After dataset_upload_finish(): whether there was a dataset of the name before. */
bool dataset_upload_replaced(const struct dataset_upload *upload);
const char *dataset_upload_name(const struct dataset_upload *upload);

/* Frees the upload and removes its files if they were not published. NULL allowed. */
void dataset_upload_free(struct dataset_upload *upload);

#endif
