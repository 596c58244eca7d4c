/* Compares every vector kernel that this machine can run with the reference loops, on random shapes. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/rng.h"
#include "model/kernels/kernels.h"

#define BLOCK KERNEL_BLOCK

static const char *const names[] = {"portable", "avx2", "avx512", "avx512vnni", "neon"};
#define NAMES (sizeof names / sizeof names[0])

static const struct kernels *reference(void)
{
    return kernels_select("ref");
}

/* Returns n random floats around zero, at an address that is aligned only to 4 bytes. release() frees them. */
static float *random_floats(struct rng *rng, size_t n, double scale)
{
    float *memory = malloc((n + 1) * sizeof(float));
    assert_non_null(memory);
    for (size_t i = 0; i < n; i++) memory[i + 1] = (float)(scale * rng_normal(rng));
    return memory + 1;
}

static float *copy_floats(const float *from, size_t n)
{
    float *memory = malloc((n + 1) * sizeof(float));
    assert_non_null(memory);
    memcpy(memory + 1, from, n * sizeof(float));
    return memory + 1;
}

static void release(float *memory)
{
    free(memory - 1);
}

static void assert_close(const float *a, const float *b, size_t n, double tolerance)
{
    for (size_t i = 0; i < n; i++) {
        double limit = tolerance * (1 + fabs((double)b[i]));
        if (!(fabs((double)a[i] - (double)b[i]) <= limit))
            fail_msg("[%zu]: %g is not %g", i, (double)a[i], (double)b[i]);
    }
}

/* Runs `body` for every vector kernel of this machine. */
static void for_each_kernel(void (*body)(const struct kernels *kernels, struct rng *rng))
{
    size_t run = 0;
    for (size_t i = 0; i < NAMES; i++) {
        const struct kernels *kernels = kernels_select(names[i]);
        struct rng rng;
        rng_seed(&rng, 7, i);
        if (kernels == NULL) continue;
        body(kernels, &rng);
        run++;
    }
    assert_true(run > 0);
}

/* ------------------------------------------------------------------ products */

/* Mostly few; now and then more than a product takes at once. */
static size_t inputs_of(struct rng *rng, int round)
{
    return round % 10 == 0 ? 1000 + rng_below(rng, 1500) : 1 + rng_below(rng, 70);
}

static void check_product(const struct kernels *kernels, struct rng *rng)
{
    for (int round = 0; round < 150; round++) {
        const size_t M = 1 + rng_below(rng, 99), blocks = 1 + rng_below(rng, 19), K = inputs_of(rng, round);
        const size_t ldx = K + rng_below(rng, 9), ldy = blocks * BLOCK + rng_below(rng, 9);
        const size_t stride = K * BLOCK + rng_below(rng, 2) * BLOCK;
        const bool accumulate = rng_below(rng, 2) == 1;
        float *x = random_floats(rng, M * ldx, 1), *packed = random_floats(rng, blocks * stride, 1);
        float *y = random_floats(rng, M * ldy, 1), *expected = copy_floats(y, M * ldy);
        struct kernel_product product = {M, blocks, K, x, ldx, packed, stride, expected, ldy, accumulate};
        reference()->product(&product);
        product.y = y;
        kernels->product(&product);
        assert_close(y, expected, M * ldy, 2e-5 + 1e-7 * (double)K);
        release(x);
        release(packed);
        release(y);
        release(expected);
    }
}

static void check_product_over_rows(const struct kernels *kernels, struct rng *rng)
{
    for (int round = 0; round < 60; round++) {
        const size_t M = 1 + rng_below(rng, 120), blocks = 1 + rng_below(rng, 5);
        const size_t K = 1 + rng_below(rng, round % 4 == 0 ? 2 * KERNEL_DEPTH + 5 : 40);
        const size_t lda = M + rng_below(rng, 9), ldb = blocks * BLOCK + rng_below(rng, 9),
                     ldc = ldb + rng_below(rng, 3);
        const bool accumulate = rng_below(rng, 2) == 1;
        float *a = random_floats(rng, K * lda, 1), *b = random_floats(rng, K * ldb, 1);
        float *c = random_floats(rng, M * ldc, 1), *expected = copy_floats(c, M * ldc);
        float *scratch = random_floats(rng, KERNEL_SCRATCH(blocks), 1);
        struct kernel_product_over_rows product = {M, blocks, K, a, lda, b, ldb, expected, ldc, accumulate, NULL};
        reference()->product_over_rows(&product);
        product.c = c;
        product.scratch = scratch;
        kernels->product_over_rows(&product);
        assert_close(c, expected, M * ldc, 1e-6 * (double)(K + 1));
        float *loose[] = {a, b, c, expected, scratch};
        for (size_t i = 0; i < sizeof loose / sizeof loose[0]; i++) release(loose[i]);
    }
}

