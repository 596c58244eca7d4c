/* What a training run reads: the corpus, its validation part, the vocabulary, and both parts as tokens. It reads once,
 * when it is opened; it has no part in the steps. */
#ifndef LSTMD_MODEL_TRAIN_TRAINING_DATA_H
#define LSTMD_MODEL_TRAIN_TRAINING_DATA_H

#include <jansson.h>
#include <stdbool.h>

#include "base/error.h"
#include "model/files/checkpoint.h"
#include "model/text/corpus.h"
#include "model/text/dataset.h"
#include "model/text/vocabulary.h"
#include "model/train/options.h"
#include "model/train/training_files.h"
#include "model/train/training_source.h"

#define TRAINING_HEADER 400 /* bytes */

struct training_data {
    struct training_files files; /* of the corpus; closed once they are tokens */
    struct corpus second;        /* validation_data; the same */
    struct dataset dataset;      /* what is trained on */
    struct dataset validation;   /* meaningful where has_validation */
    bool has_validation;
    bool unknown_part;       /* the vocabulary knew nothing of the held-out part, so the run trains on it, too */
    size_t skipped;          /* pieces of the validation text that the vocabulary lacks */
    size_t skipped_training; /* of the training text: where the vocabulary is another model's */
    struct vocabulary *vocabulary;
    char header[TRAINING_HEADER]; /* the first row of a table, where it looks like a header and is taken as text */
    char *name;                   /* of the corpus */
    json_t *description;
};

/* Loads everything. The vocabulary is built from the training part alone; or it is taken from `init` (NULL: none), and
 * its <eos> starts texts from then on. Nothing is held out of a corpus that is too small to be split, or whose held-out
 * part has nothing that the vocabulary knows. ERROR_INVALID where the vocabulary knows nothing of the whole corpus, or
 * of a validation file. Close with training_data_close(), also after a failure. */
bool training_data_open(struct training_data *data, const struct trainer_options *options,
                        const struct training_source *source, struct model *init, struct error *err);
void training_data_close(struct training_data *data);

/* {corpus: {name, bytes, sha256, files (where there are several), documents, characters, tokens}, validation: the same
 * or null, vocabulary: the digest of that of `init`}. config.json holds it, and a resumed run compares it to know that
 * it reads the same text. Borrowed. */
const json_t *training_data_describe(const struct training_data *data);

/* Whether two of these descriptions (`corpus` or `validation`) are of the same text. Names of files do not count. */
bool training_data_same(const json_t *a, const json_t *b);

#endif
