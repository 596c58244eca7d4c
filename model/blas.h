/* The one door to OpenBLAS: large products of training, and the measure of what this machine can do.
 * Every call runs on the calling thread alone (blas_initialise() sees to that), so worker threads may call at the same
 * time. Sizes are below 2^31, which the callers' bounds guarantee.
 */
#ifndef LSTMD_MODEL_BLAS_H
#define LSTMD_MODEL_BLAS_H

#include <stdbool.h>
#include <stddef.h>

/* One BLAS thread per caller. Call before the first product; again is harmless. */
void blas_initialise(void);

/* c[m][n] = (accumulate ? c : 0) + sum over k of a[k][m] * b[k][n]. Row-major; lda, ldb, ldc: floats from row to row.
 */
void blas_product_transposed(size_t m, size_t n, size_t k, const float *a, size_t lda, const float *b, size_t ldb,
                             float *c, size_t ldc, bool accumulate);

/* c[m][n] = sum over k of a[m][k] * b[k][n]: the plain product, for benchmarks. */
void blas_product(size_t m, size_t n, size_t k, const float *a, const float *b, float *c);

/* Library version and the CPU kernels it chose, for reports. */
const char *blas_description(void);

#endif
