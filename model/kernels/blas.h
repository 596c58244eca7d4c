/* OpenBLAS as a backend: a table of kernels whose large products the library multiplies.
 *
 * It is not linked. blas_load() loads it when a run wants it, so a program that does not use it has neither its memory
 * nor its start. The library gets one thread: ours divide the work. On x86-64 it is told which processor this is
 * (OPENBLAS_CORETYPE) by the instructions that there are: a library that is older than the processor may take it for
 * one of 2004. A core that the environment names stays.
 *
 * What it multiplies in training: the gradients of the weights and all products that do not depend on the recurrence.
 * The products of a time step only where our kernels are generic and there are streams enough: elsewhere ours are
 * faster. In reading: the input products and logits of a piece of a text (model/generate/step_piece.h). All else stays
 * with our kernels. Sums are in the library's order: the same bits for the same library, core, shapes and threads, but
 * not our kernels'.
 *
 * The library is one per process, and so is what this file knows of it. The environment is changed when it is loaded,
 * so a daemon loads it before it has threads, or forbids it. All functions are thread-safe.
 */
#ifndef LSTMD_MODEL_KERNELS_BLAS_H
#define LSTMD_MODEL_KERNELS_BLAS_H

#include <stdbool.h>
#include <stdint.h>

#include "base/error.h"
#include "model/kernels/kernels.h"

/* Who multiplies. Values of the settings `products`, in the order of products_choices. */
enum products {
    PRODUCTS_AUTO,    /* the library where our kernels are generic and it can be loaded */
    PRODUCTS_OWN,     /* our kernels */
    PRODUCTS_OPENBLAS /* the library; an error where it cannot be loaded */
};
extern const char *const products_choices[];

/* From so many streams in a thread on, the library multiplies the products of a step, too. */
#define PRODUCTS_STREAMS 4

/* Makes auto a choice, and loads the library where it is chosen. auto takes the library where our kernels are generic
 * and it can be loaded: it looks at no clock. Errors: those of blas_load(), where `wanted` names the library. */
bool products_choose(enum products wanted, const struct kernels *kernels, enum products *chosen, struct error *err);

/* Loads the library unless that is done. ERROR_INVALID: it is not there, is no OpenBLAS, takes this processor for an
 * ancient one, or is forbidden; the message says what helps. */
bool blas_load(struct error *err);

/* No library is loaded from now on; `reason` (static) ends the message of blas_load(). */
void blas_forbid(const char *reason);

/* "openblas 0.3.21 Haswell": the library, its version and the core that its kernels are for. NULL: it is not loaded. */
const char *blas_name(void);

/* How often it has multiplied. */
uint64_t blas_calls(void);

/* What kernels->inputs() does, with the library's products: rows of float32 weights alone. The bits of a row depend on
 * its place among the rows. The library must be loaded. */
void blas_inputs(const struct kernel_inputs *p);

/* `own` with the library's products, for threads of so many streams. It must be loaded. */
void blas_kernels(const struct kernels *own, size_t streams, struct kernels *out);

#endif