static void test_kernels_product_over_rows_equals_reference(void **state)
{
    (void)state;
    for_each_kernel(check_product_over_rows);
}

/* 12 times r = r / 2 + 1 from 0, 1, .. 11, in every lane. */
static void check_multiply_add(const struct kernels *kernels, struct rng *rng)
{
    (void)rng;
    assert_true(fabsf(kernels->multiply_add(100) - 24.0f) < 1e-4f);
}

static void test_kernels_multiply_adds_are_computed(void **state)
{
    (void)state;
    for_each_kernel(check_multiply_add);
}

static void test_kernels_product_equals_reference(void **state)
{
    (void)state;
    for_each_kernel(check_product);
}

static void check_same_bits(const struct kernels *kernels, struct rng *rng)
{
    for (int round = 0; round < 60; round++) {
        const size_t M = 1 + rng_below(rng, 65), blocks = 1 + rng_below(rng, 19), K = inputs_of(rng, round);
        const size_t row = rng_below(rng, M), width = blocks * BLOCK;
        float *x = random_floats(rng, M * K, 1), *packed = random_floats(rng, blocks * K * BLOCK, 1);
        float *together = random_floats(rng, M * width, 1), *alone = copy_floats(together, M * width);
        struct kernel_product product = {M, blocks, K, x, K, packed, K * BLOCK, together, width, true};
        kernels->product(&product);
        product.M = 1;
        product.x = x + row * K;
        product.y = alone + row * width;
        kernels->product(&product);
        assert_memory_equal(alone + row * width, together + row * width, width * sizeof(float));
        release(x);
        release(packed);
        release(together);
        release(alone);
    }
}

static void test_kernels_row_has_the_same_bits_alone_and_beside_others(void **state)
{
    (void)state;
    check_same_bits(reference(), &(struct rng){.state = {1, 2, 3, 4}});
    for_each_kernel(check_same_bits);
}

static void check_transpose(const struct kernels *kernels, struct rng *rng)
{
    for (int round = 0; round < 100; round++) {
        const size_t rows = 1 + rng_below(rng, 40), columns = 1 + rng_below(rng, 40);
        const size_t ldi = columns + rng_below(rng, 5), ldo = rows + rng_below(rng, 5);
        float *in = random_floats(rng, rows * ldi, 1);
        float *out = random_floats(rng, columns * ldo, 1), *expected = copy_floats(out, columns * ldo);
        reference()->transpose(rows, columns, in, ldi, expected, ldo);
        kernels->transpose(rows, columns, in, ldi, out, ldo);
        assert_memory_equal(out, expected, columns * ldo * sizeof(float));
        release(in);
        release(out);
        release(expected);
    }
}

static void test_kernels_transpose_equals_reference(void **state)
{
    (void)state;
    for_each_kernel(check_transpose);
}

/* ------------------------------------------------------------------ cells */

struct cell_data {
    size_t M, blocks, ldg, ldh;
    float *gates, *gates2, *before, *after, *out, *dh, *dc;
};

static struct cell_data random_cell(struct rng *rng, size_t gates)
{
    struct cell_data d = {.M = 1 + rng_below(rng, 9), .blocks = 1 + rng_below(rng, 5)};
    d.ldg = d.blocks * gates * BLOCK + rng_below(rng, 5);
    d.ldh = d.blocks * BLOCK + rng_below(rng, 5);
    d.gates = random_floats(rng, d.M * d.ldg, 2);
    d.gates2 = random_floats(rng, d.M * d.ldg, 2);
    d.before = random_floats(rng, d.M * d.ldh, 1);
    d.after = random_floats(rng, d.M * d.ldh, 1);
    d.out = random_floats(rng, d.M * d.ldh, 1);
    d.dh = random_floats(rng, d.M * d.ldh, 1);
    d.dc = random_floats(rng, d.M * d.ldh, 1);
    return d;
}

