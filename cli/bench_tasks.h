/* Measures lstmd itself for `lstmd bench`: training steps, and stepping with sampling. Weights and tokens are random,
 * because their values do not change the time.
 */
#ifndef LSTMD_CLI_BENCH_TASKS_H
#define LSTMD_CLI_BENCH_TASKS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/arena.h"
#include "base/error.h"
#include "base/rng.h"
#include "cli/bench.h"
#include "model/generate/sampler.h"
#include "model/generate/step.h"
#include "model/network/network.h"
#include "model/train/learner.h"

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
bool bench_training_open(struct bench_training *training, const struct kernels *kernels,
                         const struct bench_shape *shape, size_t threads, struct error *err);
void bench_training_close(struct bench_training *training);

/* Floating-point operations of training on one character: the products of the forward pass, and twice as many of the
 * backward pass. A one-hot input is a look-up and costs none. */
double bench_training_operations(const struct bench_shape *shape);

/* A stepping shape: an LSTM with one-hot input, `batch` sequences. */
struct bench_step_shape {
    uint32_t layers, hidden, vocabulary;
    size_t batch;   /* of all threads together; one sequence, or a multiple of threads */
    size_t threads; /* at most BENCH_MAX_THREADS */
    enum kernel_format format;
};

/* The sequences of one thread; it steps them as a thread of the engine does. */
struct bench_lane {
    struct step_scratch scratch;
    struct rng rng;
    size_t batch;
    uint32_t *tokens;         /* [batch] */
    float **states, **logits; /* [batch] */
    struct sampler sampler;
};

/* Step, sample at temperature 1, feed the samples back; the work's units are characters of all sequences together. Each
 * thread has its share of the sequences; a single sequence is one thread's work. Close with bench_stepping_close(),
 * also after a failure. */
struct bench_stepping {
    struct bench_work work;
    struct stepper stepper;
    struct bench_lane lanes[BENCH_MAX_THREADS];
    size_t lane_count;
    struct arena arena;
};
bool bench_stepping_open(struct bench_stepping *stepping, const struct kernels *kernels,
                         const struct bench_step_shape *shape, struct error *err);
void bench_stepping_close(struct bench_stepping *stepping);

/* Floating-point operations of one character's products; a one-hot input is a look-up and costs none. */
double bench_stepping_operations(const struct bench_step_shape *shape);

#endif
