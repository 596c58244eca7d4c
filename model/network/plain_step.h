/* The elementwise part of a cell's step, with any activations: for variants that no fused kernel computes. Plain loops
 * over one sequence; the equations are in cells.h. The caller computes the products (generate/step_variant.c). The
 * functions write only to the row.
 */
#ifndef LSTMD_MODEL_NETWORK_PLAIN_STEP_H
#define LSTMD_MODEL_NETWORK_PLAIN_STEP_H

#include <stddef.h>

#include "model/kernels/kernels.h"
#include "model/network/architecture.h"

/* One sequence of a layer. W: the layer's width, H in whole blocks of 16. */
struct plain_row {
    const struct architecture *architecture; /* the activations f and s */
    const struct kernels *kernels;
    size_t W;
    const float *in; /* [G][W] input product and bias */
    float *gates;    /* [G][W] hidden product and its bias; scratch */
    const float *h_previous;
    float *h; /* must not be h_previous */
    float *c; /* cells with two states: old, then new */
};

void plain_lstm(const struct plain_row *row);
void plain_gru(const struct plain_row *row); /* reset after the product */
void plain_rnn(const struct plain_row *row);

/* The GRU that resets before the product. The first computes r, z, and r * h, which it writes to row->h; the second
 * does the rest after the caller has put W_hh (r * h) into gate n. */
void plain_gru_reset(const struct plain_row *row);
void plain_gru_after_reset(const struct plain_row *row);

/* values[i] = f(values[i]), n whole blocks. */
void plain_activate(enum activation activation, const struct kernels *kernels, size_t n, float *values);

#endif
