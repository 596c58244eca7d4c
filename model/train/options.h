/* The settings of a training run: one plain struct, and one table that says everything about its fields.
 *
 * The table drives the defaults, the bounds, config.json's "training.options" (the recipe), the snapshot of a run, and
 * the command line's flags and YAML keys (cli/train_options.c adds rows of its own). So a key means the same
 * everywhere. Integers are 64 bits wide and choices are ints, whatever the module takes that they are for; the
 * functions below make the structs of those modules. Text is borrowed.
 */
#ifndef LSTMD_MODEL_TRAIN_OPTIONS_H
#define LSTMD_MODEL_TRAIN_OPTIONS_H

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/error.h"
#include "model/network/network.h"
#include "model/text/corpus.h"
#include "model/text/vocabulary.h"
#include "model/train/optimizer.h"
#include "model/train/presets.h"

#define TRAINER_MAX_FILES 64 /* of a corpus */

struct trainer_options {
    /* data */
    const char *data;                             /* path of the corpus, or of its first file */
    const char *more_data[TRAINER_MAX_FILES - 1]; /* of its other files, in order; not in the table */
    size_t more_count;
    const char *validation_data; /* path; NULL: a part of the corpus */
    const char *init_from;       /* model directory to go on from; NULL: begin anew */
    int preset;                  /* enum trainer_preset_kind: where the defaults of the other options come from */
    double validation;           /* 0 .. 0.5: that part; ignored where validation_data is given */
    int format;                  /* enum corpus_format */
    const char *columns, *label_column, *field;
    int csv_header; /* 0: decided by the columns, 1: yes, 2: no */
    bool bytes;
    /* vocabulary */
    int level; /* enum token_level */
    bool lower;
    const char *filters;
    uint64_t min_count, max_vocabulary;
    bool unknown;
    /* network */
    int cell; /* enum cell_kind */
    uint64_t layers, hidden, embedding;
    bool tie_weights;
    double dropout, weight_drop;
    /* optimisation */
    int optimizer; /* enum optimizer_kind */
    double rate, momentum, rms_decay, beta1, beta2, epsilon, weight_decay, clip;
    int schedule; /* enum schedule_kind */
    uint64_t warmup;
    double average; /* decay; 0: the weights themselves */
    double decay_factor;
    uint64_t decay_every, plateau_patience;
    double minimum_rate;    /* fraction of the base rate */
    uint64_t batch, window; /* streams; steps of truncated back-propagation; 0: by the corpus' size */
    uint64_t epochs;        /* at most */
    double max_minutes;     /* 0: no limit */
    uint64_t threads;       /* 0: left to the caller of the trainer, who counts cores; the trainer takes it as 1 */
    int products;           /* enum products (blas.h): who multiplies; a run that began has made auto a choice */
    bool other_products;    /* a resumed run may go on with other products than it began with */
    uint64_t seed;
    /* validation */
    uint64_t validate_every; /* steps; 0: each epoch */
    uint64_t patience;       /* validations without improvement before stopping; 0: never stop early */
    /* samples */
    uint64_t sample_length; /* tokens; 0: none */
    /* snapshots */
    double snapshot_seconds; /* 0: only at validations and when interrupted */
};

/* The type of an option, and of its field. */
enum trainer_option_kind {
    TRAINER_BOOL,  /* bool */
    TRAINER_INT,   /* uint64_t */
    TRAINER_REAL,  /* double */
    TRAINER_TEXT,  /* const char *; NULL: not set */
    TRAINER_CHOICE /* int: the index of one of the row's choices */
};

enum trainer_option_flags {
    TRAINER_RECIPE = 1,    /* decides the weights: kept in config.json */
    TRAINER_ADJUSTABLE = 2 /* may change when resuming: the rest of the run follows the new value; others must not */
};

struct trainer_option {
    const char *key;
    enum trainer_option_kind kind;
    size_t offset;              /* of the field in struct trainer_options */
    const char *fallback;       /* the default, as text */
    double minimum, maximum;    /* INT, REAL: inclusive; TEXT: length in bytes */
    const char *const *choices; /* CHOICE: NULL-terminated names, in the order of the enumeration */
    const char *unit;
    unsigned flags; /* enum trainer_option_flags */
    const char *help;
};

extern const struct trainer_option trainer_option_table[];
extern const size_t trainer_option_count;

/* Sensible defaults: LSTM 1x128, one-hot, Adam 2e-3, batch and window by the corpus, 10 epochs, clip 5, 10 %
 * validation. */
void trainer_options_default(struct trainer_options *options);

/* The same defaults, with the values of a preset in place of some. */
void trainer_options_preset(struct trainer_options *options, enum trainer_preset_kind kind);

/* Checks every bound, and what options demand of one another. ERROR_INVALID names the key. Byte level and byte mode
 * imply each other, so this may set `bytes` or `level`. */
bool trainer_options_validate(struct trainer_options *options, struct error *err);

/* The options whose flags have a bit of `flags`, by key, without text that is NULL. The caller owns the result. */
json_t *trainer_options_to_json(const struct trainer_options *options, unsigned flags, struct error *err);

/* Sets the options that the object names, and checks each by the table. An unknown key is an error. Text points into
 * `json`, which must outlive the options. Messages begin with `place`. */
bool trainer_options_from_json(struct trainer_options *options, const json_t *json, const char *place,
                               struct error *err);

/* Whether a run with `saved` options can go on with `wanted` ones. ERROR_INVALID names the first option that differs
 * and must not. */
bool trainer_options_may_resume(const struct trainer_options *saved, const struct trainer_options *wanted,
                                struct error *err);

/* Sets batch and window for a corpus of so many targets. A value of 0 follows the size of the corpus. 64 streams and
 * windows of 64 are right for a megabyte. A small text would have few steps per epoch with them, and learn next to
 * nothing. So an epoch gets at least 240 steps: first by windows of 32, then by fewer streams (64, 32, ... 1). A value
 * that the user set stays, unless a stream would be shorter than a window: then there are fewer streams. */
void trainer_options_fit(struct trainer_options *options, uint64_t targets);

/* Whether the memory of a run, without its corpus, fits into `limit` bytes (0: any). ERROR_TOO_LARGE says what the run
 * needs, and begins with the key that takes most of it. It looks at sizes alone, so it works before there is a
 * vocabulary. threads: not 0; batch and window: those that fit the corpus, or 0 for the largest. */
bool trainer_options_check_memory(const struct trainer_options *options, uint32_t vocabulary_size, size_t limit,
                                  struct error *err);

/* Gives the options of the network and of the vocabulary the values of a model that a run goes on from. ERROR_INVALID
 * by its key where an option differs from the model and is not at its default (that of the preset, where there is one);
 * also for labels that the model does not know, and for a model that lstmd does not train. */
struct model;
bool trainer_options_adopt(struct trainer_options *options, const struct model *model, struct error *err);

struct corpus_options trainer_corpus_options(const struct trainer_options *options);
struct vocabulary_options trainer_vocabulary_options(const struct trainer_options *options);
struct architecture trainer_architecture(const struct trainer_options *options, uint32_t vocabulary_size);
struct optimizer_options trainer_optimizer_options(const struct trainer_options *options);
struct schedule_options trainer_schedule_options(const struct trainer_options *options);

#endif
