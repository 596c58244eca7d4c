/* The arithmetic that must be fast: packed products, gate non-linearities, fused steps, losses and updates.
 *
 * There is one table of functions per instruction set; kernels_select() chooses one for the CPU: ref (plain loops: the
 * specification), portable (vectors of 4 that any compiler knows), avx2 (AVX2 + FMA), avx512 (AVX-512 F, VL, DQ, BW),
 * avx512vnni (and VNNI), neon (arm64). Everything above this header reads like the equations. All functions are pure:
 * thread-safe, no allocation, no errors.
 *
 * Layouts. A block is KERNEL_BLOCK = 16 floats, one cache line. H and E are padded to whole blocks (Hp, Ep); the
 * padding is zero and stays zero.
 *   packed matrix of N outputs and K inputs: N/16 blocks, each [K][16]: block j, row k holds W[16j .. 16j+15][k].
 *   gates: the G gates of 16 units lie together: [Hp/16][G][16], so that a cell's elementwise part finds what it needs
 *   in one place while it is still in the first-level cache.
 *
 * Summation order: every output of the products, of the fused steps and of project() is one accumulator over k = 0 ..
 * K-1 (of the input, then of the hidden state), whatever M is and whichever other rows are there, so a sequence gets
 * the same bits alone and beside others.
 */
#ifndef LSTMD_MODEL_KERNELS_KERNELS_H
#define LSTMD_MODEL_KERNELS_KERNELS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define KERNEL_BLOCK 16

/* Scratch of product_over_rows(): the rows and the columns that are in work at once. */
#define KERNEL_DEPTH           256
#define KERNEL_STRIP           48
#define KERNEL_SCRATCH(blocks) (KERNEL_DEPTH * (KERNEL_STRIP + (blocks)*KERNEL_BLOCK))

/* The format of the weights that stepping multiplies. */
enum kernel_format {
    KERNEL_F32,  /* float */
    KERNEL_BF16, /* bfloat16: the upper half of a float */
    KERNEL_INT8, /* an integer, and a scale per row */
};

/* A matrix of N outputs and K inputs for stepping. The blocks of 16 outputs that belong together (the gates of 16
 * units; the output layer: each block by itself) form a group of `group` blocks: F32:  float [N/16/group][K][group][16]
 *   BF16: uint16_t [N/16/group][K/2][group][16][2], the upper halves of floats
 *   INT8: int8_t, the same places as BF16; not below -KERNEL_INT8_MAX
 * An input row is float [K], for INT8 int16_t [K], with no value beyond KERNEL_INT8_LIMIT(K) in magnitude. */
struct kernel_matrix {
    enum kernel_format format;
    size_t inputs;       /* K, whole blocks of 16; 0: there is no product, and nobody reads the rest */
    const void *weights; /* 4-byte aligned at least */
    const float *scale;  /* INT8: [N] the factor of each sum of integers */
};

/* Sums of INT8 are exact: K products of a weight and an input stay within 32 bits (K * 127 * limit < 2^31; up to 516
 * inputs of 16 bits, 1024 of 15, 16384 of 11). */
#define KERNEL_INT8_MAX      127
#define KERNEL_INT8_LIMIT(K) ((K)*KERNEL_INT8_MAX > 65535 ? (int32_t)(INT32_MAX / ((K)*KERNEL_INT8_MAX)) : 32767)

/* One step of one layer for `rows` sequences (one at least), each with its own places in memory. A row of gates is
 * [blocks][G][16] floats. input and hidden have the same format. h must not overlap anything that is read; c is updated
 * in place. */
struct kernel_step {
    size_t rows, blocks;             /* units: 16 * blocks */
    struct kernel_matrix input;      /* W_ih: inputs 0 for a one-hot input */
    struct kernel_matrix hidden;     /* W_hh */
    const float *const *start;       /* [rows]: a row of gates: the input bias, or the one-hot input's table row */
    const float *bias_hh;            /* GRU: [blocks][3][16] in the order r z q */
    const void *const *x;            /* [rows]: input row of `input`; unused for a one-hot input */
    const void *const *hidden_input; /* [rows]: input row of `hidden`: h_previous, for INT8 its integers */
    const float *const *h_previous;  /* [rows]: GRU */
    float *const *h;                 /* [rows] */
    float *const *c;                 /* [rows]: LSTM */
    float *const *gates; /* [rows]: where a row of the gates' activations goes, in the order of `start`; NULL:
                            nobody asks. The RNN writes none: its gate is h */
};

