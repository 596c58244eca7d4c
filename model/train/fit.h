/* Settings that follow from others: those of the learner. trainer_options_fit() and trainer_options_check_memory()
 * (options.h) are in fit.c, too. */
#ifndef LSTMD_MODEL_TRAIN_FIT_H
#define LSTMD_MODEL_TRAIN_FIT_H

#include "model/train/learner.h"
#include "model/train/options.h"

/* Batch and window of a large text, where they are left to the corpus. */
#define FIT_BATCH 64
#define FIT_BPTT  64

/* Without what comes from elsewhere: the reset token is TOKEN_NONE, the kernels are the best. */
struct learner_options training_learner_options(const struct trainer_options *options);

#endif
