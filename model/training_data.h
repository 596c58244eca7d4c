/* What a training run reads: the corpus, its validation part, the vocabulary and both as tokens. */
#ifndef LSTMD_MODEL_TRAINING_DATA_H
#define LSTMD_MODEL_TRAINING_DATA_H

#include <jansson.h>
#include <stdatomic.h>
#include <stdbool.h>

#include "base/error.h"
#include "model/checkpoint.h"
#include "model/corpus.h"
#include "model/dataset.h"
#include "model/trainer_options.h"
#include "model/vocabulary.h"

struct training_data {
    struct corpus corpus, second;  /* the files: data, validation_data; closed once they are tokens */
    struct corpus train, held_out; /* parts of `corpus` where it is split; the same */
    struct dataset dataset;        /* what is trained on */
    struct dataset validation;     /* meaningful where has_validation */
    bool has_validation;
    size_t skipped;          /* pieces of the validation text that the vocabulary lacks */
    size_t skipped_training; /* of the training text: where the vocabulary is another model's */
    struct vocabulary *vocabulary;
    const char *name; /* of the corpus; borrowed */
    json_t *description;
};

/* Besides what the options say. */
struct training_source {
    const char *name;        /* of the corpus, in messages and descriptions; NULL: its path is */
    const char *directory;   /* for what is too large for memory (base/scratch.h) */
    const atomic_bool *stop; /* NULL, or ERROR_CANCELLED soon after it becomes true: gigabytes take a while */
};

/* Loads everything. The vocabulary is built from the training part alone, or is that of `init` (NULL: none), which is
 * taken from it, and whose <eos> starts texts from then on. A corpus too small to be split is trained on as a whole.
 * Close with training_data_close(), also after a failure. */
bool training_data_open(struct training_data *data, const struct trainer_options *options,
                        const struct training_source *source, struct model *init, struct error *err);
void training_data_close(struct training_data *data);

/* {corpus: {name, bytes, sha256, documents, characters, tokens}, validation: the same or null}: for config.json, and
 * to tell whether a resumed run reads the same text. Borrowed. */
const json_t *training_data_describe(const struct training_data *data);

#endif
