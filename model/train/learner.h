/* The learner: one optimisation step of truncated back-propagation through time, shared by worker threads.
 *
 * It owns the workers, each with its share of the B streams, the carried hidden state, the packed weights, the
 * gradients and the optimizer's moments. In a step, every worker runs its streams forward and backward over the window.
 * Then each worker adds up its share of the gradients, in the order of the workers. Then the norm is clipped, and each
 * worker updates its share of the parameters and packs its share of the weights. The same seed and number of threads
 * give the same bits. All of it takes subnormal numbers as zero (base/subnormals.h). The calling thread has its own
 * mode again when a call returns.
 *
 * The loss is the mean of -log p(target) in nats over the window's tokens. Gradients flow back to the window's start
 * and no further. The state at its end is the start of the next window. Where the input is <eos>, the state is reset
 * first, and no gradient flows through. Dropout (dropout.h) acts on every non-recurrent connection: embedding -> layer
 * 0, layer -> layer, last layer -> output. Weight drop acts on the recurrent weights.
 *
 * One thread at a time uses a learner. The network it was opened with is its master copy: learner_step() changes it,
 * and the caller may read it between steps.
 */
#ifndef LSTMD_MODEL_TRAIN_LEARNER_H
#define LSTMD_MODEL_TRAIN_LEARNER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/error.h"
#include "model/kernels/kernels.h"
#include "model/network/network.h"
#include "model/train/optimizer.h"

struct learner_options {
    size_t batch;       /* B streams */
    size_t window;      /* T: the longest window */
    size_t threads;     /* worker threads, 1 .. batch; more are reduced to batch */
    double dropout;     /* 0 .. <1, of activations */
    double weight_drop; /* 0 .. <1, of recurrent weights (dropout.h) */
    uint64_t seed;
    uint32_t reset_token; /* <eos>, or TOKEN_NONE: never reset */
    struct optimizer_options optimizer;
    double average;                /* 0 .. <1: decay of the averaged weights; 0: there are none */
    const struct kernels *kernels; /* NULL: the best */
};

struct learner; /* opaque */

/* network: borrowed, must outlive the learner. ERROR_TOO_LARGE where the sizes overflow, ERROR_NO_MEMORY. */
struct learner *learner_new(struct network *network, const struct learner_options *options, struct error *err);
void learner_free(struct learner *learner);

/* Bytes that learner_new() would take, and the network; false on overflow. */
bool learner_bytes(const struct architecture *architecture, const struct learner_options *options, size_t *bytes);

/* The worker threads that it has. */
size_t learner_threads(const struct learner *learner);

struct learner_result {
    double loss;          /* mean nats per token of the window, before the update */
    double gradient_norm; /* before clipping */
    bool finite;          /* false: loss or gradient is not finite, and nothing was updated */
};

/* One step on a window: updates the network at learning rate `rate`. inputs, targets: [T][B], T <= options.window. */
void learner_step(struct learner *learner, size_t T, const uint32_t *inputs, const uint32_t *targets, double rate,
                  struct learner_result *result);

/* The gradient alone, into a network of the same architecture. Nothing is updated; the state advances. For tests. */
void learner_gradient(struct learner *learner, size_t T, const uint32_t *inputs, const uint32_t *targets,
                      struct network *gradient, struct learner_result *result);

/* Forward alone, from and to the carried state: logits [T][B][V] and the mean loss. For tests. */
void learner_logits(struct learner *learner, size_t T, const uint32_t *inputs, const uint32_t *targets, float *logits,
                    double *loss);

/* Sets all carried hidden state to zero, as an epoch starts with. */
void learner_reset_state(struct learner *learner);

/* Packs the weights again. Call it after the network's parameters or the step count were changed from outside. */
void learner_refresh(struct learner *learner);

/* The averaged weights (Polyak and Juditsky 1992), here exponentially: the mean of the weights after steps 1 .. t,
 * where the weights after step i count average^(t - i). The first value is the weights after step 1 (the bias
 * correction of Kingma and Ba 2015), so the initial weights have no part in it. Borrowed. The caller may read it as the
 * network, or write it to restore it. NULL where options.average is 0. */
struct network *learner_average(struct learner *learner);

/* What resuming bit for bit needs besides the network: blocks of floats and the step counter.
 * state: [learner_state_size], the carried hidden state; moments: [optimizer_moments][parameter_count], in network
 * layout. The pointers are borrowed; who writes through them between steps restores the learner. */
size_t learner_state_size(const struct learner *learner);
float *learner_state(struct learner *learner);
float *learner_moments(struct learner *learner);
uint64_t learner_step_count(const struct learner *learner);
void learner_set_step_count(struct learner *learner, uint64_t step);

#endif
