/* Optimizers, gradient clipping and learning-rate schedules, as settings and formulas. The kernels compute the updates.
 *
 * g is the gradient after clipping by global norm (Pascanu et al. 2013): g * min(1, clip / |g|).
 *   sgd:     v = momentum * v + g; w -= rate * v                                        (PyTorch's form, no dampening)
 *   rmsprop: s = decay * s + (1 - decay) * g^2; w -= rate * g / (sqrt(s) + epsilon)     (Tieleman and Hinton 2012)
 *   adam:    m, s moments with bias correction; w -= rate * m^ / (sqrt(s^) + epsilon)   (Kingma and Ba 2015)
 *   adamw:   adam, and w -= rate * weight_decay * w                                     (Loshchilov and Hutter 2019)
 * Weight decay acts on matrices, not on biases.
 * Schedules give the rate as a function of the step alone (plateau: and of the validation losses so far). So a resumed
 * run needs no more than the numbers in struct schedule_state. A change of the rate never touches the moments.
 */
#ifndef LSTMD_MODEL_TRAIN_OPTIMIZER_H
#define LSTMD_MODEL_TRAIN_OPTIMIZER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/error.h"

/* The formulas above, by name. */
enum optimizer_kind {
    OPTIMIZER_RMSPROP, /* 1 moment */
    OPTIMIZER_ADAM,    /* 2 moments */
    OPTIMIZER_ADAMW,   /* 2 moments */
    OPTIMIZER_SGD      /* 1 moment */
};

enum schedule_kind {
    SCHEDULE_CONSTANT, /* the base rate */
    SCHEDULE_STEP,     /* multiplied by a factor after every few epochs */
    SCHEDULE_PLATEAU,  /* multiplied by a factor where validations no longer improve */
    SCHEDULE_COSINE    /* falls along half a cosine over the whole run */
};

struct optimizer_options {
    enum optimizer_kind kind;
    double rate;         /* base learning rate, > 0 */
    double momentum;     /* sgd: 0 .. 1 */
    double decay;        /* rmsprop: 0 .. 1 (0.9) */
    double beta1, beta2; /* adam, adamw */
    double epsilon;
    double weight_decay; /* adamw */
    double clip;         /* global norm; 0: none */
};

struct schedule_options {
    enum schedule_kind kind;
    uint64_t warmup;   /* steps of linear growth from rate / warmup; any schedule */
    double factor;     /* step, plateau: rate is multiplied by this */
    uint64_t every;    /* step: epochs between multiplications, >= 1 */
    uint64_t patience; /* plateau: validations without improvement before a multiplication, >= 1 */
    double minimum; /* the rate never falls below this fraction of the base rate after the warm-up; cosine ends there */
};

struct schedule_state {
    double plateau_scale;    /* plateau: product of the factors so far; starts at 1 */
    uint64_t plateau_waited; /* validations since the best one or the last multiplication */
    double plateau_best;     /* starts at DBL_MAX: finite, so that it can be written as JSON */
};

/* The names in the order of the enumerations, ended by NULL. */
extern const char *const optimizer_names[];
extern const char *const schedule_names[];

const char *optimizer_name(enum optimizer_kind kind);
bool optimizer_parse(const char *name, enum optimizer_kind *kind);
const char *schedule_name(enum schedule_kind kind);
bool schedule_parse(const char *name, enum schedule_kind *kind);

/* Moments that the optimizer keeps per parameter: 1 or 2. */
size_t optimizer_moments(enum optimizer_kind kind);

void schedule_state_init(struct schedule_state *state);

/* The learning rate of a step. progress: how much of the whole run is done, 0 .. 1; the caller decides whether by steps
 * or by time, and it drives the cosine. epoch counts from 0. */
double schedule_rate(const struct schedule_options *options, const struct schedule_state *state, double base_rate,
                     uint64_t step, uint64_t epoch, double progress);

/* Tells a plateau schedule about a validation loss. */
void schedule_observe(const struct schedule_options *options, struct schedule_state *state, double validation_loss);

#endif
