/* The kernels of each instruction set, by name: kernels_avx2_product and so on. kernels.c makes tables of them. An
 * instruction set has its kernels only in a program that is built for its architecture.
 */
#ifndef LSTMD_MODEL_KERNELS_TABLES_H
#define LSTMD_MODEL_KERNELS_TABLES_H

#include "model/kernels/kernels.h"

/* X(set, name) for the members of struct kernels that are functions. Those of step.c stand apart: avx512vnni has its
 * own, and all others are those of avx512. */
#define KERNELS_OF_STEPS(X, set) X(set, lstm_step) X(set, gru_step) X(set, rnn_step) X(set, project) X(set, inputs)
#define KERNELS_BESIDE_STEPS(X, set)                                                                                   \
    X(set, product)                                                                                                    \
    X(set, product_over_rows)                                                                                          \
    X(set, lstm_forward)                                                                                               \
    X(set, lstm_backward)                                                                                              \
    X(set, gru_forward)                                                                                                \
    X(set, gru_backward)                                                                                               \
    X(set, rnn_forward)                                                                                                \
    X(set, rnn_backward)                                                                                               \
    X(set, quantize)                                                                                                   \
    X(set, cross_entropy)                                                                                              \
    X(set, transpose)                                                                                                  \
    X(set, add)                                                                                                        \
    X(set, sum_of_squares)                                                                                             \
    X(set, update_sgd)                                                                                                 \
    X(set, update_rmsprop)                                                                                             \
    X(set, update_adam)                                                                                                \
    X(set, multiply_add)                                                                                               \
    X(set, exp)                                                                                                        \
    X(set, tanh)                                                                                                       \
    X(set, sigmoid)

/* A kernel has the type of its member. */
#define DECLARE_KERNEL(set, name) extern __typeof__(*((const struct kernels *)0)->name) kernels_##set##_##name;

KERNELS_OF_STEPS(DECLARE_KERNEL, portable)
KERNELS_BESIDE_STEPS(DECLARE_KERNEL, portable)
#if defined(__x86_64__)
KERNELS_OF_STEPS(DECLARE_KERNEL, avx2)
KERNELS_BESIDE_STEPS(DECLARE_KERNEL, avx2)
KERNELS_OF_STEPS(DECLARE_KERNEL, avx512)
KERNELS_BESIDE_STEPS(DECLARE_KERNEL, avx512)
KERNELS_OF_STEPS(DECLARE_KERNEL, avx512vnni)
#elif defined(__aarch64__)
KERNELS_OF_STEPS(DECLARE_KERNEL, neon)
KERNELS_BESIDE_STEPS(DECLARE_KERNEL, neon)
#endif
#undef DECLARE_KERNEL

extern const struct kernels kernels_ref;

#endif
