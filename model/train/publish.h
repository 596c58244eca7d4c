/* What a run leaves on the disk: the model directory at each best validation, and its snapshots.
 *
 * Saving waits for the disk, and an epoch of a tiny corpus takes a fraction of that. So a best model that comes within
 * three seconds of the last snapshot is held in memory, and published before the next snapshot: a snapshot never speaks
 * of a best model that is not on the disk. A run that is killed repeats the steps after its last snapshot, to the same
 * bits.
 */
#ifndef LSTMD_MODEL_TRAIN_PUBLISH_H
#define LSTMD_MODEL_TRAIN_PUBLISH_H

#include <stdbool.h>

#include "base/error.h"
#include "model/train/run.h"

/* Publishes a network as the run's model. exact: its validation loss was not estimated in lanes. Errors: those of
 * writing; an older model is intact then. */
bool training_publish(const struct training_run *run, const struct network *network, bool exact, struct error *err);

/* The current weights are the best so far (run->state says so): publishes them, or holds them where the last snapshot
 * is only a moment old. */
bool training_publish_best(struct training_run *run, struct error *err);

/* Publishes what is held, if anything is. */
bool training_publish_held(struct training_run *run, struct error *err);

/* Whether the last snapshot of this part is old enough for another one after a validation, or there is none. */
bool training_snapshot_is_due(const struct training_run *run);

/* Publishes what is held, then saves the run, then tells the caller. */
bool training_snapshot(struct training_run *run, struct error *err);

#endif
