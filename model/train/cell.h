/* One time step of one layer, forward and backward, for n sequences. Here is what all cells have in common; what
 * differs is in the rows of network/cells.h, which has the equations, too.
 *
 * The caller has put the input part (W_ih x + b) into gates_x. The cell adds the hidden part and applies the
 * non-linearities. Training keeps the rows of every step for the way back.
 */
#ifndef LSTMD_MODEL_TRAIN_CELL_H
#define LSTMD_MODEL_TRAIN_CELL_H

#include <stddef.h>

#include "model/train/packed.h"

void cell_forward(const struct packed_network *packed, const struct kernels *kernels, size_t layer,
                  const struct cell_rows *rows);

/* Gradients of the states, on the way back. */
struct cell_gradients {
    const float *dh; /* [n][Hp] of h */
    float *dc;       /* [n][Hp] cells with two states: in: of c, from the next step; out: of c_previous; else scratch */
    float *dh_previous; /* [n][Hp] out: of h_previous; NULL: not wanted (the window's first step) */
};

void cell_backward(const struct packed_network *packed, const struct kernels *kernels, size_t layer,
                   const struct cell_rows *rows, const struct cell_gradients *gradients);

/* The gradient of the hidden product, after cell_backward(): gates_h where the cell keeps the products apart, else
 * gates_x. */
const float *cell_hidden_gradient(const struct packed_network *packed, const struct cell_rows *rows);

#endif
