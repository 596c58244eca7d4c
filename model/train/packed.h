/* A network's weights, arranged for the kernels of training. kernels.h has the layouts. packed_update() makes them from
 * a struct network. Stepping has an arrangement of its own: step_weights.h. They do not change between updates, so
 * threads may share them.
 *
 * Letters: Hp, Ep, Vp are H, E, V rounded up to whole blocks of 16; Gx, Gh are the gates of the input and of the hidden
 * product, in the order of network/gates.h (the same number today). The packed matrix of N outputs and K inputs
 * has its blocks K * 16 floats apart. Where a library multiplies (kernels.h: plain_step, plain_window), the matrices
 * are not packed: [N/16][K][16] below is then [K][N].
 */
#ifndef LSTMD_MODEL_TRAIN_PACKED_H
#define LSTMD_MODEL_TRAIN_PACKED_H

#include <stdbool.h>
#include <stddef.h>

#include "base/arena.h"
#include "base/error.h"
#include "model/kernels/kernels.h"
#include "model/network/network.h"
#include "model/train/dropout.h"

struct packed_layer {
    size_t input;       /* K of the input product: Ep or Hp of the layer below; 0 where the input is one-hot */
    float *table;       /* [V][Gx*Hp] one-hot layer 0: the input product and bias of each token; else NULL */
    float *bias;        /* [Gx*Hp] input bias */
    float *bias_hh;     /* [Gh*Hp] where the cell keeps the products apart; else NULL */
    float *weight_ih;   /* [Gx*Hp/16][input][16]; NULL for one-hot */
    float *weight_ih_t; /* [input/16][Gx*Hp][16] the transpose */
    float *weight_hh;   /* [Gh*Hp/16][Hp][16] */
    float *weight_hh_t; /* [Hp/16][Gh*Hp][16] the transpose */
};

struct packed_network {
    struct architecture architecture;
    size_t hidden;          /* Hp */
    size_t embedding_width; /* Ep */
    size_t vocabulary;      /* Vp */
    size_t gates;           /* Gx = Gh */
    size_t gate_row;        /* floats of one row of gates: Gx*Hp */
    struct packed_layer layers[NETWORK_MAX_LAYERS];
    float *embedding;   /* [V][Ep]; NULL for one-hot */
    float *output;      /* [Vp/16][Hp][16] */
    float *output_t;    /* [Hp/16][Vp][16] the transpose */
    float *output_bias; /* [Vp] */
    struct arena arena;
};

/* Fills in the sizes alone, of a valid architecture; takes no memory. */
void packed_layout(struct packed_network *packed, const struct architecture *architecture);

/* Allocates; the weights are zero until packed_update(). Close with packed_close(), also after a failure. Errors:
 * ERROR_INVALID (not a standard network: architecture_is_standard()), ERROR_NO_MEMORY. */
bool packed_open(struct packed_network *packed, const struct architecture *architecture, struct error *err);

/* What packed_update() packs, and which share of it. */
struct packed_job {
    const struct network *network; /* the weights */
    const struct kernels *kernels;
    const struct dropout *weight_drop; /* its masks are applied to the recurrent weights; its probability may be 0 */
    float *scratch;                    /* [17][Hp], the caller's; used where weights are dropped */
    size_t part, parts;                /* worker `part` of `parts`; 0 of 1: everything */
};

/* Copies a share of the weights in. Shares are disjoint: workers may pack theirs at the same time. */
void packed_update(struct packed_network *packed, const struct packed_job *job);
void packed_close(struct packed_network *packed);

#endif
