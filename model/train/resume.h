/* Takes up a run from its snapshot: whether it is the same run, and its numbers. */
#ifndef LSTMD_MODEL_TRAIN_RESUME_H
#define LSTMD_MODEL_TRAIN_RESUME_H

#include <stdbool.h>

#include "base/error.h"
#include "model/train/run.h"

/* ERROR_NOT_FOUND where `work` holds no snapshot. */
bool training_resume_is_possible(const char *work, struct error *err);

/* ERROR_INVALID where options, corpora or vocabulary are not those that the run began with; it names what. */
bool training_resume_check(const struct training_run *run, const struct snapshot *snapshot, struct error *err);

/* Restores the network and the learner of a run whose state is the snapshot's. ERROR_CORRUPT where the position is not
 * one of this corpus. */
bool training_resume_restore(struct training_run *run, const struct snapshot *snapshot, struct error *err);

#endif