/* The input products of one layer for several time steps at once: y[m] = start + W x[m], rows of gates
 * [blocks][gates][16] (the output layer: one gate). Its bits are those of a step's sums before the hidden product, so a
 * step that starts with y[m] and has no input product ends as one that has it. The GRU's step adds the r and z of
 * bias_hh before the input product: `start` must hold them, and that step must not add them again. */
struct kernel_inputs {
    size_t rows, blocks, gates;         /* gates: 1, 3 (GRU) or 4 (LSTM) */
    const struct kernel_matrix *matrix; /* groups of `gates` blocks */
    const float *start;                 /* [blocks][gates][16] */
    const void *x;                      /* [rows][ldx] input rows */
    size_t ldx;                         /* in floats; INT8: in int16_t */
    float *y;                           /* [rows][ldy] */
    size_t ldy;
};

/* y[m][16j .. 16j+15] (+)= sum over k of x[m][k] * W[k], for m < M and j < blocks. */
struct kernel_product {
    size_t M, blocks, K;
    const float *x; /* [M][ldx] */
    size_t ldx;
    const float *packed; /* [blocks][K][16], `stride` floats from block to block */
    size_t stride;
    float *y; /* [M][ldy] */
    size_t ldy;
    bool accumulate; /* adds to what y holds; else overwrites it */
};

/* c[m][16j .. 16j+15] (+)= sum over k of a[k][m] * b[k][..], for m < M and j < blocks: a gradient of weights, summed
 * over K rows. */
struct kernel_product_over_rows {
    size_t M, blocks, K;
    const float *a; /* [K][lda] */
    size_t lda;
    const float *b; /* [K][ldb] */
    size_t ldb;
    float *c; /* [M][ldc] */
    size_t ldc;
    bool accumulate; /* adds to what c holds; else overwrites it */
    float *scratch;  /* KERNEL_SCRATCH(blocks) floats */
};

/* The elementwise part of a cell in training: M rows, 16 * blocks units. Rows of gates are ldg floats apart, rows of
 * all else ldh. A cell reads and writes only what its kernel names. */
struct kernel_cell {
    size_t M, blocks;
    size_t ldg, ldh;
    float *gates;   /* [M][blocks][G][16] */
    float *gates_h; /* GRU: [M][blocks][3][16] */
    const float *h_previous, *c_previous;
    float *h, *c;       /* c may be c_previous */
    const float *dh;    /* gradient of h */
    float *dc;          /* LSTM: in: the gradient that comes from the next step; out: the gradient of c_previous */
    float *dh_previous; /* GRU: out: the part z * dh of the gradient of h_previous */
};

/* An optimizer's update of n parameters. The gradients are multiplied by `scale` (the clipping) first. Source of each
 * formula: model/train/optimizer.h. */
struct kernel_update {
    size_t n;
    float *w;             /* [n] parameters */
    const float *g;       /* [n] gradients */
    float *mean, *square; /* [n] each: SGD has only a mean (the velocity), RMSprop only a square, Adam both */
    float scale, rate;
    float beta1, beta2; /* how much of mean, of square stays: SGD's momentum is beta1, RMSprop's decay is beta2 */
    float epsilon;      /* RMSprop, Adam */
    float correction1, correction2, weight_decay; /* Adam */
};

#define KERNEL_MULTIPLY_ADDS (12 * KERNEL_BLOCK)

#define KERNEL_WINDOW_ROWS 96 /* of our own kernels: they stay in the second-level cache */

struct kernels {
    const char *name;
    bool generic; /* written for no instruction set: a library multiplies several times as fast (blas.h) */

