/* What datasets.c and dataset_upload.c share. Nobody else includes this. */
#ifndef LSTMD_SERVER_STORE_DATASETS_INTERNAL_H
#define LSTMD_SERVER_STORE_DATASETS_INTERNAL_H

#include "server/store/datasets.h"

#define DATASET_DATA        "data"
#define DATASET_DESCRIPTION "dataset.json"

/* Free it. NULL: out of memory. */
char *datasets_path(const struct datasets *datasets, const char *name, struct error *err);

/* ERROR_CONFLICT where the dataset is held, or being changed. */
bool datasets_check_free(struct datasets *datasets, const char *name, struct error *err);

/* A dataset from its description (a reference is taken over), not yet in the list. */
struct dataset_entry;
struct dataset_entry *dataset_entry_new(const struct datasets *datasets, const char *name, json_t *description,
                                        struct error *err);
void dataset_entry_free(struct dataset_entry *entry); /* NULL allowed */

/* Keeps everybody else from holding or changing a name, which may be new. After each success call datasets_settle()
 * once. */
bool datasets_reserve(struct datasets *datasets, const char *name, bool *existed, struct error *err);

/* Gives the name this entry, which is taken over. NULL: the change failed, and the directory is read again. */
void datasets_settle(struct datasets *datasets, const char *name, struct dataset_entry *entry);

#endif
