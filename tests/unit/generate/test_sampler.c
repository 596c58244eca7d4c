#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <math.h>
#include <string.h>

#include "model/generate/sampler.h"

#define V 12

static const float example[V] = {0.5f, -1.25f, 3, 2.75f, 0, -4, 1, 1, 2.5f, -0.0f, -2, 0.125f};

static uint32_t pick(const float *logits, double temperature, struct rng *rng)
{
    struct sampler sampler;
    float copy[V];
    struct error err = {0};
    const struct sampler_options options = {.temperature = temperature};
    if (!sampler_open(&sampler, &options, kernels_select("auto"), V, 0, &err)) fail_msg("%s", err.message);
    memcpy(copy, logits, sizeof copy);
    const uint32_t id = sampler_pick(&sampler, copy, rng);
    sampler_close(&sampler);
    return id;
}

static void test_sampler_temperature_zero_takes_argmax(void **state)
{
    (void)state;
    struct rng rng, before;
    rng_seed(&rng, 1, 0);
    before = rng;
    assert_int_equal(pick(example, 0, &rng), 2);
    assert_int_equal(pick(example, -0.0, &rng), 2);
    assert_memory_equal(&rng, &before, sizeof rng);
}

static void test_sampler_argmax_prefers_the_lowest_id_among_equals(void **state)
{
    (void)state;
    const float equal[4] = {-1, 7, 7, 7}, zeros[3] = {-0.0f, 0.0f, 0.0f};
    assert_int_equal(sampler_argmax(equal, 4), 1);
    assert_int_equal(sampler_argmax(zeros, 3), 0);
}

static void test_sampler_draws_exactly_one_number(void **state)
{
    (void)state;
    struct rng rng, expected;
    rng_seed(&rng, 3, 0);
    expected = rng;
    rng_uniform(&expected);
    pick(example, 1, &rng);
    assert_memory_equal(&rng, &expected, sizeof rng);
}

static void test_sampler_same_seed_gives_the_same_tokens(void **state)
{
    (void)state;
    struct rng a, b, c;
    unsigned differ = 0;
    rng_seed(&a, 42, 0);
    rng_seed(&b, 42, 0);
    rng_seed(&c, 43, 0);
    for (int i = 0; i < 200; i++) {
        const uint32_t token = pick(example, 0.9, &a);
        assert_int_equal(token, pick(example, 0.9, &b));
        differ += token != pick(example, 0.9, &c);
    }
    assert_true(differ > 50);
}

/* Pearson's statistic over the tokens that are expected at least five times; the rest is one class. */
static double chi_square(const double *probability, const unsigned *seen, unsigned draws)
{
    double statistic = 0, rest_expected = 0, rest_seen = 0;
    for (unsigned v = 0; v < V; v++) {
        const double expected = probability[v] * draws;
        if (expected < 5) {
            rest_expected += expected;
            rest_seen += seen[v];
            continue;
        }
        statistic += (seen[v] - expected) * (seen[v] - expected) / expected;
    }
    if (rest_expected >= 1) {
        statistic += (rest_seen - rest_expected) * (rest_seen - rest_expected) / rest_expected;
    } else {
        assert_true(rest_seen <= 8);
    }
    return statistic;
}

/* softmax in long double, written independently. */
static void exact_softmax(const float *logits, double temperature, double *probability)
{
    long double sum = 0, largest = -INFINITY;
    for (unsigned v = 0; v < V; v++) largest = fmaxl(largest, (long double)logits[v]);
    for (unsigned v = 0; v < V; v++) sum += expl((logits[v] - largest) / temperature);
    for (unsigned v = 0; v < V; v++) probability[v] = (double)(expl((logits[v] - largest) / temperature) / sum);
}

static void test_sampler_frequencies_follow_the_distribution(void **state)
{
    (void)state;
    const double temperatures[] = {0.01, 0.1, 0.5, 0.8, 1, 1.5, 5, 100};
    const unsigned draws = 100000;
    for (unsigned i = 0; i < sizeof temperatures / sizeof temperatures[0]; i++) {
        double probability[V];
        unsigned seen[V] = {0};
        struct rng rng;
        rng_seed(&rng, 7, i);
        exact_softmax(example, temperatures[i], probability);
        for (unsigned n = 0; n < draws; n++) seen[pick(example, temperatures[i], &rng)]++;
        /* The 1 - 1e-6 quantile of chi-square with 11 degrees of freedom is 50. */
        const double statistic = chi_square(probability, seen, draws);
        if (!(statistic < 50)) fail_msg("temperature %g: chi-square %g", temperatures[i], statistic);
    }
}

