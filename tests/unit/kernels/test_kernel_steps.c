/* Compares the vector kernels with the reference loops: fused steps and the output layer, in every format of weights.
 */
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

#define BLOCK    KERNEL_BLOCK
#define MAX_ROWS 80

static const char *const names[] = {"ref", "portable", "avx2", "avx512", "avx512vnni", "neon"};
#define NAMES   (sizeof names / sizeof names[0])
#define FORMATS 3
#define CELLS   3

static const size_t gates_of[CELLS] = {4, 3, 1};

/* Memory of random content, 4 bytes away from any alignment; everything of a test is freed at once. */
static void *taken[2000];
static size_t taken_count;

static void *take(size_t size)
{
    char *memory = malloc(size + 4);
    assert_non_null(memory);
    assert_true(taken_count < sizeof taken / sizeof taken[0]);
    taken[taken_count++] = memory;
    return memory + 4;
}

static void release_all(void)
{
    while (taken_count > 0) free(taken[--taken_count]);
}

static float *random_floats(struct rng *rng, size_t n, double scale)
{
    float *values = take(n * sizeof(float));
    for (size_t i = 0; i < n; i++) values[i] = (float)(scale * rng_normal(rng));
    return values;
}

static int64_t random_integer(struct rng *rng, int64_t limit)
{
    return (int64_t)rng_below(rng, (uint64_t)(2 * limit + 1)) - limit;
}

static void *random_weights(struct rng *rng, enum kernel_format format, size_t n)
{
    if (format == KERNEL_F32) return random_floats(rng, n, 0.3);
    if (format == KERNEL_BF16) {
        uint16_t *halves = take(n * sizeof(uint16_t));
        for (size_t i = 0; i < n; i++) {
            const float weight = (float)(0.3 * rng_normal(rng));
            uint32_t bits;
            memcpy(&bits, &weight, sizeof bits);
            halves[i] = (uint16_t)(bits >> 16);
        }
        return halves;
    }
    int8_t *bytes = take(n);
    for (size_t i = 0; i < n; i++) bytes[i] = (int8_t)random_integer(rng, KERNEL_INT8_MAX);
    return bytes;
}

static struct kernel_matrix random_matrix(struct rng *rng, enum kernel_format format, size_t outputs, size_t inputs)
{
    struct kernel_matrix matrix = {.format = format, .inputs = inputs};
    if (inputs == 0) return matrix;
    matrix.weights = random_weights(rng, format, outputs * inputs);
    if (format != KERNEL_INT8) return matrix;
    float *scale = random_floats(rng, outputs, 0.3 / 127 / (double)KERNEL_INT8_LIMIT((int64_t)inputs));
    matrix.scale = scale;
    return matrix;
}

static void *random_input(struct rng *rng, enum kernel_format format, size_t n)
{
    if (format != KERNEL_INT8) return random_floats(rng, n, 0.5);
    int16_t *integers = take(n * sizeof(int16_t));
    for (size_t i = 0; i < n; i++) integers[i] = (int16_t)random_integer(rng, KERNEL_INT8_LIMIT((int64_t)n));
    return integers;
}

/* ------------------------------------------------------------------ steps */

struct step_data {
    size_t cell;
    struct kernel_step arguments;
    const float *start[MAX_ROWS], *h_previous[MAX_ROWS];
    const void *x[MAX_ROWS], *hidden_input[MAX_ROWS];
    float *h[MAX_ROWS], *c[MAX_ROWS], *c_before[MAX_ROWS], *gates[MAX_ROWS];
};

struct shape {
    size_t rows, blocks, inputs;
};

/* At the bounds of what kernels/simd/step.c takes at once: bands of 36 rows, pieces of 64 inputs (or of 4 blocks of
 * the hidden state). Random shapes seldom have several of both. */
static const struct shape bounds[] = {
    {36, 4, 64},  /* a whole band, whole pieces */
    {37, 5, 80},  /* two bands, a short piece behind a whole one */
    {72, 5, 0},   /* two whole bands, a one-hot input */
    {73, 9, 144}, /* three bands, three pieces */
    {2, 8, 48},   /* one tile, a short piece by itself, whole pieces of the hidden state */
    {1, 9, 80},   /* one row; in pieces only what is left over from several groups at once */
};
#define BOUNDS (sizeof bounds / sizeof bounds[0])

static struct shape random_shape(struct rng *rng)
{
    return (struct shape){.rows = 1 + (rng_below(rng, 2) ? rng_below(rng, 65) : rng_below(rng, 8)),
                          .blocks = 1 + rng_below(rng, 6),
                          .inputs = rng_below(rng, 3) * BLOCK * (1 + rng_below(rng, 3))};
}

