/* What the files of the trainer share: trainer.c (the loop), train/setup.c (opening and resuming),
 * train/report.c (validation, publishing, samples, progress). */
#ifndef LSTMD_MODEL_TRAIN_INTERNAL_H
#define LSTMD_MODEL_TRAIN_INTERNAL_H

#include "model/files/checkpoint.h"
#include "model/text/dataset.h"
#include "model/train/learner.h"
#include "model/train/snapshot.h"
#include "model/train/trainer.h"
#include "model/train/training_data.h"

/* The mean of what happened since the last progress report. */
struct report_window {
    uint64_t since_ns; /* moved on by whatever is not training */
    double nats;
    uint64_t tokens;
    double rate, gradient_norm; /* of the last step */
    double tokens_per_second;   /* smoothed over reports; 0: not known yet */
};

struct trainer {
    struct trainer_options options; /* validated */
    const struct trainer_callbacks *callbacks;
    char *out, *work;  /* directories */
    struct model init; /* what options.init_from names, while the run is opened */
    struct training_data data;
    struct network network;
    const struct kernels *kernels;
    struct learner *learner;
    struct network best; /* weights of the best validation, where `held`; opened when first held */
    bool held;           /* they are not published yet */
    struct streams streams;
    uint32_t *inputs, *targets; /* [window][batch] */
    struct arena arena;
    uint64_t steps_per_epoch;
    struct schedule_options schedule;
    struct run_state state;
    uint64_t started_ns;       /* when this part of the run began to train */
    double earlier_seconds;    /* of the parts before it */
    uint64_t snapshot_ns;      /* of the last snapshot, or when this part began */
    bool has_snapshot;         /* this part has left one */
    bool snapshot_wanted;      /* a validation is later than it */
    double validation_seconds; /* what the last validation took; 0: none yet */
    double samples_seconds;    /* what the last samples took; 0: none yet */
    double last_loss;
    struct report_window window;
};

/* trainer.c */

/* A loss that is not a number, or far above that of a uniform guess. */
bool trainer_loss_exploded(const struct trainer *trainer, double loss);

/* train/setup.c */

/* Opens everything up to the first step, a snapshot restored where `resume`. Close with trainer_close(), also after a
 * failure. */
bool trainer_open(struct trainer *trainer, const struct trainer_options *options, const char *out, bool resume,
                  const struct trainer_callbacks *callbacks, struct error *err);
void trainer_close(struct trainer *trainer);
void trainer_note(const struct trainer *trainer, const char *format, ...) __attribute__((format(printf, 2, 3)));
bool trainer_stopped(const struct trainer *trainer);
double trainer_seconds(const struct trainer *trainer); /* of training, earlier parts included */
/* Publishes what is held, then saves the run: a snapshot never speaks of a best model that is not on the disk. */
bool trainer_snapshot(struct trainer *trainer, struct error *err);
/* A validation leaves the model and a snapshot on the disk at once, unless the last ones are only a moment old. */
bool trainer_may_save(const struct trainer *trainer);

/* train/report.c */

/* What is validated, published and sampled from: the averaged weights, or those that are trained. */
const struct network *trainer_model(const struct trainer *trainer);

/* The epoch that the run is in, or that has just ended, from 1. */
uint64_t trainer_epoch(const struct trainer *trainer);

/* Of the whole run where no time bounds it. */
uint64_t trainer_total_steps(const struct trainer *trainer);
/* How much of the run is done, 0 .. 1: by steps or by time, whichever is further. */
double trainer_fraction(const struct trainer *trainer);
/* What must be left of the time limit for the last validation and samples. */
double trainer_reserve_seconds(const struct trainer *trainer);
/* Adds a step to the report window; reports when it is time. */
void trainer_report_step(struct trainer *trainer, double loss, size_t tokens, double rate, double gradient_norm);

/* Leaves the time from begun_ns to now out of the report window, which counts training alone. */
void trainer_report_pause(struct trainer *trainer, uint64_t begun_ns);

/* Validates, publishes the best, tells. *sound is false, and nothing published, where the loss has exploded.
 * ERROR_CANCELLED where the run was stopped meanwhile: nothing has changed then. */
bool trainer_validate(struct trainer *trainer, bool *sound, struct error *err);
bool trainer_publish_held(struct trainer *trainer, struct error *err);
bool trainer_samples(struct trainer *trainer, struct error *err);
/* The end of a run: measures the best model exactly where that is affordable and publishes it with final figures. */
bool trainer_finish(struct trainer *trainer, bool *exact, struct error *err);

#endif
