/* A network: its architecture and its parameters, in the layout of the files on disk.
 *
 * One flat block of float32 holds all tensors one after the other, in the order of NETWORK_TENSORS; a gradient or an
 * optimizer moment is another block of the same layout. Letters: V vocabulary, E embedding, H hidden (of a layer), I
 * input of a layer (layer 0: E, or V if the input is one-hot; else H of the layer below), G gates (cells.h). The
 * equations are in cells.h and architecture.h.
 *
 * Any number of threads may read a network while nobody changes it.
 */
#ifndef LSTMD_MODEL_NETWORK_NETWORK_H
#define LSTMD_MODEL_NETWORK_NETWORK_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/arena.h"
#include "base/error.h"
#include "base/rng.h"
#include "model/network/architecture.h"

/* One row per tensor kind:
 *   X(field, file name, how many, blocks, rows of a block, columns, exists, initialiser)
 * `field` is the member of struct network (an array if there may be many; the index k is in the file name). blocks are
 * the gates of a layer, one below the other. The numbers are expressions over `const struct architecture *a` and the
 * index `k`; a bias has columns 1 and one dimension in the file. */
#define NETWORK_TENSORS(X)                                                                                             \
    X(embedding, "embedding.weight", 1, 1, a->vocabulary_size, a->embedding_size, a->embedding_size > 0,               \
      INITIALISE_NORMAL)                                                                                               \
    X(weight_ih, "rnn.weight_ih_l%u", a->layers, architecture_gates(a), architecture_hidden(a, k),                     \
      architecture_input(a, k), true, INITIALISE_UNIFORM)                                                              \
    X(weight_hh, "rnn.weight_hh_l%u", a->layers, architecture_gates(a), architecture_hidden(a, k),                     \
      architecture_hidden(a, k), true, INITIALISE_RECURRENT)                                                           \
    X(bias, "rnn.bias_l%u", a->layers, architecture_gates(a), architecture_hidden(a, k), 1, true, INITIALISE_BIAS)     \
    X(bias_hh, "rnn.bias_hh_l%u", a->layers, architecture_gates(a), architecture_hidden(a, k), 1,                      \
      architecture_has_two_biases(a), INITIALISE_ZERO)                                                                 \
    X(dense_weight, "dense.weight_l%u", a->dense_layers, 1, a->dense[k].size, architecture_dense_input(a, k), true,    \
      INITIALISE_UNIFORM)                                                                                              \
    X(dense_bias, "dense.bias_l%u", a->dense_layers, 1, a->dense[k].size, 1, true, INITIALISE_ZERO)                    \
    X(output_weight, "output.weight", 1, 1, a->vocabulary_size, architecture_top(a), !a->tie_weights,                  \
      INITIALISE_UNIFORM)                                                                                              \
    X(output_bias, "output.bias", 1, 1, a->vocabulary_size, 1, true, INITIALISE_ZERO)

enum initialiser {
    INITIALISE_ZERO,      /* zeros */
    INITIALISE_NORMAL,    /* embedding: N(0, 0.1^2) */
    INITIALISE_UNIFORM,   /* Glorot and Bengio 2010: U(-a, a), a = sqrt(6 / (fan_in + fan_out)), fans of one gate */
    INITIALISE_RECURRENT, /* orthogonal, one H x H block per gate (Saxe et al. 2014) */
    INITIALISE_BIAS,      /* zero, but 1 for a forget gate (Jozefowicz et al. 2015) */
};

#define NETWORK_MAX_TENSORS (4 * NETWORK_MAX_LAYERS + 2 * NETWORK_MAX_DENSE + 3)

enum tensor_kind {
#define KIND(member, ...) TENSOR_##member,
    NETWORK_TENSORS(KIND)
#undef KIND
};

struct tensor {
    char name[32];
    enum tensor_kind kind;
    size_t layer; /* index of the recurrent or dense layer; else 0 */
    enum initialiser initialiser;
    size_t rows, columns;
    size_t blocks; /* gates stacked in its rows; 1 outside of the recurrent layers */
    bool vector;   /* one dimension in the file: [rows] */
    size_t offset; /* of its first element in the parameter block */
    size_t field;  /* of its (first) pointer in struct network, in bytes */
    float *data;
};

struct network {
    struct architecture architecture; /* complete (architecture_complete()) */
    struct tensor tensors[NETWORK_MAX_TENSORS];
    size_t tensor_count;
    float *parameters; /* [parameter_count] */
    size_t parameter_count;
    /* The same memory by name; NULL if the tensor does not exist. output_weight is embedding if the weights are
     * tied. */
    float *embedding;                       /* [V][E] */
    float *weight_ih[NETWORK_MAX_LAYERS];   /* [G*H][I] */
    float *weight_hh[NETWORK_MAX_LAYERS];   /* [G*H][H] */
    float *bias[NETWORK_MAX_LAYERS];        /* [G*H] */
    float *bias_hh[NETWORK_MAX_LAYERS];     /* [G*H] */
    float *dense_weight[NETWORK_MAX_DENSE]; /* [size][inputs] */
    float *dense_bias[NETWORK_MAX_DENSE];   /* [size] */
    float *output_weight;                   /* [V][inputs: H of the top layer, or the last dense layer's size] */
    float *output_bias;                     /* [V] */
    struct arena arena;
};

/* Checks every field and that the parameter count does not overflow; the message names the field. */
bool architecture_validate(const struct architecture *architecture, struct error *err);

/* Fills in only the tensor list and the parameter count: it allocates nothing, and all data pointers are NULL. */
bool network_layout(struct network *network, const struct architecture *architecture, struct error *err);

/* Allocates zeroed parameters and fills in the tensor list. The network must be closed with network_close(), also
 * after a failure. */
bool network_open(struct network *network, const struct architecture *architecture, struct error *err);
void network_close(struct network *network);

/* Fills the parameters as NETWORK_TENSORS says; the same seed gives the same bits. */
bool network_initialise(struct network *network, uint64_t seed, struct error *err);

/* A digest that identifies the weights: the first bytes of the SHA-256 of all parameters, as float32 in the layout of
 * the files. A model has the same digest on every machine and in every format of stepping. About 2 ms per megabyte. */
#define NETWORK_DIGEST_SIZE 16
void network_digest(const struct network *network, unsigned char out[NETWORK_DIGEST_SIZE]);

/* The first tensor with a value that is not finite, or NULL; *index is the element. */
const struct tensor *network_find_not_finite(const struct network *network, size_t *index);

#endif