static struct cell_data copy_cell(const struct cell_data *d)
{
    struct cell_data copy = *d;
    copy.gates = copy_floats(d->gates, d->M * d->ldg);
    copy.gates2 = copy_floats(d->gates2, d->M * d->ldg);
    copy.before = copy_floats(d->before, d->M * d->ldh);
    copy.after = copy_floats(d->after, d->M * d->ldh);
    copy.out = copy_floats(d->out, d->M * d->ldh);
    copy.dh = copy_floats(d->dh, d->M * d->ldh);
    copy.dc = copy_floats(d->dc, d->M * d->ldh);
    return copy;
}

static void assert_cells_close(struct cell_data *a, struct cell_data *b)
{
    assert_close(a->gates, b->gates, a->M * a->ldg, 2e-6);
    assert_close(a->gates2, b->gates2, a->M * a->ldg, 2e-6);
    assert_close(a->after, b->after, a->M * a->ldh, 2e-6);
    assert_close(a->out, b->out, a->M * a->ldh, 2e-6);
    assert_close(a->dc, b->dc, a->M * a->ldh, 2e-6);
}

static void release_cell(struct cell_data *d)
{
    float *all[] = {d->gates, d->gates2, d->before, d->after, d->out, d->dh, d->dc};
    for (size_t i = 0; i < sizeof all / sizeof all[0]; i++) release(all[i]);
}

static struct kernel_cell operands_of(const struct cell_data *d)
{
    return (struct kernel_cell){.M = d->M,
                                .blocks = d->blocks,
                                .ldg = d->ldg,
                                .ldh = d->ldh,
                                .gates = d->gates,
                                .gates_h = d->gates2,
                                .h_previous = d->before,
                                .c_previous = d->before,
                                .h = d->out,
                                .c = d->after,
                                .dh = d->dh,
                                .dc = d->dc,
                                .dh_previous = d->dc};
}

static void run_lstm(const struct kernels *k, struct cell_data *d)
{
    const struct kernel_cell operands = operands_of(d);
    k->lstm_forward(&operands);
    k->lstm_backward(&operands);
}

static void run_gru(const struct kernels *k, struct cell_data *d)
{
    const struct kernel_cell operands = operands_of(d);
    k->gru_forward(&operands);
    k->gru_backward(&operands);
}

static void run_rnn(const struct kernels *k, struct cell_data *d)
{
    const struct kernel_cell operands = operands_of(d);
    k->rnn_forward(&operands);
    k->rnn_backward(&operands);
}

static void check_cells(const struct kernels *kernels, struct rng *rng)
{
    static const struct {
        size_t gates;
        void (*run)(const struct kernels *, struct cell_data *);
    } cells[] = {{4, run_lstm}, {3, run_gru}, {1, run_rnn}};
    for (size_t i = 0; i < 120; i++) {
        struct cell_data a = random_cell(rng, cells[i % 3].gates), b = copy_cell(&a);
        cells[i % 3].run(kernels, &a);
        cells[i % 3].run(reference(), &b);
        assert_cells_close(&a, &b);
        release_cell(&a);
        release_cell(&b);
    }
}

static void test_kernels_cells_equal_reference(void **state)
{
    (void)state;
    for_each_kernel(check_cells);
}

