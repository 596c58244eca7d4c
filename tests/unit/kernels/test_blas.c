/* OpenBLAS as a backend: its products equal those of the reference loops. If nobody wants it, lstmd neither loads nor
 * calls it. */
#include <dlfcn.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/rng.h"
#include "model/kernels/blas.h"
#include "tests/unit/support.h"

#define BLOCK KERNEL_BLOCK

static bool is_mapped(void)
{
    void *handle = dlopen("libopenblas.so.0", RTLD_LAZY | RTLD_NOLOAD);
    if (handle) dlclose(handle);
    return handle;
}

/* These run before anything loads the library. */
static void test_blas_is_not_loaded_where_nobody_wants_it(void **state)
{
    (void)state;
    enum products chosen;
    assert_true(products_choose(PRODUCTS_OWN, kernels_select("portable"), &chosen, NULL));
    assert_int_equal(chosen, PRODUCTS_OWN);
    if (!kernels_select("auto")->generic) {
        assert_true(products_choose(PRODUCTS_AUTO, kernels_select("auto"), &chosen, NULL));
        assert_int_equal(chosen, PRODUCTS_OWN);
    }
    assert_null(blas_name());
    assert_false(is_mapped());
}

static void test_blas_that_is_forbidden_is_not_loaded(void **state)
{
    (void)state;
    struct error err = {0};
    enum products chosen;
    blas_forbid("nobody may");
    assert_false(products_choose(PRODUCTS_OPENBLAS, kernels_select("ref"), &chosen, &err));
    assert_int_equal(err.code, ERROR_INVALID);
    assert_string_equal(err.message, "products openblas: nobody may");
    assert_true(products_choose(PRODUCTS_AUTO, kernels_select("ref"), &chosen, NULL));
    assert_int_equal(chosen, PRODUCTS_OWN);
    assert_false(is_mapped());
    blas_forbid(NULL);
}

static void load(void)
{
    struct error err = {0};
    if (!blas_load(&err)) fail_msg("%s", err.message);
}

static void test_blas_knows_the_processor_and_starts_no_threads(void **state)
{
    (void)state;
    char version[32], core[32];
    const size_t threads = count_entries("/proc/self/task");
    load();
    assert_true(is_mapped());
    assert_int_equal(count_entries("/proc/self/task"), threads);
    assert_int_equal(sscanf(blas_name(), "openblas %31s %31s", version, core), 2);
#if defined(__x86_64__)
    if (__builtin_cpu_supports("avx2")) assert_string_not_equal(core, "Prescott");
#endif
}

static void test_blas_is_the_choice_where_kernels_are_generic(void **state)
{
    (void)state;
    enum products chosen;
    assert_true(products_choose(PRODUCTS_AUTO, kernels_select("portable"), &chosen, NULL));
    assert_int_equal(chosen, PRODUCTS_OPENBLAS);
    assert_true(products_choose(PRODUCTS_OPENBLAS, kernels_select("auto"), &chosen, NULL));
    assert_int_equal(chosen, PRODUCTS_OPENBLAS);
}

/* ------------------------------------------------------------------ products */

static float *random_floats(struct rng *rng, size_t n)
{
    float *memory = malloc(n * sizeof *memory);
    assert_non_null(memory);
    for (size_t i = 0; i < n; i++) memory[i] = (float)rng_normal(rng);
    return memory;
}

static float *copy_floats(const float *from, size_t n)
{
    float *memory = malloc(n * sizeof *memory);
    assert_non_null(memory);
    return memcpy(memory, from, n * sizeof *memory);
}

static void assert_close(const float *a, const float *b, size_t n, double tolerance)
{
    for (size_t i = 0; i < n; i++)
        if (!(fabs((double)a[i] - (double)b[i]) <= tolerance * (1 + fabs((double)b[i]))))
            fail_msg("[%zu]: %g is not %g", i, (double)a[i], (double)b[i]);
}

/* [K][16 * blocks] as packed blocks [blocks][K][16]. */
static float *pack(const float *plain, size_t K, size_t blocks)
{
    float *packed = malloc((K * blocks * BLOCK + 1) * sizeof *packed);
    assert_non_null(packed);
    for (size_t j = 0; j < blocks; j++)
        for (size_t k = 0; k < K; k++)
            memcpy(packed + (j * K + k) * BLOCK, plain + (k * blocks + j) * BLOCK, BLOCK * sizeof *packed);
    return packed;
}

/* Mostly little; now and then more than the library is given at once. */
static size_t size_of(struct rng *rng, int round, int which)
{
    return round % 8 == which ? 513 + rng_below(rng, 600) : 1 + rng_below(rng, 70);
}

