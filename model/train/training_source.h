/* Where the text of a training comes from, and how large it is. */
#ifndef LSTMD_MODEL_TRAIN_TRAINING_SOURCE_H
#define LSTMD_MODEL_TRAIN_TRAINING_SOURCE_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/error.h"
#include "model/train/options.h"

/* What the options do not say. */
struct training_source {
    const char *name; /* of the corpus, in messages and descriptions; NULL: its path is */
    const char *text; /* the corpus itself, instead of options->data; borrowed. NULL: there is a file */
    size_t text_size;
    const char *directory;   /* for what is too large for memory (base/scratch.h) */
    const atomic_bool *stop; /* NULL, or ERROR_CANCELLED soon after it becomes true: gigabytes take a while */
};

struct training_size {
    uint32_t vocabulary; /* tokens */
    uint64_t targets;    /* of the part that is trained on */
};

struct model;

/* Reads a text as a training does, tells its size and forgets it. `init` (NULL: none) gives its vocabulary away.
 * Errors: those that the training would have before its first step. */
bool training_source_measure(const struct trainer_options *options, const struct training_source *source,
                             struct model *init, struct training_size *size, struct error *err);

#endif
