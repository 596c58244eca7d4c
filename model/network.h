/* A network: its architecture and its parameters, in the layout of the files on disk (checkpoint.md).
 *
 * One flat block of float32 holds all tensors one after the other, in the order of NETWORK_TENSORS; a gradient or an
 * optimizer moment is another block of the same layout. Letters: V vocabulary, E embedding, H hidden, I input of a
 * layer (layer 0: E, or V where the input is one-hot; else H), G gates (LSTM 4: i f g o; GRU 3: r z n; RNN 1).
 *
 * Equations (x input, h hidden state, * elementwise):
 *   LSTM (Hochreiter and Schmidhuber 1997; Gers et al. 2000):
 *     i, f, o = sigmoid(W_ih x + W_hh h + b), g = tanh(same); c' = f * c + i * g; h' = o * tanh(c')
 *   GRU, reset_after (Cho et al. 2014, the variant of cuDNN, PyTorch and Keras 2+):
 *     r, z = sigmoid(W_ih x + b + W_hh h + b_hh); n = tanh(W_ih x + b + r * (W_hh h + b_hh)); h' = (1 - z) * n + z * h
 *   RNN (Elman 1990): h' = tanh(W_ih x + W_hh h + b)
 *   output: logits = W_out h_top + b_out
 *
 * A network that nobody changes may be read by any number of threads.
 */
#ifndef LSTMD_MODEL_NETWORK_H
#define LSTMD_MODEL_NETWORK_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/arena.h"
#include "base/error.h"
#include "model/rng.h"

#define NETWORK_MAX_LAYERS    8
#define NETWORK_MAX_HIDDEN    16384u
#define NETWORK_MAX_EMBEDDING 16384u

enum cell_kind { CELL_LSTM, CELL_GRU, CELL_RNN };

struct architecture {
    enum cell_kind cell;
    uint32_t layers;          /* 1 .. NETWORK_MAX_LAYERS */
    uint32_t hidden_size;     /* H */
    uint32_t embedding_size;  /* E; 0: one-hot input */
    uint32_t vocabulary_size; /* V */
    bool tie_weights;         /* output.weight is embedding.weight; needs E == H */
};

/* One row per tensor kind:
 *   X(field, file name, per layer?, rows, columns, exists, initialiser)
 * `field` is the member of struct network (per-layer ones are arrays); rows and columns are expressions over
 * `const struct architecture *a` and the layer index `k`; a bias has columns 1 and one dimension in the file. */
#define NETWORK_TENSORS(X)                                                                                             \
    X(embedding, "embedding.weight", false, a->vocabulary_size, a->embedding_size, a->embedding_size > 0,              \
      INITIALISE_NORMAL)                                                                                               \
    X(weight_ih, "rnn.weight_ih_l%u", true, architecture_gates(a) * a->hidden_size, architecture_input(a, k), true,    \
      INITIALISE_UNIFORM)                                                                                              \
    X(weight_hh, "rnn.weight_hh_l%u", true, architecture_gates(a) * a->hidden_size, a->hidden_size, true,              \
      INITIALISE_RECURRENT)                                                                                            \
    X(bias, "rnn.bias_l%u", true, architecture_gates(a) * a->hidden_size, 1, true, INITIALISE_BIAS)                    \
    X(bias_hh, "rnn.bias_hh_l%u", true, architecture_gates(a) * a->hidden_size, 1, a->cell == CELL_GRU,                \
      INITIALISE_ZERO)                                                                                                 \
    X(output_weight, "output.weight", false, a->vocabulary_size, a->hidden_size, !a->tie_weights, INITIALISE_UNIFORM)  \
    X(output_bias, "output.bias", false, a->vocabulary_size, 1, true, INITIALISE_ZERO)

enum initialiser {
    INITIALISE_ZERO,
    INITIALISE_NORMAL,    /* embedding: N(0, 0.1^2) */
    INITIALISE_UNIFORM,   /* Glorot and Bengio 2010: U(-a, a), a = sqrt(6 / (fan_in + fan_out)), fans of one gate */
    INITIALISE_RECURRENT, /* orthogonal, one H x H block per gate (Saxe et al. 2014) */
    INITIALISE_BIAS,      /* zero, but 1 for the LSTM's forget gate (Jozefowicz et al. 2015) */
};

#define NETWORK_MAX_TENSORS (4 * NETWORK_MAX_LAYERS + 3)

enum tensor_kind {
#define KIND(member, ...) TENSOR_##member,
    NETWORK_TENSORS(KIND)
#undef KIND
};

struct tensor {
    char name[32];
    enum tensor_kind kind;
    size_t layer; /* 0 outside of the layers */
    enum initialiser initialiser;
    size_t rows, columns;
    size_t blocks; /* gates stacked in its rows; 1 outside of the layers */
    bool vector;   /* one dimension in the file: [rows] */
    size_t offset; /* of its first element in the parameter block */
    size_t field;  /* of its (first) pointer in struct network, in bytes */
    float *data;
};

struct network {
    struct architecture architecture;
    struct tensor tensors[NETWORK_MAX_TENSORS];
    size_t tensor_count;
    float *parameters; /* [parameter_count] */
    size_t parameter_count;
    /* The same memory by name; NULL where the tensor does not exist. output_weight is embedding where tied. */
    float *embedding;                     /* [V][E] */
    float *weight_ih[NETWORK_MAX_LAYERS]; /* [G*H][I] */
    float *weight_hh[NETWORK_MAX_LAYERS]; /* [G*H][H] */
    float *bias[NETWORK_MAX_LAYERS];      /* [G*H] */
    float *bias_hh[NETWORK_MAX_LAYERS];   /* [G*H] */
    float *output_weight;                 /* [V][H] */
    float *output_bias;                   /* [V] */
    struct arena arena;
};

const char *cell_name(enum cell_kind cell); /* "lstm", "gru", "rnn" */
bool cell_parse(const char *name, enum cell_kind *cell);

size_t architecture_gates(const struct architecture *architecture);               /* G */
size_t architecture_input(const struct architecture *architecture, size_t layer); /* I of a layer */

/* Checks every field and that the parameter count does not overflow; the message names the field. */
bool architecture_validate(const struct architecture *architecture, struct error *err);

/* Fills in the tensor list and the parameter count alone: no memory is taken, all data pointers are NULL. */
bool network_layout(struct network *network, const struct architecture *architecture, struct error *err);

/* Allocates zeroed parameters and fills in the tensor list. The network must be closed with network_close(), also
 * after a failure. */
bool network_open(struct network *network, const struct architecture *architecture, struct error *err);
void network_close(struct network *network);

/* Fills the parameters as NETWORK_TENSORS says; the same seed gives the same bits. */
bool network_initialise(struct network *network, uint64_t seed, struct error *err);

/* The first tensor with a value that is not finite, or NULL; *index is the element. */
const struct tensor *network_find_not_finite(const struct network *network, size_t *index);

#endif
