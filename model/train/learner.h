/* The learner: one optimisation step of truncated back-propagation through time, shared by worker threads.
 *
 * It owns the workers, each with its share of the B streams, the carried hidden state, packed weights, gradients and
 * the optimizer's moments. A step: every worker runs its streams forward and backward over the window; the workers'
 * gradients are added in worker order; the norm is clipped; each worker updates its slice of the parameters and packs
 * its share of the weights. Same seed, same thread count, same bits. All of it takes subnormal numbers as zero
 * (base/subnormals.h); the thread that calls has its own mode again when a call returns.
 *
 * The loss is the mean of -log p(target) in nats over the window's tokens. Gradients flow back to the window's start
 * and no further; the state at its end is the next window's start. Where the input is <eos>, the state is reset first
 * and no gradient flows through. Dropout (dropout.h) stands on every non-recurrent connection: embedding -> layer 0,
 * layer -> layer, last layer -> output; weight drop on the recurrent weights.
 *
 * A learner is used by one thread at a time. The network it was opened with is its master copy: it is changed by
 * learner_step() and may be read between steps.
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

/* network: borrowed, must outlive the learner. Memory is estimated by learner_bytes() and checked before it is taken.
 */
struct learner *learner_new(struct network *network, const struct learner_options *options, struct error *err);
void learner_free(struct learner *learner);
bool learner_bytes(const struct architecture *architecture, const struct learner_options *options, size_t *bytes);
size_t learner_threads(const struct learner *learner);

struct learner_result {
    double loss;          /* mean nats per token of the window, before the update */
    double gradient_norm; /* before clipping */
    bool finite;          /* false: loss or gradient is not finite, and nothing was updated */
};

/* inputs, targets: [T][B], T <= options.window. Updates the network at learning rate `rate`. */
void learner_step(struct learner *learner, size_t T, const uint32_t *inputs, const uint32_t *targets, double rate,
                  struct learner_result *result);

/* The gradient alone (no update, state advances): written to gradient->data of the same architecture. For tests. */
void learner_gradient(struct learner *learner, size_t T, const uint32_t *inputs, const uint32_t *targets,
                      struct network *gradient, struct learner_result *result);

/* Forward only, from and to the carried state: writes logits [T][B][V] and the mean loss. For tests. */
void learner_logits(struct learner *learner, size_t T, const uint32_t *inputs, const uint32_t *targets, float *logits,
                    double *loss);

/* All carried hidden state to zero (start of an epoch). */
void learner_reset_state(struct learner *learner);

/* The network's parameters or the step count were changed from outside: pack the weights again. */
void learner_refresh(struct learner *learner);

/* The averaged weights (Polyak and Juditsky 1992), here exponentially: the mean of the weights after steps 1 .. t, that
 * after step i with the weight average^(t - i). Its first value is the weights after step 1 (the bias correction of
 * Kingma and Ba 2015), so the initial weights have no part in it. Borrowed, to be read as the network is, or written to
 * restore it; NULL where options.average is 0. */
struct network *learner_average(struct learner *learner);

/* What resuming bit for bit needs besides the network: plain float blocks and the step counter.
 * state: [learner_state_size] carried hidden state; moments: [optimizer_moments][parameter_count], in network layout.
 * Borrowed pointers into the learner; writing them between steps restores it. */
size_t learner_state_size(const struct learner *learner);
float *learner_state(struct learner *learner);
float *learner_moments(struct learner *learner);
uint64_t learner_step_count(const struct learner *learner);
void learner_set_step_count(struct learner *learner, uint64_t step);

#endif
