/* The trainer: a training from its options to a published model. Epochs over a dataset, validation, early stopping,
 * samples, snapshots and resuming. `lstmd train` and the server's jobs are this code with other callbacks. It never
 * logs, never reads a clock (the caller passes one in) and never touches the terminal.
 *
 * A run has a work directory, `<out>.train`, that holds its last snapshot (snapshot.h). The trainer publishes the model
 * directory `out` at each best validation, and once more at the end with the final figures of the run. Then it removes
 * the work directory. Where validations come faster than every three seconds, the best weights wait in memory for so
 * long, and the snapshot with them. A run that is killed then loses some seconds and nothing else: its snapshot is as
 * old as its model, and the same steps lead to the same best. A run that was interrupted or diverged leaves its work
 * directory. Resuming continues bit for bit (same options, same threads). A cosine or anything else that is bounded by
 * time follows the time, and is not repeatable.
 *
 * With options->average, validation, samples and the published model take the averaged weights (learner.h). Validation
 * and samples pack the weights into a stepper of their own, so they disturb neither the carried state nor any random
 * number of training. One running text that is long is validated in lanes (evaluate.h) while training goes on. At the
 * end the best model's loss is measured exactly where that costs less than about a minute. Without validation data the
 * training loss of each epoch stands in for it.
 */
#ifndef LSTMD_MODEL_TRAIN_TRAINER_H
#define LSTMD_MODEL_TRAIN_TRAINER_H

#include <jansson.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/arena.h"
#include "base/error.h"
#include "model/generate/evaluate.h"
#include "model/train/options.h"

struct trainer_progress {
    uint64_t epoch, epochs; /* the epoch it is in, or that has just ended, from 1: as in struct trainer_validation */
    uint64_t step, steps;   /* of the whole run; steps is an estimate where time bounds the run */
    double fraction;        /* of the whole run, 0 .. 1 */
    double seconds, eta_seconds;
    double loss; /* nats per token, mean since the last report */
    double nats_per_character, bits_per_character;
    double characters_per_second, tokens_per_second;
    double rate, gradient_norm;
};

struct trainer_validation {
    uint64_t epoch, step;                /* the epoch it is in, or that has just ended, from 1; finished steps */
    const struct evaluation *evaluation; /* of the training loss where there is no validation data */
    double train_nats_per_character;     /* of the last epoch that ended; 0 before that */
    bool held_out;                       /* there is validation data */
    bool best;
};

struct trainer_sample {
    uint64_t epoch; /* as in struct trainer_validation */
    double temperature;
    const char *prompt, *text; /* text continues the prompt; raw bytes where the model is of byte level */
};

enum trainer_end {
    TRAINER_DONE,          /* all epochs */
    TRAINER_STOPPED_EARLY, /* options.patience validations without improvement */
    TRAINER_TIME_OVER,     /* options.max_minutes */
    TRAINER_INTERRUPTED,   /* the caller stopped it */
    TRAINER_DIVERGED       /* the loss exploded or is no number */
};
const char *trainer_end_name(enum trainer_end end); /* "done", "stopped early", ... */

/* What the trainer asks and tells its caller, on the trainer's thread. All but now_ns are optional. Pointers that it
 * passes are valid during the call alone. */
struct trainer_callbacks {
    void *context;
    uint64_t (*now_ns)(void *context);             /* monotonic; required */
    void (*note)(void *context, const char *text); /* one line: batch shrunk, characters skipped, ... */
    void (*progress)(void *context, const struct trainer_progress *progress); /* several times a second at most */
    void (*validation)(void *context, const struct trainer_validation *validation);
    void (*sample)(void *context, const struct trainer_sample *sample);
    void (*snapshot)(void *context, uint64_t step); /* the run could go on from here after a crash */
    const atomic_bool *stop;                        /* NULL, or becomes true: snapshot and return TRAINER_INTERRUPTED */
    const json_t *provenance; /* NULL, or an object whose members config.json's "training" gets as well; borrowed */
    const char *corpus_name;  /* what config.json and messages call the corpus; NULL: by its file */
    bool keep_snapshot;       /* leave the work directory at the end: a caller that is not done with the run yet can
                               * resume it, and it ends the same way */
    size_t memory_limit;      /* bytes; a run that would need more is refused at the start; 0: not checked */
};

struct trainer_result {
    enum trainer_end end;
    bool saved;        /* INTERRUPTED, or failed on the way: there is a snapshot to go on from. There is none where the
                        * run had not begun to train */
    bool within_epoch; /* it ended before the epoch `epochs` + 1 did */
    bool has_best;     /* a model was published */
    struct evaluation best; /* of the published model (of its training loss where there is no validation data) */
    bool exact;             /* best was not estimated in lanes */
    uint64_t best_epoch, best_step, epochs, steps;
    double train_loss; /* nats per token, last epoch */
    double last_loss;  /* nats per token, last step: why it diverged */
    double seconds;    /* of training, resumed parts added up */
    size_t parameters; /* of the network. After a failure all fields hold what is known */
};

/* Trains on options->data into the model directory `out`. resume: continue from the work directory. Errors:
 * ERROR_CONFLICT where a work directory is left of an earlier run and resume is false, or where `out` holds something
 * that is no model; ERROR_NOT_FOUND where there is nothing to resume; ERROR_INVALID where options or corpora differ,
 * naming what; ERROR_TOO_LARGE beyond the memory limit; those of reading and writing. An error leaves an older model
 * directory intact. Divergence is not an error: `end` says so, and the best model stays. */
bool trainer_run(const struct trainer_options *options, const char *out, bool resume,
                 const struct trainer_callbacks *callbacks, struct trainer_result *result, struct error *err);

/* The options with which the run that is left in `<out>.train` began. Text is the arena's. For callers that let the
 * user change some of them before trainer_run() resumes. Errors: ERROR_NOT_FOUND, ERROR_CORRUPT. */
bool trainer_saved_options(const char *out, struct trainer_options *options, struct arena *arena, struct error *err);

#endif
