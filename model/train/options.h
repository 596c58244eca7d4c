/* The settings of a training run: one plain struct and one table that says everything about its fields.
 *
 * The table drives the defaults, the bounds, config.json's "training.options" (the recipe), the snapshot of a run and
 * the command line's flags and YAML keys (cli/train_options.c adds its own rows), so a key means the same everywhere.
 * Integers are 64 bits wide and choices are ints, whatever the module they end up in uses; the functions below build
 * those modules' structs. Text is borrowed.
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
    int preset;                  /* enum trainer_preset_kind: what the other options' defaults were */
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
    uint64_t seed;
    /* validation */
    uint64_t validate_every; /* steps; 0: each epoch */
    uint64_t patience;       /* validations without improvement before stopping; 0: never stop early */
    /* samples */
    uint64_t sample_length; /* tokens; 0: none */
    /* snapshots */
    double snapshot_seconds; /* 0: only at validations and when interrupted */
};

enum trainer_option_kind { TRAINER_BOOL, TRAINER_INT, TRAINER_REAL, TRAINER_TEXT, TRAINER_CHOICE };

enum trainer_option_flags {
    TRAINER_RECIPE = 1,    /* decides the weights: kept in config.json, must not change when resuming */
    TRAINER_ADJUSTABLE = 2 /* may be changed when resuming (the rest of the run follows the new value) */
};

struct trainer_option {
    const char *key;
    enum trainer_option_kind kind;
    size_t offset;              /* of a bool, uint64_t, double, const char * or int in struct trainer_options */
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

/* The same defaults with the values of a preset over them. */
void trainer_options_preset(struct trainer_options *options, enum trainer_preset_kind kind);

/* Checks every bound and what options demand of each other; the message names the key. Byte level and byte mode imply
 * each other, so this may set `bytes` or `level`. */
bool trainer_options_validate(struct trainer_options *options, struct error *err);

/* The options whose flags have a bit of `flags`, by key; TEXT that is NULL is left out. Caller owns the result. */
json_t *trainer_options_to_json(const struct trainer_options *options, unsigned flags, struct error *err);

/* Sets the options that the object names, checked as the table says; an unknown key is an error. Text points into
 * `json`, which must outlive the options. `place` begins messages. */
bool trainer_options_from_json(struct trainer_options *options, const json_t *json, const char *place,
                               struct error *err);

/* Whether a run with `saved` options can go on with `wanted` ones: ERROR_INVALID names the first that differs and must
 * not. */
bool trainer_options_may_resume(const struct trainer_options *saved, const struct trainer_options *wanted,
                                struct error *err);

/* Makes batch and window those that a corpus of so many targets is trained with. What is 0 follows its size: 64 streams
 * and windows of 64 are right for a megabyte, but leave a small text with a few steps per epoch, which learn next to
 * nothing. An epoch is to have 240 steps, by windows of 32 first, then by fewer streams: 64, 32, ... 1. What is set
 * stays as it is, but for streams that would be shorter than a window: there are fewer then. */
void trainer_options_fit(struct trainer_options *options, uint64_t targets);

/* Whether what a run takes beside its corpus fits into `limit` bytes (0: any). ERROR_TOO_LARGE says what it needs; the
 * message begins with the key that takes most of it. Checks sizes alone, so that it may be asked before there is a
 * vocabulary. threads: not 0; batch and window: as they fit the corpus, or 0 for the largest. */
bool trainer_options_check_memory(const struct trainer_options *options, uint32_t vocabulary_size, size_t limit,
                                  struct error *err);

/* Gives the options of the network and of the vocabulary the values of a model that a run goes on from. One that was
 * set, to something else than its default (that of the preset, where there is one), and differs is ERROR_INVALID by its
 * key; so are labels that the model would not know, and a model that lstmd does not train.
 */
struct model;
bool trainer_options_adopt(struct trainer_options *options, const struct model *model, struct error *err);

struct corpus_options trainer_corpus_options(const struct trainer_options *options);
struct vocabulary_options trainer_vocabulary_options(const struct trainer_options *options);
struct architecture trainer_architecture(const struct trainer_options *options, uint32_t vocabulary_size);
struct optimizer_options trainer_optimizer_options(const struct trainer_options *options);
struct schedule_options trainer_schedule_options(const struct trainer_options *options);

#endif
