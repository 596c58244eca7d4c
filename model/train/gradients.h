/* Gradients of all parameters. Each worker has a set of its own, in the kernels' order of gates (packed.h). Their sum
 * is in the order of the files (network.h), and is taken in the workers' order, so that its bits are repeatable. */
#ifndef LSTMD_MODEL_TRAIN_GRADIENTS_H
#define LSTMD_MODEL_TRAIN_GRADIENTS_H

#include <stddef.h>

#include "base/arena.h"
#include "base/error.h"
#include "model/train/packed.h"

struct layer_gradients {
    float *table;     /* [V][G*Hp] one-hot layer 0; else NULL */
    float *weight_ih; /* [G*Hp][input]; NULL for one-hot */
    float *weight_hh; /* [G*Hp][Hp] */
    float *bias;      /* [G*Hp]; NULL for one-hot: it is the sum of the table's rows */
    float *bias_hh;   /* [G*Hp] GRU; else NULL */
};

struct gradients {
    struct layer_gradients layers[NETWORK_MAX_LAYERS];
    float *embedding;   /* [V][Ep]; NULL for one-hot */
    float *output;      /* [V][Hp] */
    float *output_bias; /* [Vp] */
    float *scratch;     /* for gradients_reduce() and packed_update(): [16][V], at least [17][Hp] */
};

bool gradients_open(struct gradients *gradients, const struct packed_network *packed, struct arena *arena,
                    struct error *err);

/* The rows of a tensor that worker `part` of `parts` adds up and updates. */
struct gradients_share {
    size_t first, rows;
};
struct gradients_share gradients_share(const struct tensor *tensor, size_t part, size_t parts);

/* A sum over workers. */
struct gradients_sum {
    struct gradients *const *workers; /* [parts] */
    const struct packed_network *packed;
    const struct kernels *kernels;
    const struct dropout *weight_drop; /* as the weights were packed */
    struct network *network;           /* where the sum goes */
};

/* Writes the sum over workers, in their order, of the share `part` of every tensor, and returns the sum of squares of
 * that share. Workers with different parts may do this at the same time. Part `part` uses that worker's scratch. */
double gradients_reduce(const struct gradients_sum *sum, size_t part, size_t parts);

#endif
