/* Builds a run: where it writes, what it reads, the network and its learner, and a snapshot that it goes on from. */
#ifndef LSTMD_MODEL_TRAIN_SETUP_H
#define LSTMD_MODEL_TRAIN_SETUP_H

#include <stdbool.h>

#include "base/error.h"
#include "model/train/run.h"

/* Everything up to the first step, into an empty run. resume: from the snapshot in the work directory. callbacks:
 * borrowed. Errors: those of trainer_run(), or ERROR_CANCELLED where the caller stopped it. Close with
 * training_run_close(), also after a failure. */
bool training_run_open(struct training_run *run, const struct trainer_options *options, const char *out, bool resume,
                       const struct trainer_callbacks *callbacks, struct error *err);
void training_run_close(struct training_run *run);

#endif
