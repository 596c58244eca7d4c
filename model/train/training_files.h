/* The files of a run's corpus: loaded, each split into what is trained on and what is held out, and joined. */
#ifndef LSTMD_MODEL_TRAIN_TRAINING_FILES_H
#define LSTMD_MODEL_TRAIN_TRAINING_FILES_H

#include <jansson.h>
#include <stddef.h>

#include "base/error.h"
#include "model/text/corpus.h"
#include "model/train/training_source.h"

struct training_file {
    const char *name; /* borrowed */
    struct corpus corpus;
    struct corpus train, held_out; /* parts of it */
};

struct training_files {
    struct training_file *list;
    size_t count;
    const char *name; /* of all, for messages and descriptions; borrowed */
    /* All documents, file after file, and the parts. NULL: nothing is held out. */
    const struct corpus *whole, *train, *held_out;
    struct corpus joined, joined_train, joined_held_out; /* of several files */
};

/* split: each file that is large enough is split as the options say. Errors: those of corpus_load(). Close with
 * training_files_close(), also after a failure. */
bool training_files_open(struct training_files *files, const struct trainer_options *options,
                         const struct training_source *source, const char *name, bool split, struct error *err);
void training_files_close(struct training_files *files);

/* {name, bytes, sha256} of all bytes; where there are several files, also `files`, a list of the same of each. NULL
 * where the caller stopped it, or without memory. */
json_t *training_files_describe(const struct training_files *files, struct error *err);
/* The same of a single file. */
json_t *training_file_describe(const char *path, const struct corpus *file, struct error *err);

#endif