static void check_padding(const struct kernels *kernels, struct rng *rng)
{
    (void)rng;
    float gates[4 * BLOCK] = {0}, gates2[4 * BLOCK] = {0}, before[BLOCK] = {0}, after[BLOCK], out[BLOCK],
                    zero[BLOCK] = {0};
    float dh[BLOCK] = {0}, dc[BLOCK] = {0};
    struct kernel_cell operands = operands_of(&(struct cell_data){.M = 1,
                                                                  .blocks = 1,
                                                                  .ldg = 4 * BLOCK,
                                                                  .ldh = BLOCK,
                                                                  .gates = gates,
                                                                  .gates2 = gates2,
                                                                  .before = before,
                                                                  .after = after,
                                                                  .out = out,
                                                                  .dh = dh,
                                                                  .dc = dc});
    kernels->lstm_forward(&operands);
    assert_memory_equal(out, zero, sizeof zero);
    kernels->lstm_backward(&operands);
    for (size_t i = 0; i < 4 * BLOCK; i++) assert_true(gates[i] == 0);
    memset(gates, 0, sizeof gates);
    operands.ldg = 3 * BLOCK;
    kernels->gru_forward(&operands);
    assert_memory_equal(out, zero, sizeof zero);
}

static void test_kernels_padding_stays_zero(void **state)
{
    (void)state;
    check_padding(reference(), NULL);
    for_each_kernel(check_padding);
}

/* ------------------------------------------------------------------ functions */

static double exact_sigmoid(double x)
{
    return 1 / (1 + exp(-x));
}

struct range_check {
    void (*map)(size_t n, const float *in, float *out);
    double (*exact)(double x);
    double from, to, relative, absolute;
};

/* Half a million points over the whole range, and as many near zero. */
static void check_range(const struct range_check *check)
{
    enum { POINTS = 500000, CHUNK = 997 };
    float in[CHUNK], out[CHUNK];
    for (int pass = 0; pass < 2; pass++) {
        const double scale = pass == 0 ? 1 : 1e-3;
        for (size_t i = 0; i < POINTS; i += CHUNK) {
            for (size_t j = 0; j < CHUNK; j++)
                in[j] = (float)(scale * (check->from + (check->to - check->from) * (double)(i + j) / (POINTS + CHUNK)));
            check->map(CHUNK, in, out);
            for (size_t j = 0; j < CHUNK; j++) {
                double exact = check->exact((double)in[j]), error = fabs((double)out[j] - exact);
                if (!(error <= check->relative * fabs(exact) + check->absolute))
                    fail_msg("f(%.9g) = %.9g, exact %.17g", (double)in[j], (double)out[j], exact);
            }
        }
    }
}

static void check_functions(const struct kernels *kernels, struct rng *rng)
{
    (void)rng;
    check_range(&(struct range_check){kernels->exp, exp, -87, 88, 2e-7, 0});
    check_range(&(struct range_check){kernels->tanh, tanh, -20, 20, 3e-7, 0});
    check_range(&(struct range_check){kernels->sigmoid, exact_sigmoid, -87, 87, 0, 2e-7});
}

static void test_kernels_functions_stay_within_their_errors(void **state)
{
    (void)state;
    for_each_kernel(check_functions);
}

static void check_not_finite(const struct kernels *kernels, struct rng *rng)
{
    (void)rng;
    const float in[5] = {NAN, INFINITY, -INFINITY, 1e30f, -1e30f};
    float out[5];
    kernels->exp(5, in, out);
    assert_true(isnan(out[0]) && out[1] > 1e38f && isfinite(out[1]) && out[2] >= 0 && out[2] < 1e-37f);
    kernels->tanh(5, in, out);
    assert_true(isnan(out[0]) && out[1] == 1 && out[2] == -1 && out[3] == 1 && out[4] == -1);
    kernels->sigmoid(5, in, out);
    assert_true(isnan(out[0]) && out[1] == 1 && out[2] >= 0 && out[2] < 1e-37f && out[3] == 1);
}

static void test_kernels_functions_pass_nan_on_and_saturate(void **state)
{
    (void)state;
    for_each_kernel(check_not_finite);
}

