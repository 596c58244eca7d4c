/* Stepping (inference): feeds one token to each of B independent sequences and updates their hidden states.
 *
 * There are three kinds of memory. `struct stepper` holds the arranged weights of one network; it never changes, and
 * all threads share it. A sequence's hidden state is a float array of stepper->state_size that the caller owns (all
 * zero: the start). `struct step_scratch` belongs to one thread; it is allocated once, so a step never allocates. A
 * step has the same cost at every position and never reads earlier tokens. A sequence gets the same bits whatever else
 * is in the batch.
 */
#ifndef LSTMD_MODEL_GENERATE_STEP_H
#define LSTMD_MODEL_GENERATE_STEP_H

#include <stddef.h>
#include <stdint.h>

#include "base/arena.h"
#include "base/error.h"
#include "model/generate/step_weights.h"
#include "model/kernels/kernels.h"
#include "model/network/network.h"

struct stepper {
    struct architecture architecture;
    const struct kernels *kernels;
    struct step_weights weights;
    size_t state_size; /* floats per sequence: for every layer h [Hp], then c [Hp] if the cell has one */
    size_t first_state[NETWORK_MAX_LAYERS]; /* index of a layer's h in the state */
    size_t logits_size;                     /* floats per sequence of logits: V rounded up to KERNEL_BLOCK */
    bool library; /* OpenBLAS is loaded, and may multiply where a text is read (step_piece.h); whoever opened it sets it
                   */
};

/* Arranges the weights as float32; the stepper does not use the network afterwards. Close with stepper_close(), also
 * after a failure. */
bool stepper_open(struct stepper *stepper, const struct network *network, const struct kernels *kernels,
                  struct error *err);
/* The same, with the weights in another format. */
bool stepper_open_as(struct stepper *stepper, const struct network *network, const struct kernels *kernels,
                     enum kernel_format format, struct error *err);
void stepper_close(struct stepper *stepper);

struct step_scratch {
    size_t max_batch;                 /* B */
    float *h[2];                      /* [B][W] the new h of a layer, and of the one below; W: the largest width */
    int16_t *h_integers, *x_integers; /* [B][W] INT8: of h_previous, and of the layer below; else NULL */
    float *gates[2];                  /* [B][G*W] variants: the products with input and hidden state; else NULL */
    float *kept[NETWORK_MAX_LAYERS];  /* [B][G*Hp] of each layer: the gates of the last step; NULL: they are not kept */
    /* [B] each: the arrays that struct kernel_step points to */
    const float **start, **h_previous;
    const void **x, **hidden_input;
    float **h_rows, **c, **wanted, **gate_rows[2], **kept_rows;
    struct arena arena;
};

bool step_scratch_open(struct step_scratch *scratch, const struct stepper *stepper, size_t max_batch,
                       struct error *err);
/* From now on, each step keeps the activations of its gates (step_gates()). Errors: ERROR_NO_MEMORY. */
bool step_scratch_keep_gates(struct step_scratch *scratch, const struct stepper *stepper, struct error *err);
void step_scratch_close(struct step_scratch *scratch);

/* Steps `batch` sequences: tokens[b] is fed to states[b] (updated in place; the pointers are distinct). If logits[b] is
 * not NULL, the step writes logits[b][V] (room for logits_size). logits may be NULL: no logits are wanted. batch is 1
 * .. max_batch; tokens are below V. */
void step(const struct stepper *stepper, struct step_scratch *scratch, size_t batch, const uint32_t *tokens,
          float *const *states, float *const *logits);

/* The gates of layer `layer` in the last step of the first sequence, after their activations; they are kept.
 * Shapes: gates [G][H] in the order of cells.h. A cell without gates (the simple RNN) has none. */
void step_gates(const struct stepper *stepper, const struct step_scratch *scratch, size_t layer, float *gates);

#endif
