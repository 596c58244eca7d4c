/* Shared by datasets.c and dataset_upload.c; no other file includes it. */
#ifndef LSTMD_SERVER_STORE_DATASETS_INTERNAL_H
#define LSTMD_SERVER_STORE_DATASETS_INTERNAL_H

#include "server/store/datasets.h"

#define DATASET_DATA        "data"
#define DATASET_DESCRIPTION "dataset.json"

/* Free it. NULL: out of memory. */
char *datasets_path(const struct datasets *datasets, const char *name, struct error *err);

/* ERROR_CONFLICT if the dataset is held, or is being changed. */
bool datasets_check_free(struct datasets *datasets, const char *name, struct error *err);

/* Makes an entry from a description (it takes over the reference). The entry is not in the list yet. */
struct dataset_entry;
struct dataset_entry *dataset_entry_new(const struct datasets *datasets, const char *name, json_t *description,
                                        struct error *err);
void dataset_entry_free(struct dataset_entry *entry); /* NULL allowed */

/* Reserves a name, new or not: nobody else can hold or change it. After each success call datasets_settle() once. */
bool datasets_reserve(struct datasets *datasets, const char *name, bool *existed, struct error *err);

/* Ends the reservation: the name gets this entry (taken over). NULL: the change failed, and the directory is read
 * again. */
void datasets_settle(struct datasets *datasets, const char *name, struct dataset_entry *entry);

#endif
