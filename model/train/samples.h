/* Samples of the model after each epoch: one continuation per temperature, told to the caller. They read the run's
 * weights through a stepper of their own, so training does not notice them. */
#ifndef LSTMD_MODEL_TRAIN_SAMPLES_H
#define LSTMD_MODEL_TRAIN_SAMPLES_H

#include <stdbool.h>

#include "base/error.h"
#include "model/train/run.h"

/* Does nothing where the caller takes no samples. ERROR_CANCELLED where the run was stopped meanwhile: they are due
 * again then. */
bool training_samples(struct training_run *run, struct error *err);

#endif