static void random_step(struct step_data *d, struct rng *rng, struct shape shape, size_t cell,
                        enum kernel_format format)
{
    const size_t rows = shape.rows, blocks = shape.blocks, inputs = shape.inputs;
    const size_t gates = gates_of[cell], width = blocks * BLOCK;
    *d = (struct step_data){.cell = cell};
    for (size_t m = 0; m < rows; m++) {
        d->start[m] = random_floats(rng, gates * width, 0.5);
        d->h_previous[m] = random_floats(rng, width, 0.5);
        d->x[m] = inputs > 0 ? random_input(rng, format, inputs) : NULL;
        d->hidden_input[m] = format == KERNEL_INT8 ? random_input(rng, format, width) : d->h_previous[m];
        d->h[m] = random_floats(rng, width, 1);
        d->c[m] = random_floats(rng, width, 1);
        d->gates[m] = random_floats(rng, gates * width, 1);
        d->c_before[m] = take(width * sizeof(float));
        memcpy(d->c_before[m], d->c[m], width * sizeof(float));
    }
    d->arguments = (struct kernel_step){.rows = rows,
                                        .blocks = blocks,
                                        .input = random_matrix(rng, format, gates * width, inputs),
                                        .hidden = random_matrix(rng, format, gates * width, width),
                                        .start = d->start,
                                        .bias_hh = cell == 1 ? random_floats(rng, gates * width, 0.5) : NULL,
                                        .x = d->x,
                                        .hidden_input = d->hidden_input,
                                        .h_previous = d->h_previous,
                                        .h = d->h,
                                        .c = d->c,
                                        .gates = d->gates};
}

static void run_step(const struct kernels *kernels, size_t cell, const struct kernel_step *arguments)
{
    if (cell == 0) kernels->lstm_step(arguments);
    if (cell == 1) kernels->gru_step(arguments);
    if (cell == 2) kernels->rnn_step(arguments);
}

/* Fresh results beside those of `d`, from the same start. */
static void repeat_step(struct step_data *copy, const struct step_data *d)
{
    const size_t size = d->arguments.blocks * BLOCK * sizeof(float);
    const size_t gates_size = gates_of[d->cell] * size;
    *copy = *d;
    for (size_t m = 0; m < d->arguments.rows; m++) {
        copy->h[m] = take(size);
        copy->c[m] = take(size);
        memcpy(copy->c[m], d->c_before[m], size);
        copy->gates[m] = take(gates_size);
        memcpy(copy->gates[m], d->gates[m], gates_size); /* the RNN's stay what they are */
    }
    copy->arguments.h = copy->h;
    copy->arguments.c = copy->c;
    copy->arguments.gates = copy->gates;
}

static void assert_close(const float *a, const float *b, size_t n, double tolerance)
{
    for (size_t i = 0; i < n; i++)
        if (!(fabs((double)a[i] - (double)b[i]) <= tolerance * (1 + fabs((double)b[i]))))
            fail_msg("[%zu]: %g is not %g", i, (double)a[i], (double)b[i]);
}

static void compare_with_reference(const struct kernels *kernels, struct rng *rng, struct shape shape, size_t cell,
                                   enum kernel_format format)
{
    static struct step_data d, expected;
    random_step(&d, rng, shape, cell, format);
    repeat_step(&expected, &d);
    run_step(kernels, cell, &d.arguments);
    run_step(kernels_select("ref"), cell, &expected.arguments);
    for (size_t m = 0; m < d.arguments.rows; m++) {
        assert_close(d.h[m], expected.h[m], d.arguments.blocks * BLOCK, 1e-5);
        assert_close(d.c[m], expected.c[m], d.arguments.blocks * BLOCK, 1e-5);
        assert_close(d.gates[m], expected.gates[m], gates_of[cell] * d.arguments.blocks * BLOCK, 1e-5);
    }
}

/* Each row by itself. */
static void compare_with_alone(const struct kernels *kernels, struct rng *rng, struct shape shape, size_t cell,
                               enum kernel_format format)
{
    static struct step_data together, alone, plain;
    random_step(&together, rng, shape, cell, format);
    repeat_step(&alone, &together);
    repeat_step(&plain, &together);
    plain.arguments.gates = NULL;
    run_step(kernels, cell, &plain.arguments);
    run_step(kernels, cell, &together.arguments);
    const size_t size = together.arguments.blocks * BLOCK * sizeof(float);
    for (size_t m = 0; m < together.arguments.rows; m++) {
        struct kernel_step one = alone.arguments;
        one.rows = 1;
        one.start += m;
        one.x += m;
        one.hidden_input += m;
        one.h_previous += m;
        one.h += m;
        one.c += m;
        one.gates += m;
        run_step(kernels, cell, &one);
        assert_memory_equal(alone.h[m], together.h[m], size);
        assert_memory_equal(alone.c[m], together.c[m], size);
        assert_memory_equal(alone.gates[m], together.gates[m], gates_of[cell] * size);
        assert_memory_equal(plain.h[m], together.h[m], size);
        assert_memory_equal(plain.c[m], together.c[m], size);
    }
}

