/* Shared by the tests of server/store: a store in its own directory, and its content as text. */
#ifndef LSTMD_TESTS_UNIT_STORE_STORE_SUPPORT_H
#define LSTMD_TESTS_UNIT_STORE_STORE_SUPPORT_H

#include "server/store/store.h"

struct store_rig {
    char *directory;
    const char *path; /* of the database */
    struct store *store;
    json_t *request; /* of the jobs that store_rig_add() adds */
};

void store_rig_open(struct store_rig *rig);
void store_rig_reopen(struct store_rig *rig);
void store_rig_close(struct store_rig *rig);
int64_t store_rig_add(struct store_rig *rig); /* a job; its id */

/* Callbacks that append to a text: "sequence type data\n" to 2000 bytes, "step:train/validation " to 500, "id " to
 * 100. */
bool store_note_event(void *text, int64_t sequence, const char *type, const char *data);
bool store_note_metric(void *text, const struct metric *metric);
bool store_note_job(void *text, const struct job *job);

/* These rows are in the store, as such a text. */
void store_assert_events(struct store_rig *rig, int64_t id, int64_t after, const char *expected);
void store_assert_metrics(struct store_rig *rig, int64_t id, const char *expected);
void store_assert_list(struct store_rig *rig, enum job_state state, int64_t before, size_t limit, const char *expected);

#endif
