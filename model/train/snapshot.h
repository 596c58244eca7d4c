/* Snapshots: all that a run needs to go on bit for bit, in its work directory.
 *
 * snapshot.json holds the options, the identity of the corpora and the run's counters. snapshot.safetensors holds the
 * weights, the optimizer's moments, the carried hidden state, and the averaged weights where there are any. Both are in
 * one directory, published atomically (base/file.h), so they always belong together. The best weights are not here: the
 * published model directory holds them.
 *
 * Life cycle: snapshot_save() at any time between two steps; snapshot_open(), snapshot_restore(), snapshot_close() to
 * go on; snapshot_remove() when the run has ended.
 */
#ifndef LSTMD_MODEL_TRAIN_SNAPSHOT_H
#define LSTMD_MODEL_TRAIN_SNAPSHOT_H

#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>

#include "base/error.h"
#include "model/generate/evaluate.h"
#include "model/network/network.h"
#include "model/train/learner.h"
#include "model/train/optimizer.h"
#include "model/train/options.h"

/* Where a run stands. All fields are numbers, and the file is a list of them. */
struct run_state {
    uint64_t epoch;    /* finished epochs: the index of the one under way */
    uint64_t position; /* of the next window in that epoch's streams */
    uint64_t step;     /* optimisation steps done */
    double seconds;    /* of training until the snapshot */
    /* what is due before the next step */
    bool validation_due, samples_due;
    /* training loss of the epoch under way, and of the last one that ended */
    double epoch_nats;
    uint64_t epoch_tokens;
    double train_loss; /* nats per token */
    struct schedule_state schedule;
    /* best validation so far */
    bool has_best;
    struct evaluation best;
    uint64_t best_epoch, best_step;
    uint64_t waited;         /* validations since then */
    uint64_t validated_step; /* step of the last validation */
    uint64_t high_steps;     /* steps in a row whose loss was far too high */
};

void run_state_init(struct run_state *state);

struct snapshot {
    json_t *json; /* all of snapshot.json; text of the options points into it */
    char *directory;
    struct trainer_options options;
    struct run_state state;
    uint64_t learner_steps;
};

/* What a snapshot is made of; all borrowed. */
struct snapshot_content {
    const struct trainer_options *options;
    const json_t *identity; /* the corpora, from training_data_describe() */
    const char *products;   /* who multiplied (run.h) */
    const struct run_state *state;
    const struct network *network;
    struct learner *learner;
};

/* Errors leave an older snapshot intact. */
bool snapshot_save(const char *directory, const struct snapshot_content *content, struct error *err);

/* Reads snapshot.json. Close with snapshot_close(), also after a failure. Errors: ERROR_NOT_FOUND where there is none;
 * ERROR_CORRUPT. */
bool snapshot_open(struct snapshot *snapshot, const char *directory, struct error *err);
const json_t *snapshot_identity(const struct snapshot *snapshot);
/* Who multiplied: "own", as in all runs that do not say, or the library. */
const char *snapshot_products(const struct snapshot *snapshot);
/* Reads the arrays into a network and a learner of the same architecture and optimizer. */
bool snapshot_restore(const struct snapshot *snapshot, struct network *network, struct learner *learner,
                      struct error *err);
void snapshot_close(struct snapshot *snapshot);

bool snapshot_exists(const char *directory);

/* Removes the two files and the directory. Best effort: a directory that holds other files stays. */
void snapshot_remove(const char *directory);

#endif