typedef void step_check(const struct kernels *, struct rng *, struct shape, size_t cell, enum kernel_format);

/* The shapes at the bounds, then random ones. */
static void for_each_step(step_check *check)
{
    for (size_t i = 0; i < NAMES; i++) {
        const struct kernels *kernels = kernels_select(names[i]);
        struct rng rng;
        rng_seed(&rng, 3, i);
        for (size_t round = 0; kernels != NULL && round < (BOUNDS + 12) * CELLS * FORMATS; round++) {
            const size_t nth = round / (CELLS * FORMATS);
            const struct shape shape = nth < BOUNDS ? bounds[nth] : random_shape(&rng);
            check(kernels, &rng, shape, round % CELLS, (enum kernel_format)(round / CELLS % FORMATS));
            release_all();
        }
    }
}

static void test_kernel_steps_equal_reference(void **state)
{
    (void)state;
    for_each_step(compare_with_reference);
}

static void test_kernel_steps_give_a_row_the_same_bits_alone_and_beside_others(void **state)
{
    (void)state;
    for_each_step(compare_with_alone);
}

/* ------------------------------------------------------------------ the output layer */

struct projection {
    size_t rows, blocks;
    struct kernel_matrix matrix;
    const float *bias;
    const void *x[MAX_ROWS];
    float *y[MAX_ROWS];
};

static void random_projection(struct projection *p, struct rng *rng, enum kernel_format format)
{
    const size_t inputs = BLOCK * (1 + rng_below(rng, 6));
    *p = (struct projection){.rows = 1 + (rng_below(rng, 2) ? rng_below(rng, 65) : rng_below(rng, 8)),
                             .blocks = 1 + rng_below(rng, 23)};
    p->matrix = random_matrix(rng, format, p->blocks * BLOCK, inputs);
    p->bias = random_floats(rng, p->blocks * BLOCK, 1);
    for (size_t m = 0; m < p->rows; m++) {
        p->x[m] = random_input(rng, format, inputs);
        p->y[m] = random_floats(rng, p->blocks * BLOCK, 1);
    }
}

static void project(const struct kernels *kernels, const struct projection *p, size_t first, size_t rows)
{
    kernels->project(rows, p->blocks, &p->matrix, p->bias, p->x + first, p->y + first);
}

static void check_projection(const struct kernels *kernels, struct rng *rng, enum kernel_format format)
{
    static struct projection p, other;
    random_projection(&p, rng, format);
    const size_t width = p.blocks * BLOCK;
    other = p;
    for (size_t m = 0; m < p.rows; m++) other.y[m] = random_floats(rng, width, 1);
    project(kernels, &p, 0, p.rows);
    project(kernels_select("ref"), &other, 0, p.rows);
    for (size_t m = 0; m < p.rows; m++) {
        if (format == KERNEL_INT8)
            assert_memory_equal(p.y[m], other.y[m], width * sizeof(float)); /* integers are exact */
        else
            assert_close(p.y[m], other.y[m], width, 2e-5);
    }
    for (size_t m = 0; m < p.rows; m++) {
        project(kernels, &other, m, 1);
        assert_memory_equal(p.y[m], other.y[m], width * sizeof(float));
    }
}

static void test_kernel_project_equals_reference_and_itself_alone(void **state)
{
    (void)state;
    for (size_t i = 0; i < NAMES; i++) {
        const struct kernels *kernels = kernels_select(names[i]);
        struct rng rng;
        rng_seed(&rng, 4, i);
        for (size_t round = 0; kernels != NULL && round < 40 * FORMATS; round++) {
            check_projection(kernels, &rng, (enum kernel_format)(round % FORMATS));
            release_all();
        }
    }
}

