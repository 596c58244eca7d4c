/* The trainer: epochs over a dataset, validation, early stopping, samples, snapshots and resuming. `lstmd train` and
 * the server's jobs are this code with other callbacks. It never logs, never reads a clock (the caller passes one in)
 * and never touches the terminal.
 *
 * A run lives in a work directory (`<out>.train` for the command line): snapshot.safetensors holds weights, best
 * weights, moments and carried state, snapshot.json everything else (options, step, epoch, position, schedule, best
 * loss, corpus hash); both are one atomically published directory. The model directory is published at each best
 * validation. Resuming from a snapshot continues bit for bit (same threads).
 */
#ifndef LSTMD_MODEL_TRAINER_H
#define LSTMD_MODEL_TRAINER_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/error.h"
#include "model/corpus.h"
#include "model/evaluate.h"
#include "model/network.h"
#include "model/optimizer.h"
#include "model/vocabulary.h"

struct trainer_options {
    /* data */
    struct corpus_options corpus;
    struct vocabulary_options vocabulary;
    double validation_fraction; /* 0 .. 0.5; ignored where validation data is given */
    /* network (vocabulary_size is filled in by the trainer) */
    struct architecture architecture;
    double dropout;
    /* optimisation */
    struct optimizer_options optimizer;
    struct schedule_options schedule;
    size_t batch, window;
    uint64_t epochs;    /* at most */
    double max_minutes; /* 0: no limit; the cosine then ends with the time */
    size_t threads;     /* 0: all cores */
    uint64_t seed;
    /* validation */
    uint64_t validate_every; /* steps; 0: each epoch */
    uint64_t patience;       /* validations without improvement before stopping; 0: never stop early */
    /* samples */
    size_t sample_length; /* 0: none */
    /* snapshots */
    double snapshot_seconds; /* 0: only at validations */
};

/* Sensible defaults: LSTM 1x128, one-hot, Adam 2e-3, batch 64, window 64, 10 epochs, clip 5, 10 % validation. */
void trainer_options_default(struct trainer_options *options);

struct trainer_progress {
    uint64_t epoch, epochs; /* epoch counts from 1 */
    uint64_t step, steps;   /* of the whole run; steps is an estimate where time bounds the run */
    double fraction;        /* of the whole run, 0 .. 1 */
    double seconds, eta_seconds;
    double loss; /* nats per token, mean since the last report */
    double nats_per_character, bits_per_character;
    double characters_per_second, tokens_per_second;
    double rate, gradient_norm;
};

enum trainer_end { TRAINER_DONE, TRAINER_STOPPED_EARLY, TRAINER_TIME_OVER, TRAINER_INTERRUPTED, TRAINER_DIVERGED };

/* All callbacks are optional and run on the trainer's thread. Pointers are valid during the call alone. */
struct trainer_callbacks {
    void *context;
    uint64_t (*now_ns)(void *context);             /* monotonic; required */
    void (*note)(void *context, const char *text); /* one line worth telling: batch shrunk, characters skipped, ... */
    void (*progress)(void *context, const struct trainer_progress *progress); /* several times a second at most */
    void (*validation)(void *context, uint64_t epoch, uint64_t step, const struct evaluation *evaluation, bool best);
    void (*sample)(void *context, uint64_t epoch, double temperature, const char *text);
    const atomic_bool *stop; /* becomes true: snapshot and return TRAINER_INTERRUPTED */
};

struct trainer_result {
    enum trainer_end end;
    struct evaluation best; /* of the published model (train loss in place of it where there is no validation data) */
    uint64_t best_epoch, best_step, epochs, steps;
    double train_loss; /* nats per token, last epoch */
    double seconds;    /* of training, resumed parts added up */
    size_t parameters;
};

/* Trains. data_path: corpus; validation_path: NULL for a split of it; out: model directory; resume: continue from
 * `<out>.train` (ERROR_NOT_FOUND where there is none, ERROR_INVALID where options or corpus differ, naming what).
 * Errors leave an older model directory intact. Divergence is not an error: end says so and the best model stays. */
bool trainer_run(const struct trainer_options *options, const char *data_path, const char *validation_path,
                 const char *out, bool resume, const struct trainer_callbacks *callbacks, struct trainer_result *result,
                 struct error *err);

#endif
