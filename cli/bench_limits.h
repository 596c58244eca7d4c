/* This machine's limits: the highest rates of single-precision arithmetic and of reading memory. Other figures are
 * compared with them.
 */
#ifndef LSTMD_CLI_BENCH_LIMITS_H
#define LSTMD_CLI_BENCH_LIMITS_H

#include <stdbool.h>
#include <stddef.h>

#include "base/arena.h"
#include "base/error.h"
#include "cli/bench.h"
#include "model/kernels/kernels.h"

/* Multiply-adds in registers, on each thread; the work's units are floating-point operations. Close with
 * bench_peak_close(), also after a failure. */
struct bench_peak {
    struct bench_work work;
    const struct kernels *kernels;
    float sums[BENCH_MAX_THREADS]; /* results; they stop the compiler from removing the arithmetic */
};
bool bench_peak_open(struct bench_peak *peak, const struct kernels *kernels, size_t threads, struct error *err);
void bench_peak_close(struct bench_peak *peak);

/* The square product of training (product_over_rows), each thread with its own matrices; the same units. Close with
 * bench_product_close(), also after a failure. */
#define BENCH_PRODUCT_SIZE 1024 /* N: large enough for libraries to reach their full speed */
struct bench_product {
    struct bench_work work;
    const struct kernels *kernels;
    float *a, *b, *c, *scratch; /* [threads][N][N]; scratch [threads][KERNEL_SCRATCH(N / 16)] */
    struct arena arena;
};
bool bench_product_open(struct bench_product *product, const struct kernels *kernels, size_t threads,
                        struct error *err);
void bench_product_close(struct bench_product *product);

/* Vectorised sums over a buffer per thread; the work's units are bytes. Close with bench_read_close(), also after a
 * failure. */
struct bench_read {
    struct bench_work work;
    const struct kernels *kernels;
    size_t floats; /* per thread */
    float *buffers;
    double *sums; /* one cache line per thread; stops the compiler from removing the reads */
    struct arena arena;
};
bool bench_read_open(struct bench_read *read, const struct kernels *kernels, size_t threads, size_t bytes,
                     struct error *err);
void bench_read_close(struct bench_read *read);

/* The levels of memory, with a size that surely fits each of them. */
struct bench_level {
    const char *name; /* "L1", "L2", "L3", "DRAM" */
    size_t cache;     /* bytes of the cache, 0 for DRAM */
    size_t bytes;     /* to read */
};
#define BENCH_LEVELS 4
void bench_levels(struct bench_level levels[BENCH_LEVELS]);

#endif
