/* A network's weights arranged for the kernels (kernels.h says the layouts); made from a struct network by
 * packed_update(), for inference and for training alike. Immutable between updates, so threads may share it.
 */
#ifndef LSTMD_MODEL_PACKED_H
#define LSTMD_MODEL_PACKED_H

#include <stdbool.h>
#include <stddef.h>

#include "base/arena.h"
#include "base/error.h"
#include "model/network.h"

struct packed_layer {
    size_t input;       /* K of the input product: Ep or Hp of the layer below; 0 where the input is one-hot */
    float *table;       /* [V][Gx*Hp] one-hot layer 0: row of W_ih for each token, bias added; else NULL */
    float *bias;        /* [Gx*Hp] input bias in gate layout */
    float *bias_hh;     /* [3*Hp] GRU: in the order r z q; else NULL */
    float *weight_ih;   /* [Gx*Hp/16][input][16] packed, inference only; else NULL */
    float *rows_ih;     /* [Gx*Hp][input] rows in gate order, for OpenBLAS, training only; else NULL */
    float *weight_hh;   /* [Gh*Hp/16][Hp][16] packed */
    float *weight_hh_t; /* [Hp/16][Gh*Hp][16] packed transpose, training only; else NULL */
};

struct packed_network {
    struct architecture architecture;
    size_t hidden;     /* Hp */
    size_t gates;      /* floats per row of gates: G*Hp */
    size_t embedding_; /* Ep */
    struct packed_layer layers[NETWORK_MAX_LAYERS];
    float *embedding;   /* [V][Ep]; NULL for one-hot */
    float *output;      /* [Vp/16][Hp][16] packed, inference only */
    float *output_rows; /* [V][Hp], training only */
    float *output_bias; /* [Vp]; padding -inf is not needed: callers read V logits */
    struct arena arena;
};

enum packed_use { PACKED_INFERENCE, PACKED_TRAINING };

bool packed_open(struct packed_network *packed, const struct architecture *architecture, enum packed_use use,
                 struct error *err);

/* Copies the weights in. part of parts: training's workers each pack a share (0 of 1: all of it); the shares are
 * disjoint, so they may run at the same time. */
void packed_update(struct packed_network *packed, const struct network *network, size_t part, size_t parts);
void packed_close(struct packed_network *packed);

/* The place of gate g of unit u in a row of gates whose number of gates is G. */
size_t packed_gate_index(size_t gates, size_t gate, size_t unit);

#endif
