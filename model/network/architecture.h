/* The architecture of a network: cell, sizes, activations, and how its input is fed. It is a plain description without
 * weights: model/network/network.h lays out parameters by it, and config.json (model/files/model_config.h) stores it.
 * Pure functions.
 *
 * lstmd trains standard networks (architecture_is_standard()). It also serves, evaluates and exports other networks,
 * because imported models have them: other activations, the GRU that resets before the product, layers of different
 * sizes, dense layers between the last recurrent layer and the output, and windows.
 *
 * Equations of the cells: cells.h. The layers above them:
 *   dense layers, from the top layer's h on: y = f(W x + b), each with its own f
 *   output: logits = W_out y + b_out
 *
 * Windows: some networks were trained on windows of N tokens, each from the zero state, with pad tokens on the left.
 * They predict every token from the last N tokens only: each step feeds the whole window again and carries no state.
 * Pad tokens are fed like any token, except to a network that was trained with a mask.
 */
#ifndef LSTMD_MODEL_NETWORK_ARCHITECTURE_H
#define LSTMD_MODEL_NETWORK_ARCHITECTURE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/error.h"
#include "model/network/cells.h"

#define NETWORK_MAX_LAYERS    8
#define NETWORK_MAX_DENSE     4
#define NETWORK_MAX_HIDDEN    16384u
#define NETWORK_MAX_EMBEDDING 16384u
#define NETWORK_MAX_WINDOW    4096u

enum activation {
    ACTIVATION_DEFAULT,             /* f of a cell: tanh; s: sigmoid; dense layers: linear */
    ACTIVATION_TANH,                /* tanh(x) */
    ACTIVATION_SIGMOID,             /* 1 / (1 + e^-x) */
    ACTIVATION_RELU,                /* max(0, x) */
    ACTIVATION_LINEAR,              /* x */
    ACTIVATION_HARD_SIGMOID,        /* x / 6 + 1/2 within 0 and 1: Keras 3, PyTorch */
    ACTIVATION_HARD_SIGMOID_KERAS2, /* 0.2 x + 0.5 within 0 and 1: Keras 1 and 2 */
};

struct dense_layer {
    uint32_t size; /* outputs */
    enum activation activation;
};

struct token_window {
    uint32_t size; /* tokens that the network sees; 0: all, and the state is carried */
    bool masked;   /* training masked the padding, so it is not fed */
};

/* A standard network has zeros in all but the first five. */
struct architecture {
    enum cell_kind cell;
    uint32_t layers;          /* 1 .. NETWORK_MAX_LAYERS */
    uint32_t hidden_size;     /* H of every layer whose hidden_sizes is 0 */
    uint32_t embedding_size;  /* E; 0: one-hot input */
    uint32_t vocabulary_size; /* V */
    bool tie_weights;         /* output.weight is embedding.weight; needs E equal to architecture_top() */
    uint32_t hidden_sizes[NETWORK_MAX_LAYERS];   /* sizes of layers that differ; 0: hidden_size */
    enum activation activation;                  /* f of the cell */
    enum activation recurrent_activation;        /* s of the cell, if it has gates */
    bool reset_before;                           /* the reset gate acts before the hidden product (cells.h) */
    uint32_t dense_layers;                       /* 0 .. NETWORK_MAX_DENSE */
    struct dense_layer dense[NETWORK_MAX_DENSE]; /* in order, from the recurrent layers to the output */
    struct token_window window;
};

/* "tanh", "sigmoid", "relu", "linear", "hard_sigmoid", "hard_sigmoid_keras2"; the default has no name. */
const char *activation_name(enum activation activation);
bool activation_parse(const char *name, enum activation *activation);

size_t architecture_gates(const struct architecture *architecture);                     /* G */
size_t architecture_hidden(const struct architecture *architecture, size_t layer);      /* H of a layer */
size_t architecture_input(const struct architecture *architecture, size_t layer);       /* I of a layer */
size_t architecture_dense_input(const struct architecture *architecture, size_t dense); /* inputs of a dense layer */
size_t architecture_top(const struct architecture *architecture);                       /* inputs of the output layer */
bool architecture_has_two_biases(const struct architecture *architecture);              /* a layer: bias and bias_hh */

/* The first: whether a fused kernel computes the cell (tanh and sigmoid, reset after the product). The second: whether
 * training computes the network (such a cell that trains, layers of one size, no dense layers, no window). */
bool architecture_cell_is_standard(const struct architecture *architecture);
bool architecture_is_standard(const struct architecture *architecture);

/* Whether every layer has the same size. */
bool architecture_is_uniform(const struct architecture *architecture);

/* Checks every field; the message names the first that is wrong. */
bool architecture_check(const struct architecture *architecture, struct error *err);

/* Replaces defaults by their values, so that equal networks have equal descriptions: every activation is named;
 * hidden_size is the top layer's; hidden_sizes is zero if all layers have one size; fields that the cell does not have
 * are zero. `architecture` has passed architecture_check(). */
void architecture_complete(struct architecture *architecture);

#endif