static void check_cross_entropy(const struct kernels *kernels, struct rng *rng)
{
    for (int round = 0; round < 200; round++) {
        const size_t V = 1 + rng_below(rng, 100);
        const uint32_t target = (uint32_t)rng_below(rng, V);
        float *logits = random_floats(rng, V, 5), *a = random_floats(rng, V, 1), *b = random_floats(rng, V, 1);
        double x = kernels->cross_entropy(V, logits, target, 0.25f, a);
        double y = reference()->cross_entropy(V, logits, target, 0.25f, b);
        assert_true(fabs(x - y) < 2e-5 * (1 + y));
        assert_close(a, b, V, 1e-6);
        assert_true(kernels->cross_entropy(V, logits, target, 0, NULL) == x);
        double in_place = kernels->cross_entropy(V, logits, target, 0.25f, logits);
        assert_true(in_place == x);
        assert_memory_equal(logits, a, V * sizeof(float));
        release(logits);
        release(a);
        release(b);
    }
    float bad[3] = {0, NAN, 1};
    assert_true(isnan(kernels->cross_entropy(3, bad, 0, 1, NULL)));
}

static void test_kernels_cross_entropy_equals_reference(void **state)
{
    (void)state;
    for_each_kernel(check_cross_entropy);
}

/* ------------------------------------------------------------------ vectors and updates */

static void check_updates(const struct kernels *kernels, struct rng *rng)
{
    const size_t n = 1003;
    const struct kernels *tables[2] = {kernels, reference()};
    float *g = random_floats(rng, n, 1), *start = random_floats(rng, n, 1), *moments = random_floats(rng, 2 * n, 1);
    for (size_t i = 0; i < 2 * n; i++) moments[i] = fabsf(moments[i]);
    float *w[3][2], *m[3][2];
    for (size_t kind = 0; kind < 3; kind++) {
        for (size_t t = 0; t < 2; t++) {
            w[kind][t] = copy_floats(start, n);
            m[kind][t] = copy_floats(moments, 2 * n);
            float *p = w[kind][t], *q = m[kind][t];
            struct kernel_update update = {.n = n, .w = p, .g = g, .scale = 0.5f, .rate = 0.01f};
            update.mean = q;
            update.square = kind == 1 ? q : q + n;
            update.beta1 = 0.9f;
            update.beta2 = kind == 1 ? 0.9f : 0.999f;
            update.epsilon = kind == 1 ? 1e-7f : 1e-8f;
            update.correction1 = 10;
            update.correction2 = 1000;
            update.weight_decay = 0.1f;
            if (kind == 0) tables[t]->update_sgd(&update);
            if (kind == 1) tables[t]->update_rmsprop(&update);
            if (kind == 2) tables[t]->update_adam(&update);
        }
        assert_close(w[kind][0], w[kind][1], n, 1e-6);
        assert_close(m[kind][0], m[kind][1], 2 * n, 1e-6);
        for (size_t t = 0; t < 2; t++) {
            release(w[kind][t]);
            release(m[kind][t]);
        }
    }
    double a = kernels->sum_of_squares(n, g), b = reference()->sum_of_squares(n, g);
    assert_true(fabs(a - b) < 1e-5 * b);
    g[n / 2] = NAN;
    assert_true(isnan(kernels->sum_of_squares(n, g)));
    release(g);
    release(start);
    release(moments);
}

static void test_kernels_updates_equal_reference(void **state)
{
    (void)state;
    for_each_kernel(check_updates);
}

static void test_kernels_select_knows_its_names(void **state)
{
    (void)state;
    assert_null(kernels_select("sse9"));
    assert_null(kernels_select(""));
    assert_string_equal(kernels_select("ref")->name, "ref");
    const char *best = kernels_select("auto")->name;
    assert_int_equal(strncmp(kernels_names(), best, strlen(best)), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_kernels_product_equals_reference),
        cmocka_unit_test(test_kernels_product_over_rows_equals_reference),
        cmocka_unit_test(test_kernels_multiply_adds_are_computed),
        cmocka_unit_test(test_kernels_row_has_the_same_bits_alone_and_beside_others),
        cmocka_unit_test(test_kernels_transpose_equals_reference),
        cmocka_unit_test(test_kernels_cells_equal_reference),
        cmocka_unit_test(test_kernels_padding_stays_zero),
        cmocka_unit_test(test_kernels_functions_stay_within_their_errors),
        cmocka_unit_test(test_kernels_functions_pass_nan_on_and_saturate),
        cmocka_unit_test(test_kernels_cross_entropy_equals_reference),
        cmocka_unit_test(test_kernels_updates_equal_reference),
        cmocka_unit_test(test_kernels_select_knows_its_names),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
