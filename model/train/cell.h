/* One time step of one layer, forward and backward, for n sequences: what the three cell kinds have in common.
 *
 * The caller has put the input part (W_ih x + b) into gates_x; the cell adds the hidden part and applies the
 * non-linearities. Rows: gates_x, gates_h [n][Gx*Hp]; all others [n][Hp]. Training keeps every step's rows for the way
 * back; stepping uses the same rows again and again. kernels.h has the layouts, network.h the equations.
 */
#ifndef LSTMD_MODEL_TRAIN_CELL_H
#define LSTMD_MODEL_TRAIN_CELL_H

#include <stddef.h>

#include "model/train/packed.h"

struct cell_rows {
    size_t n;
    float *gates_x; /* in: input part; after forward: activations; after backward: their gradients */
    float *gates_h; /* GRU: hidden part; after backward: its gradients; else unused */
    const float *h_previous;
    const float *c_previous; /* LSTM */
    float *h;
    float *c; /* LSTM */
};

void cell_forward(const struct packed_network *packed, const struct kernels *kernels, size_t layer,
                  const struct cell_rows *rows);

/* dh [n][Hp]: gradient of h. dc [n][Hp] (LSTM): in: gradient of c from the next step, out: of c_previous.
 * GRU uses dc as scratch. dh_previous [n][Hp]: overwritten with the gradient of h_previous; NULL: not wanted (the
 * window's first step). */
void cell_backward(const struct packed_network *packed, const struct kernels *kernels, size_t layer,
                   const struct cell_rows *rows, const float *dh, float *dc, float *dh_previous);

/* The gradient that the hidden product's weights see: gates_h for GRU, gates_x else. */
const float *cell_hidden_gradient(const struct packed_network *packed, const struct cell_rows *rows);

#endif