    /* Where a library multiplies, the weights of product() (plain_step) and of product_of_window() (plain_window) are
     * not packed: they are [K][16 * blocks], and the stride says nothing. */
    bool plain_step, plain_window;
    size_t window_rows; /* how many rows product_of_window() is given at most, so that they stay in a cache */

    void (*product)(const struct kernel_product *product);
    /* The same for products that do not depend on the recurrence: those of the rows of a whole window. */
    void (*product_of_window)(const struct kernel_product *product);
    void (*product_over_rows)(const struct kernel_product_over_rows *product);

    /* Forward, in place. gates: pre-activations i f g o -> activations; c_previous -> c, h. */
    void (*lstm_forward)(const struct kernel_cell *operands);
    /* gates: activations -> gradients of the pre-activations; c_previous, c, dh, dc -> dc. */
    void (*lstm_backward)(const struct kernel_cell *operands);

    /* gates: W_ih x + b in the order n r z -> activations n r z. gates_h: W_hh h + b_hh in the order r z q (q: the part
     * inside n); q stays. h_previous -> h. */
    void (*gru_forward)(const struct kernel_cell *operands);
    /* gates -> gradients dn dr dz; gates_h -> gradients dr dz dq; h_previous, dh -> dh_previous. */
    void (*gru_backward)(const struct kernel_cell *operands);

    /* gates: pre-activation -> h, in both places; then h, dh -> gradient of the pre-activation. */
    void (*rnn_forward)(const struct kernel_cell *operands);
    void (*rnn_backward)(const struct kernel_cell *operands);

    /* The product of input and hidden state with the weights, the gates and the new state in one go. Gates: LSTM i f g
     * o; GRU n r z of the input and r z q of the hidden product; RNN one. */
    void (*lstm_step)(const struct kernel_step *step);
    void (*gru_step)(const struct kernel_step *step);
    void (*rnn_step)(const struct kernel_step *step);

    /* y[m] = bias + W x[m], 16 * blocks outputs each: the output layer. */
    void (*project)(size_t rows, size_t blocks, const struct kernel_matrix *matrix, const float *bias,
                    const void *const *x, float *const *y);

    void (*inputs)(const struct kernel_inputs *inputs);

    /* out[i] = x[i] * factor to the nearest integer (half to even), at most `limit` (<= 32767) in magnitude. */
    void (*quantize)(size_t n, const float *x, float factor, int32_t limit, int16_t *out);

    /* Softmax cross-entropy of one row of V logits against `target`: returns -log p(target) in nats and, unless
     * gradient is NULL, writes gradient[v] = scale * (p[v] - [v == target]) (gradient may be logits). */
    double (*cross_entropy)(size_t V, const float *logits, uint32_t target, float scale, float *gradient);

    /* out[c][r] = in[r][c] for rows x columns; ldi, ldo: floats from row to row of in, out. */
    void (*transpose)(size_t rows, size_t columns, const float *in, size_t ldi, float *out, size_t ldo);

    /* y += x; sum of squares (float lanes, double total). */
    void (*add)(size_t n, const float *x, float *y);
    double (*sum_of_squares)(size_t n, const float *x);

    void (*update_sgd)(const struct kernel_update *update);
    void (*update_rmsprop)(const struct kernel_update *update);
    void (*update_adam)(const struct kernel_update *update);

    /* n times KERNEL_MULTIPLY_ADDS multiply-adds with nothing read or written: what the processor can do at most.
     * Returns a value that depends on all of them. For benchmarks. */
    float (*multiply_add)(size_t n);

    /* out[i] = f(in[i]); in and out may be the same. Maximum errors: kernels.c. For tests and benchmarks. */
    void (*exp)(size_t n, const float *in, float *out);
    void (*tanh)(size_t n, const float *in, float *out);
    void (*sigmoid)(size_t n, const float *in, float *out);
};

/* The best table for this CPU, or the one named ("auto": the best). NULL where the name is unknown or the CPU lacks
 * its instructions; kernels_names() lists what this machine can run, separated by commas. */
const struct kernels *kernels_select(const char *name);
const char *kernels_names(void);

#endif