static void test_sampler_softmax_is_exact_from_cold_to_hot(void **state)
{
    (void)state;
    const double temperatures[] = {0.01, 0.3, 1, 7, 100};
    for (unsigned i = 0; i < sizeof temperatures / sizeof temperatures[0]; i++) {
        double exact[V], probability[V], sum = 0;
        exact_softmax(example, temperatures[i], exact);
        sampler_softmax(example, V, temperatures[i], probability);
        for (unsigned v = 0; v < V; v++) {
            assert_true(fabs(probability[v] - exact[v]) <= 1e-13 * exact[v] + 1e-300);
            sum += probability[v];
        }
        assert_true(fabs(sum - 1) < 1e-14);
    }
}

static void test_sampler_is_stable_for_huge_logits_at_any_temperature(void **state)
{
    (void)state;
    const float huge[V] = {3e38f, -3e38f, 3e38f, 0, -3e38f, 1, 2, 3, 4, 5, 6, 7};
    const double temperatures[] = {1e-300, 0.01, 1, 100};
    struct rng rng;
    rng_seed(&rng, 1, 0);
    for (unsigned i = 0; i < sizeof temperatures / sizeof temperatures[0]; i++) {
        double probability[V];
        sampler_softmax(huge, V, temperatures[i], probability);
        for (unsigned v = 0; v < V; v++) assert_true(probability[v] == (huge[v] == 3e38f ? 0.5 : 0));
        for (int n = 0; n < 100; n++) assert_true(huge[pick(huge, temperatures[i], &rng)] == 3e38f);
    }
}

static void test_sampler_never_picks_what_is_forbidden(void **state)
{
    (void)state;
    float logits[V];
    struct rng rng;
    rng_seed(&rng, 9, 0);
    for (unsigned v = 0; v < V; v++) logits[v] = v % 3 == 1 ? (float)v : -INFINITY;
    for (int n = 0; n < 5000; n++) assert_int_equal(pick(logits, 100, &rng) % 3, 1);
    assert_int_equal(pick(logits, 0, &rng), 10);
}

static void test_sampler_treats_nan_as_forbidden_and_shares_infinity(void **state)
{
    (void)state;
    float logits[V];
    double probability[V];
    struct rng rng;
    rng_seed(&rng, 9, 0);
    for (unsigned v = 0; v < V; v++) logits[v] = NAN;
    logits[4] = 1;
    logits[8] = 0.5f;
    for (int n = 0; n < 500; n++) assert_int_equal(pick(logits, 1, &rng) % 4, 0);
    assert_int_equal(pick(logits, 0, &rng), 4);
    logits[5] = logits[6] = INFINITY;
    sampler_softmax(logits, V, 1, probability);
    for (unsigned v = 0; v < V; v++) assert_true(probability[v] == (v == 5 || v == 6 ? 0.5 : 0));
    assert_int_equal(pick(logits, 0, &rng), 5);
}

static void test_sampler_answers_zero_where_nothing_is_possible(void **state)
{
    (void)state;
    float logits[V];
    double probability[V];
    struct rng rng;
    rng_seed(&rng, 9, 0);
    for (int nan = 0; nan < 2; nan++) {
        for (unsigned v = 0; v < V; v++) logits[v] = nan ? NAN : -INFINITY;
        assert_int_equal(pick(logits, 0, &rng), 0);
        assert_int_equal(pick(logits, 1, &rng), 0);
        sampler_softmax(logits, V, 1, probability);
        for (unsigned v = 0; v < V; v++) assert_true(probability[v] == 0);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_sampler_temperature_zero_takes_argmax),
        cmocka_unit_test(test_sampler_argmax_prefers_the_lowest_id_among_equals),
        cmocka_unit_test(test_sampler_draws_exactly_one_number),
        cmocka_unit_test(test_sampler_same_seed_gives_the_same_tokens),
        cmocka_unit_test(test_sampler_frequencies_follow_the_distribution),
        cmocka_unit_test(test_sampler_softmax_is_exact_from_cold_to_hot),
        cmocka_unit_test(test_sampler_is_stable_for_huge_logits_at_any_temperature),
        cmocka_unit_test(test_sampler_never_picks_what_is_forbidden),
        cmocka_unit_test(test_sampler_treats_nan_as_forbidden_and_shares_infinity),
        cmocka_unit_test(test_sampler_answers_zero_where_nothing_is_possible),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
