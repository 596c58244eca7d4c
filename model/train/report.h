/* The progress that a run tells its caller several times a second. It observes: it reads the run and changes nothing in
 * it. The figures are means since the last report, of training alone. */
#ifndef LSTMD_MODEL_TRAIN_REPORT_H
#define LSTMD_MODEL_TRAIN_REPORT_H

#include <stddef.h>
#include <stdint.h>

#include "model/train/run.h"

/* One finished step. */
struct training_step {
    double loss; /* nats per token, mean over the window */
    size_t tokens;
    double rate;
    double gradient_norm; /* before clipping */
};

struct training_report {
    uint64_t since_ns; /* when the last report was; moved on by pauses */
    double nats;       /* since then */
    uint64_t tokens;
    double rate, gradient_norm; /* of the last step */
    double tokens_per_second;   /* smoothed over reports; 0: not known yet */
};

/* Starts where the run starts. */
void training_report_begin(struct training_report *report, const struct training_run *run);

/* Adds a step that the run has just done, and tells the caller when it is time. */
void training_report_step(struct training_report *report, const struct training_run *run,
                          const struct training_step *step);

/* Leaves the time from begun_ns to now out: the run did not train. */
void training_report_pause(struct training_report *report, const struct training_run *run, uint64_t begun_ns);

#endif
