/* model/network/quantize: the promises of rounding to bfloat16 and int8. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <float.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/rng.h"
#include "model/network/quantize.h"

static float value_of(uint16_t bf16)
{
    const uint32_t bits = (uint32_t)bf16 << 16;
    float value;
    memcpy(&value, &bits, sizeof value);
    return value;
}

static void test_quantize_bf16_is_the_nearest(void **state)
{
    (void)state;
    struct rng rng;
    rng_seed(&rng, 1, 0);
    for (size_t i = 0; i < 100000; i++) {
        const float weight = (float)(rng_normal(&rng) * exp(5 * rng_normal(&rng)));
        const uint16_t q = quantize_bf16(weight);
        const double error = fabs((double)value_of(q) - (double)weight);
        assert_true(error <= fabs((double)value_of((uint16_t)(q + 1)) - (double)weight));
        assert_true(error <= fabs((double)value_of((uint16_t)(q - 1)) - (double)weight));
    }
}

static void test_quantize_bf16_ties_go_to_even_and_the_largest_stay_finite(void **state)
{
    (void)state;
    assert_int_equal(quantize_bf16(0x1.01p0f), 0x3F80); /* halfway from 1 to 0x1.02p0 */
    assert_int_equal(quantize_bf16(0x1.03p0f), 0x3F82);
    assert_int_equal(quantize_bf16(-0x1.03p0f), 0xBF82);
    assert_int_equal(quantize_bf16(0), 0);
    assert_true(value_of(quantize_bf16(FLT_MAX)) < (float)INFINITY);
    assert_true(value_of(quantize_bf16(-FLT_MAX)) > -(float)INFINITY);
}

static void test_quantize_int8_is_within_half_a_scale_and_uses_all_of_it(void **state)
{
    (void)state;
    struct rng rng;
    rng_seed(&rng, 2, 0);
    for (size_t round = 0; round < 2000; round++) {
        float weights[37];
        int8_t q[37], again[37];
        const size_t n = 1 + rng_below(&rng, 37);
        const double size = exp(8 * rng_normal(&rng));
        int largest = 0;
        for (size_t i = 0; i < n; i++) weights[i] = (float)(size * rng_normal(&rng));
        const float scale = quantize_int8(n, weights, q);
        for (size_t i = 0; i < n; i++) {
            assert_true(fabs((double)q[i] * (double)scale - (double)weights[i]) <= 0.50001 * (double)scale);
            if (abs(q[i]) > largest) largest = abs(q[i]);
            weights[i] = (float)q[i] * scale;
            assert_true((double)weights[i] == (double)q[i] * (double)scale); /* exact */
        }
        assert_int_equal(largest, KERNEL_INT8_MAX);
        assert_true(quantize_int8(n, weights, again) == scale);
        assert_memory_equal(again, q, n);
    }
}

static void test_quantize_int8_of_extreme_rows(void **state)
{
    (void)state;
    const float zeros[3] = {0, -0.0f, 0}, huge[3] = {FLT_MAX, -FLT_MAX, 0}, tiny[2] = {FLT_TRUE_MIN, -FLT_TRUE_MIN};
    int8_t q[3];
    assert_true(quantize_int8(3, zeros, q) == 0);
    assert_true(q[0] == 0 && q[1] == 0 && q[2] == 0);
    assert_true(isfinite(quantize_int8(3, huge, q)));
    assert_true(q[0] == 127 && q[1] == -127 && q[2] == 0);
    const float scale = quantize_int8(2, tiny, q);
    assert_true(fabsf((float)q[0] * scale) <= 1e-40f && q[0] >= 0 && q[1] == -q[0]);
}

static void test_kernel_format_names_are_read_back(void **state)
{
    (void)state;
    enum kernel_format format;
    for (int i = 0; i < 3; i++) {
        assert_true(kernel_format_parse(kernel_format_name((enum kernel_format)i), &format));
        assert_int_equal(format, i);
        assert_int_equal(kernel_format_choose(i + 1, KERNEL_BF16), i);
    }
    assert_false(kernel_format_parse("fp8", &format));
    assert_int_equal(kernel_format_choose(0, KERNEL_INT8), KERNEL_INT8);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_quantize_bf16_is_the_nearest),
        cmocka_unit_test(test_quantize_bf16_ties_go_to_even_and_the_largest_stay_finite),
        cmocka_unit_test(test_quantize_int8_is_within_half_a_scale_and_uses_all_of_it),
        cmocka_unit_test(test_quantize_int8_of_extreme_rows),
        cmocka_unit_test(test_kernel_format_names_are_read_back),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
