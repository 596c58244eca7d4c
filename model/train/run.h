/* One run of training: what it reads, what it trains and where it stands. It is data that the files of this room share,
 * and the questions that more than one of them asks; it decides nothing and writes nothing.
 *
 * setup.h builds a run. trainer.c drives it: it calls the learner for each step, validate.h, samples.h and publish.h
 * between steps, and report.h after each step. None of these calls trainer.c, and run.c calls none of them.
 * A run belongs to the thread that calls trainer_run().
 */
#ifndef LSTMD_MODEL_TRAIN_RUN_H
#define LSTMD_MODEL_TRAIN_RUN_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/arena.h"
#include "model/text/dataset.h"
#include "model/train/learner.h"
#include "model/train/snapshot.h"
#include "model/train/trainer.h"
#include "model/train/training_data.h"

#define TRAINING_SAMPLES 4 /* after each epoch, each at its own temperature */

struct training_run {
    struct trainer_options options;            /* validated */
    const struct trainer_callbacks *callbacks; /* borrowed */
    char *out, *work;                          /* the model directory and `<out>.train` */
    struct arena arena;

    /* what it reads */
    struct training_data data;
    struct streams streams;
    uint32_t *inputs, *targets; /* [window][batch] */
    uint64_t steps_per_epoch;

    /* what it trains */
    const struct kernels *kernels;
    struct kernels with_library; /* what `kernels` is where OpenBLAS multiplies */
    struct network network;      /* the learner's master copy */
    struct learner *learner;     /* borrows the network */
    struct schedule_options schedule;

    /* where it stands */
    struct run_state state;    /* what a snapshot keeps */
    double last_loss;          /* nats per token of the last step, or of a validation that exploded */
    uint64_t started_ns;       /* when this part of the run began to train */
    double earlier_seconds;    /* of training, in the parts before it */
    double validation_seconds; /* what the last validation took; 0: none yet */
    double samples_seconds;    /* what the last samples took; 0: none yet */

    /* what is on the disk (publish.h) */
    struct network best;  /* weights of the best validation, where `held`; opened when first held */
    bool held;            /* these weights are not published yet */
    uint64_t snapshot_ns; /* of the last snapshot, or when this part began */
    bool has_snapshot;    /* this part has left one */
    bool snapshot_wanted; /* a validation is later than the last snapshot */
};

/* The caller's clock, in nanoseconds. */
uint64_t training_run_now(const struct training_run *run);

/* Seconds of training, earlier parts included. */
double training_run_seconds(const struct training_run *run);

/* Whether the caller has asked the run to stop. */
bool training_run_stopped(const struct training_run *run);

/* Tells the caller one line. */
void training_run_note(const struct training_run *run, const char *format, ...) __attribute__((format(printf, 2, 3)));

/* The network that is validated, published and sampled from: the averaged weights, or those that are trained. */
const struct network *training_run_model(const struct training_run *run);

/* The epoch that the run is in, or that has just ended, from 1; 0 before the first step. */
uint64_t training_run_epoch(const struct training_run *run);

/* Who multiplies: "own", or "openblas 0.3.21 Haswell". Static. */
const char *training_run_products(const struct training_run *run);

/* Steps of the whole run where no time bounds it; UINT64_MAX where they overflow. */
uint64_t training_run_steps(const struct training_run *run);

/* How much of the run is done, 0 .. 1: by steps or by time, whichever is further. */
double training_run_fraction(const struct training_run *run);

/* Seconds that the next validation is expected to take; 0: there is no validation data, or nothing is known yet. */
double training_run_validation_seconds(const struct training_run *run);

/* Seconds of the time limit that are kept for the last validation and samples. */
double training_run_reserve_seconds(const struct training_run *run);

/* Of the training text. */
double training_run_characters_per_token(const struct training_run *run);

/* Whether validation estimates the loss in lanes (evaluate.h): one long running text. */
bool training_run_uses_lanes(const struct training_run *run);

/* Whether a loss, in nats per token, is not a number, or far above that of a uniform guess. */
bool training_run_has_exploded(const struct training_run *run, double loss);

#endif