static void free_all(float **all, size_t count)
{
    for (size_t i = 0; i < count; i++) free(all[i]);
}

static void check_product(const struct kernels *with, struct rng *rng, bool step)
{
    const struct kernels *ref = kernels_select("ref");
    for (int round = 0; round < 40; round++) {
        const size_t M = size_of(rng, round, 0), K = round == 5 ? 0 : size_of(rng, round, 1);
        const size_t blocks = round % 8 == 2 ? 33 : 1 + rng_below(rng, 5), N = blocks * BLOCK;
        const size_t ldx = K + 1 + rng_below(rng, 9), ldy = N + rng_below(rng, 9);
        const bool accumulate = rng_below(rng, 2) == 1;
        float *x = random_floats(rng, M * ldx), *plain = random_floats(rng, K * N + 1);
        float *packed = pack(plain, K, blocks), *y = random_floats(rng, M * ldy), *expected = copy_floats(y, M * ldy);
        struct kernel_product product = {M, blocks, K, x, ldx, packed, K * BLOCK, expected, ldy, accumulate};
        ref->product(&product);
        product.packed = plain;
        product.stride = 0;
        product.y = y;
        (step ? with->product : with->product_of_window)(&product);
        assert_close(y, expected, M * ldy, 2e-5 + 1e-7 * (double)K);
        free_all((float *[]){x, plain, packed, y, expected}, 5);
    }
}

static void test_blas_products_equal_the_reference(void **state)
{
    (void)state;
    struct kernels with, few;
    struct rng rng;
    load();
    rng_seed(&rng, 7, 1);
    blas_kernels(kernels_select("auto"), PRODUCTS_STREAMS, &with);
    assert_true(with.plain_window);
    assert_int_equal(with.plain_step, kernels_select("auto")->generic);
    check_product(&with, &rng, false);
    blas_kernels(kernels_select("portable"), PRODUCTS_STREAMS, &with);
    assert_true(with.plain_step && with.plain_window);
    blas_kernels(kernels_select("portable"), PRODUCTS_STREAMS - 1, &few);
    assert_true(!few.plain_step && few.plain_window && few.product == kernels_select("portable")->product);
    check_product(&with, &rng, true);
}

static void test_blas_products_over_rows_equal_the_reference(void **state)
{
    (void)state;
    struct kernels with;
    struct rng rng;
    load();
    rng_seed(&rng, 7, 2);
    blas_kernels(kernels_select("auto"), PRODUCTS_STREAMS, &with);
    for (int round = 0; round < 40; round++) {
        const size_t M = size_of(&rng, round, 0), K = size_of(&rng, round, 1), blocks = 1 + rng_below(&rng, 5);
        const size_t lda = M + rng_below(&rng, 9), ldb = blocks * BLOCK + rng_below(&rng, 9), ldc = ldb + 3;
        const bool accumulate = rng_below(&rng, 2) == 1;
        float *a = random_floats(&rng, K * lda), *b = random_floats(&rng, K * ldb);
        float *c = random_floats(&rng, M * ldc), *expected = copy_floats(c, M * ldc);
        struct kernel_product_over_rows product = {M, blocks, K, a, lda, b, ldb, expected, ldc, accumulate, NULL};
        kernels_select("ref")->product_over_rows(&product);
        product.c = c;
        with.product_over_rows(&product);
        assert_close(c, expected, M * ldc, 1e-6 * (double)(K + 1));
        free_all((float *[]){a, b, c, expected}, 4);
    }
}

static void test_blas_counts_its_calls(void **state)
{
    (void)state;
    struct kernels with;
    static float x[BLOCK], y[BLOCK], weights[BLOCK * BLOCK];
    load();
    blas_kernels(kernels_select("portable"), PRODUCTS_STREAMS, &with);
    const uint64_t before = blas_calls();
    const struct kernel_product product = {1, 1, BLOCK, x, BLOCK, weights, 0, y, BLOCK, false};
    with.product(&product);
    with.product_of_window(&product);
    with.product_over_rows(&(struct kernel_product_over_rows){1, 1, 1, x, BLOCK, x, BLOCK, y, BLOCK, false, NULL});
    assert_int_equal(blas_calls(), before + 3);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_blas_is_not_loaded_where_nobody_wants_it),
        cmocka_unit_test(test_blas_that_is_forbidden_is_not_loaded),
        cmocka_unit_test(test_blas_knows_the_processor_and_starts_no_threads),
        cmocka_unit_test(test_blas_is_the_choice_where_kernels_are_generic),
        cmocka_unit_test(test_blas_products_equal_the_reference),
        cmocka_unit_test(test_blas_products_over_rows_equal_the_reference),
        cmocka_unit_test(test_blas_counts_its_calls),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
