#include "model/blas.h"

#include <cblas.h>

void blas_initialise(void)
{
    openblas_set_num_threads(1);
}

void blas_product_transposed(size_t m, size_t n, size_t k, const float *a, size_t lda, const float *b, size_t ldb,
                             float *c, size_t ldc, bool accumulate)
{
    cblas_sgemm(CblasRowMajor, CblasTrans, CblasNoTrans, (blasint)m, (blasint)n, (blasint)k, 1.0f, a, (blasint)lda, b,
                (blasint)ldb, accumulate ? 1.0f : 0.0f, c, (blasint)ldc);
}

void blas_product(size_t m, size_t n, size_t k, const float *a, const float *b, float *c)
{
    cblas_sgemm(CblasRowMajor, CblasNoTrans, CblasNoTrans, (blasint)m, (blasint)n, (blasint)k, 1.0f, a, (blasint)k, b,
                (blasint)n, 0.0f, c, (blasint)n);
}

const char *blas_description(void)
{
    return openblas_get_config();
}
