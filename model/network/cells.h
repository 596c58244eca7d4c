/* The recurrent cells: one row of a table per cell. Code that depends on the cell reads its row and never compares the
 * cell's kind. CONTRIBUTING.md says how to add a cell. This file does not step or train: the functions that a row names
 * are in model/kernels/kernels.h (fast) and model/network/plain_step.h (any activations).
 *
 * Equations: x input, h hidden state, * elementwise; f is the activation (tanh), s the recurrent activation (sigmoid):
 *   LSTM (Hochreiter and Schmidhuber 1997; Gers et al. 2000; activations as in the Keras documentation of LSTM):
 *     i, f, o = s(W_ih x + W_hh h + b), g = f(same); c' = f * c + i * g; h' = o * f(c')
 *   GRU, reset after the product (the variant of cuDNN, PyTorch and Keras 2+):
 *     r, z = s(W_ih x + b + W_hh h + b_hh); n = f(W_ih x + b + r * (W_hh h + b_hh)); h' = (1 - z) * n + z * h
 *   GRU, reset before the product (Cho et al. 2014, arXiv:1406.1078 version 1 to 3; Keras with reset_after=False):
 *     r, z = s(W_ih x + W_hh h + b); n = f(W_ih x + W_hh (r * h) + b); h' = (1 - z) * n + z * h
 *   RNN (Elman 1990): h' = f(W_ih x + W_hh h + b)
 *
 * Gates are numbered in lstmd's order, in which its tensors stack them: LSTM i f g o, GRU r z n. The table is constant:
 * any thread may read it.
 */
#ifndef LSTMD_MODEL_NETWORK_CELLS_H
#define LSTMD_MODEL_NETWORK_CELLS_H

#include <stdbool.h>
#include <stddef.h>

struct kernels;
struct kernel_step;
struct plain_row;

#define CELL_MAX_GATES 4

/* Cells that train come first, because options number them in this order. */
enum cell_kind {
    CELL_LSTM,  /* long short-term memory: two states, h and c */
    CELL_GRU,   /* gated recurrent unit */
    CELL_RNN,   /* simple recurrent network (Elman) */
    CELL_COUNT, /* the number of cells */
};

#define CELL_NAMES "lstm, gru or rnn" /* all of them, for messages */

/* Keras's view of a cell. */
struct cell_keras {
    const char *class;  /* "LSTM"; NULL: Keras has no such cell */
    const char *name;   /* Keras's name of a layer of this class, and of its group in archives: "lstm" */
    const char *inside; /* the part between the layer's and a tensor's name in .h5: "lstm_cell/" */
    const char *cudnn_class, *cudnn_name;          /* the same of the cuDNN version of the class; NULL: there is none */
    unsigned char order[CELL_MAX_GATES];           /* [n]: lstmd's number of Keras's gate n */
    unsigned char order_of_keras1[CELL_MAX_GATES]; /* the same for Keras 1, where each gate has tensors of its own */
};

/* One time step of one layer for n sequences, as training keeps it. Rows: gates_x, gates_h [n][G*Hp], all others
 * [n][Hp]; kernels.h has the layouts. */
struct cell_rows {
    size_t n;
    float *gates_x; /* before: input part; after forward: activations; after backward: their gradients */
    float *gates_h; /* cells with separate products: hidden part, then its gradients; else unused */
    const float *h_previous;
    const float *c_previous; /* cells with two states */
    float *h;
    float *c; /* cells with two states */
};

/* The plain step: the work after the products with input and hidden state, one sequence at a time. If a gate acts on h
 * before its product, the hidden product has two parts: the first first_gates gates; then `first` writes to row->h the
 * input of the second part, the other gates. */
struct cell_plain {
    size_t first_gates; /* 0: one product for all gates */
    void (*first)(const struct plain_row *row);
    void (*last)(const struct plain_row *row);
};

struct cell {
    const char *name;       /* in config.json, options and messages */
    size_t gates;           /* G */
    const char *gate_names; /* a letter each, in our order */
    size_t states;          /* 1: h; 2: h and c */

    bool gated;            /* it has gates, whose activation is s */
    bool mixes;            /* h' is a mixture of new and old h, weighted by a gate */
    bool apart;            /* input and hidden product are separate, each with a bias (bias_hh is the second) */
    bool may_reset_before; /* it has the variant architecture.reset_before, with one bias */
    int forget_gate;       /* the gate whose bias starts at 1; -1: none */

    const char *torch; /* PyTorch's class, with gates in lstmd's order; NULL: PyTorch has no such cell */
    struct cell_keras keras;

    struct cell_plain plain, plain_reset_before;

    /* The kernels for f = tanh, s = sigmoid. NULL: there is no fused one, and every step is a plain step. */
    void (*step)(const struct kernels *kernels, const struct kernel_step *step);
    /* [n]: the n-th gate in a row of the input product, in the order of `step` and `forward`. A row of the hidden
     * product has lstmd's order. */
    unsigned char input_order[CELL_MAX_GATES];

    /* Both NULL: the cell generates only. blocks: units / 16. The caller has put the input part into gates_x. If the
     * products are separate, the hidden part is in gates_h; else it is added to gates_x. */
    void (*forward)(const struct kernels *kernels, size_t blocks, const struct cell_rows *rows);
    /* dh [n][Hp]: gradient of h. dc [n][Hp]: for two states: before, the gradient of c from the next step; after, that
     * of c_previous. For a cell that mixes: after, the gradient that reaches h_previous directly. Else unused. */
    void (*backward)(const struct kernels *kernels, size_t blocks, const struct cell_rows *rows, const float *dh,
                     float *dc);
};

extern const struct cell cell_table[CELL_COUNT];

/* The names of the cells that train, NULL at the end: the choices of an option. */
extern const char *const cell_trained_names[];

const char *cell_name(enum cell_kind cell);
bool cell_parse(const char *name, enum cell_kind *cell);

#endif