/* Input products of several steps, against the reference and against single rows. */
static void check_inputs(const struct kernels *kernels, struct rng *rng, enum kernel_format format, size_t gates)
{
    const size_t rows = 1 + rng_below(rng, 65), blocks = 1 + rng_below(rng, 5), K = BLOCK * (1 + rng_below(rng, 11));
    const size_t width = gates * blocks * BLOCK, size = format == KERNEL_INT8 ? sizeof(int16_t) : sizeof(float);
    const struct kernel_matrix matrix = random_matrix(rng, format, width, K);
    char *x = take(rows * K * size);
    for (size_t m = 0; m < rows; m++) memcpy(x + m * K * size, random_input(rng, format, K), K * size);
    float *y = random_floats(rng, rows * width, 1), *other = random_floats(rng, rows * width, 1);
    struct kernel_inputs p = {.rows = rows,
                              .blocks = blocks,
                              .gates = gates,
                              .matrix = &matrix,
                              .start = random_floats(rng, width, 1),
                              .x = x,
                              .ldx = K,
                              .y = y,
                              .ldy = width};
    kernels->inputs(&p);
    p.y = other;
    kernels_select("ref")->inputs(&p);
    if (format == KERNEL_INT8)
        assert_memory_equal(y, other, rows * width * sizeof(float)); /* integers are exact */
    else
        assert_close(y, other, rows * width, 2e-5);
    p.rows = 1;
    for (size_t m = 0; m < rows; m++) {
        p.x = x + m * K * size;
        p.y = other + m * width;
        kernels->inputs(&p);
    }
    assert_memory_equal(y, other, rows * width * sizeof(float));
}

static void test_kernel_inputs_equal_reference_and_themselves_alone(void **state)
{
    (void)state;
    static const size_t gates[] = {1, 3, 4};
    for (size_t i = 0; i < NAMES; i++) {
        const struct kernels *kernels = kernels_select(names[i]);
        struct rng rng;
        rng_seed(&rng, 6, i);
        for (size_t round = 0; kernels != NULL && round < 9 * 2 * FORMATS; round++) {
            check_inputs(kernels, &rng, (enum kernel_format)(round % FORMATS), gates[round / FORMATS % 3]);
            release_all();
        }
    }
}

/* All products of the largest size and of one sign. */
static void test_kernel_int8_sums_do_not_overflow(void **state)
{
    (void)state;
    static const size_t widths[] = {16, 512, 528, 1024, 16384};
    for (size_t i = 0; i < NAMES * 5; i++) {
        const struct kernels *kernels = kernels_select(names[i % NAMES]);
        const size_t K = widths[i / NAMES];
        const int32_t limit = KERNEL_INT8_LIMIT((int64_t)K);
        if (kernels == NULL) continue;
        struct projection p = {.rows = 1, .blocks = 1, .matrix = {.format = KERNEL_INT8, .inputs = K}};
        float scale[BLOCK], y[BLOCK], bias[BLOCK] = {0};
        int8_t *weights = take(K * BLOCK);
        int16_t *x = take(K * sizeof *x);
        memset(weights, -KERNEL_INT8_MAX, K * BLOCK);
        for (size_t k = 0; k < K; k++) x[k] = (int16_t)limit;
        for (size_t u = 0; u < BLOCK; u++) scale[u] = 1;
        p.matrix.weights = weights;
        p.matrix.scale = scale;
        p.bias = bias;
        p.x[0] = x;
        p.y[0] = y;
        project(kernels, &p, 0, 1);
        const float expected = (float)(-(double)K * KERNEL_INT8_MAX * limit);
        for (size_t u = 0; u < BLOCK; u++) assert_true(y[u] == expected);
        release_all();
    }
}

/* ------------------------------------------------------------------ quantize */

static void test_kernel_quantize_rounds_to_nearest_on_every_kernel(void **state)
{
    (void)state;
    for (size_t i = 0; i < NAMES; i++) {
        const struct kernels *kernels = kernels_select(names[i]);
        struct rng rng;
        rng_seed(&rng, 5, i);
        if (kernels == NULL) continue;
        for (size_t n = 0; n < 70; n++) {
            float *x = random_floats(&rng, n + 4, 0.6);
            int16_t out[80], expected[80];
            const float special[4] = {2.5f / 1000, -3.5f / 1000, 7, -7};
            memcpy(x + n, special, sizeof special);
            kernels->quantize(n + 4, x, 1000, 1000, out);
            kernels_select("ref")->quantize(n + 4, x, 1000, 1000, expected);
            assert_memory_equal(out, expected, (n + 4) * sizeof(int16_t));
            assert_int_equal(out[n], 2);
            assert_int_equal(out[n + 1], -4);
            assert_int_equal(out[n + 2], 1000);
            assert_int_equal(out[n + 3], -1000);
            release_all();
        }
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_kernel_steps_equal_reference),
        cmocka_unit_test(test_kernel_steps_give_a_row_the_same_bits_alone_and_beside_others),
        cmocka_unit_test(test_kernel_project_equals_reference_and_itself_alone),
        cmocka_unit_test(test_kernel_inputs_equal_reference_and_themselves_alone),
        cmocka_unit_test(test_kernel_int8_sums_do_not_overflow),
        cmocka_unit_test(test_kernel_quantize_rounds_to_nearest_on_every_kernel),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
