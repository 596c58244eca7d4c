/* What `lstmd bench` measures of lstmd itself: training steps and single-stream stepping with sampling. Weights and
 * tokens are random; their values do not change how long anything takes.
 */
#ifndef LSTMD_CLI_BENCH_TASKS_H
#define LSTMD_CLI_BENCH_TASKS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/arena.h"
#include "base/error.h"
#include "cli/bench.h"
#include "model/learner.h"
#include "model/network.h"
#include "model/rng.h"
#include "model/sampler.h"
#include "model/step.h"

/* A training shape: an LSTM with one-hot input, B streams, windows of T steps. */
struct bench_shape {
    uint32_t layers, hidden, vocabulary;
    size_t batch, window;
};

/* Forward, backward and RMSprop update; the work's units are characters. Close with bench_training_close(), also after
 * a failure. */
struct bench_training {
    struct bench_work work;
    struct network network;
    struct learner *learner;
    size_t window;
    uint32_t *inputs, *targets; /* [T][B] */
    struct arena arena;
};
bool bench_training_open(struct bench_training *training, const struct bench_shape *shape, size_t threads,
                         struct error *err);
void bench_training_close(struct bench_training *training);

/* Floating-point operations of training on one character: the products of the forward pass, and twice as many of the
 * backward pass. A one-hot input is a look-up and costs none. */
double bench_training_operations(const struct bench_shape *shape);

/* One sequence: step, sample at temperature 1, feed the sample back; the work's units are characters. Close with
 * bench_stepping_close(), also after a failure. */
struct bench_stepping {
    struct bench_work work;
    struct network network;
    struct stepper stepper;
    struct step_scratch scratch;
    struct rng rng;
    uint32_t token;
    float *state, *logits;
    struct sampler sampler;
    struct arena arena;
};
bool bench_stepping_open(struct bench_stepping *stepping, uint32_t layers, uint32_t hidden, uint32_t vocabulary,
                         struct error *err);
void bench_stepping_close(struct bench_stepping *stepping);

/* Bytes of weights that one character reads: everything but the rows of a one-hot input that are not looked up. */
size_t bench_stepping_bytes(const struct bench_stepping *stepping);

#endif
