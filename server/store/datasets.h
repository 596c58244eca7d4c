/* Datasets: corpora that were uploaded. Each has a name and a directory of its own:
 *
 *     <directory>/<name>/data            the uploaded file, unpacked and as UTF-8 (bytes=true: as it is)
 *     <directory>/<name>/dataset.json    what it is (dataset_description())
 *
 * An upload is written aside piece by piece, checked on the way, described, and then published: nobody sees a part of
 * it, and the next start removes what a killed daemon leaves (state_dir_open()). Whoever reads a dataset holds it. A
 * dataset that is held cannot be deleted or replaced (ERROR_CONFLICT), because a job that resumes after a restart must
 * find the same bytes. Thread-safe; an upload belongs to one thread at a time.
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

/* Reads what is in the directory, which is borrowed. A dataset that cannot be read is logged and left out. */
struct datasets *datasets_new(const char *directory, struct error *err);
void datasets_free(struct datasets *datasets); /* NULL allowed; nothing may be held */

/* frozen: no dataset may be replaced or deleted (ERROR_NO_SPACE), because nobody knows yet which of them jobs need. */
void datasets_freeze(struct datasets *datasets, bool frozen);

/* A dataset that is held. All of it is immutable. */
struct stored_dataset {
    const char *name;
    const char *path;             /* of the file */
    struct corpus_options corpus; /* how it is read; its format is never CORPUS_AUTO */
    uint64_t size, characters, documents;
    char sha256[65];
};

/* Errors: ERROR_NOT_FOUND; ERROR_CONFLICT while it is being replaced or deleted; ERROR_NO_MEMORY. */
const struct stored_dataset *datasets_acquire(struct datasets *datasets, const char *name, struct error *err);
void datasets_release(struct datasets *datasets, const struct stored_dataset *dataset);

/* {name, size, sha256, encoding, format, columns, label_column, field, csv_header, bytes, characters, documents,
 * labels, alphabet_size, alphabet, uploaded, users}; a new reference, NULL with ERROR_NOT_FOUND or ERROR_NO_MEMORY. */
json_t *datasets_describe(struct datasets *datasets, const char *name, struct error *err);
/* The same of the next dataset, by name, behind the name `after` ("": the first), without its alphabet. NULL without an
 * error: there is no further one. */
json_t *datasets_next(struct datasets *datasets, const char *after, struct error *err);

/* Errors: ERROR_NOT_FOUND, ERROR_CONFLICT, ERROR_IO. */
bool datasets_delete(struct datasets *datasets, const char *name, struct error *err);

/* ---- Uploading ---- */

struct dataset_upload;

/* Takes memory and touches no file, so that the HTTP thread may call it. Options are copied; with CORPUS_AUTO the name
 * and the text tell the format. Errors: ERROR_INVALID for a bad name, ERROR_CONFLICT for a dataset that is held. */
struct dataset_upload *dataset_upload_new(struct datasets *datasets, const char *name,
                                          const struct corpus_options *options, struct error *err);

/* The next piece. Errors: ERROR_INVALID for what is not UTF-8 (with line and byte offset) or damaged, ERROR_TOO_LARGE
 * for what unpacks to more than options.most_unpacked, ERROR_NO_SPACE, ERROR_IO. */
bool dataset_upload_write(struct dataset_upload *upload, const char *data, size_t size, struct error *err);

/* Describes and publishes what was written. Errors: those of corpus_summarise(); ERROR_CONFLICT if the old dataset of
 * the name is held by now; those of dataset_upload_write(). */
bool dataset_upload_finish(struct dataset_upload *upload, struct error *err);

/* After dataset_upload_finish(): whether there was a dataset of the name before. */
bool dataset_upload_replaced(const struct dataset_upload *upload);
const char *dataset_upload_name(const struct dataset_upload *upload);

/* Removes what was not published. NULL allowed. */
void dataset_upload_free(struct dataset_upload *upload);

#endif
