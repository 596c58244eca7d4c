/* Validation: measures the run's model and keeps it where it is the best so far. Where there is no validation data, the
 * training loss of the epoch stands in for its loss. Steps go through a stepper of its own, so training does not notice
 * it. */
#ifndef LSTMD_MODEL_TRAIN_VALIDATE_H
#define LSTMD_MODEL_TRAIN_VALIDATE_H

#include <stdbool.h>

#include "base/error.h"
#include "model/train/run.h"

/* Measures, publishes the best (publish.h), tells the schedule and the caller. *sound is false, and nothing published,
 * where the loss has exploded. ERROR_CANCELLED where the run was stopped meanwhile: nothing has changed then. */
bool training_validate(struct training_run *run, bool *sound, struct error *err);

/* At the end of a run: *exact tells whether the loss of its best model is exact. An estimated one is measured anew with
 * the weights of `network`, where that costs less than about a minute and no time bounds the run. */
bool training_validate_exactly(struct training_run *run, const struct network *network, bool *exact, struct error *err);

#endif
