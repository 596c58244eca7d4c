/* Compares the sampler's options with independent, plain implementations of their definitions in long double. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "model/generate/sampler.h"
#include "tests/unit/support.h"

#define MAX_V 300

static const char *const kernel_names[] = {"ref", "portable", "avx2", "avx512", "avx512vnni", "neon"};
#define KERNELS (sizeof kernel_names / sizeof kernel_names[0])

static void open_sampler(struct sampler *sampler, const struct sampler_options *options, size_t V)
{
    struct error err = {0};
    if (!sampler_open(sampler, options, kernels_select("auto"), V, 1000, &err)) fail_msg("%s", err.message);
}

static void random_logits(struct rng *rng, float *logits, size_t V, double spread)
{
    for (size_t v = 0; v < V; v++) logits[v] = (float)(spread * rng_normal(rng));
}

static uint32_t pick(struct sampler *sampler, const float *logits, struct rng *rng)
{
    float copy[MAX_V];
    memcpy(copy, logits, sampler->vocabulary_size * sizeof *copy);
    return sampler_pick(sampler, copy, rng);
}

/* ------------------------------------------------------------------ the distribution */

struct item {
    uint32_t id;
    long double probability;
};

/* Likeliest first; softmax keeps the order of the logits. */
static int compare_items(const void *a, const void *b)
{
    const struct item *x = a, *y = b;
    if (x->probability != y->probability) return x->probability > y->probability ? -1 : 1;
    return x->id < y->id ? -1 : 1;
}

static void normalise(struct item *items, size_t n)
{
    long double sum = 0;
    for (size_t i = 0; i < n; i++) sum += items[i].probability;
    for (size_t i = 0; i < n; i++) items[i].probability /= sum;
}

/* The distribution that the header promises, by its definition. */
static void exact_distribution(const struct sampler_options *options, const float *logits, size_t V,
                               double *probability)
{
    struct item items[MAX_V];
    long double largest = -INFINITY, sum = 0;
    size_t n = V;
    for (size_t v = 0; v < V; v++) largest = fmaxl(largest, (long double)logits[v]);
    for (size_t v = 0; v < V; v++)
        items[v] = (struct item){(uint32_t)v, expl(((long double)logits[v] - largest) / options->temperature)};
    qsort(items, n, sizeof *items, compare_items);
    if (options->top_k > 0 && options->top_k < n) n = options->top_k;
    normalise(items, n);
    if (options->top_p > 0) {
        size_t kept = 0;
        while (kept < n && sum < options->top_p) sum += items[kept++].probability;
        n = kept;
    }
    while (items[n - 1].probability < options->min_p * items[0].probability) n--;
    normalise(items, n);
    for (size_t v = 0; v < V; v++) probability[v] = 0;
    for (size_t i = 0; i < n; i++) probability[items[i].id] = (double)items[i].probability;
}

/* Pearson's statistic in standard deviations above its mean; tokens expected less than five times are one class. What
 * cannot be must not have been seen. */
static double excess(const double *probability, const unsigned *seen, size_t V, unsigned draws)
{
    double statistic = 0, rest_expected = 0, rest_seen = 0;
    unsigned classes = 0;
    for (size_t v = 0; v < V; v++) {
        const double expected = probability[v] * draws;
        if (probability[v] == 0) assert_int_equal(seen[v], 0);
        if (expected < 5) {
            rest_expected += expected;
            rest_seen += seen[v];
            continue;
        }
        statistic += (seen[v] - expected) * (seen[v] - expected) / expected;
        classes++;
    }
    if (rest_expected >= 1) {
        statistic += (rest_seen - rest_expected) * (rest_seen - rest_expected) / rest_expected;
        classes++;
    }
    if (classes < 2) return 0;
    return (statistic - (classes - 1)) / sqrt(2.0 * (classes - 1));
}

static void assert_follows(const struct sampler_options *options, size_t V, uint64_t seed)
{
    const unsigned draws = 60000;
    float logits[MAX_V];
    double probability[MAX_V];
    unsigned seen[MAX_V] = {0};
    struct rng rng;
    struct sampler sampler;
    rng_seed(&rng, seed, 0);
    random_logits(&rng, logits, V, 2);
    exact_distribution(options, logits, V, probability);
    open_sampler(&sampler, options, V);
    for (unsigned n = 0; n < draws; n++) seen[pick(&sampler, logits, &rng)]++;
    sampler_close(&sampler);
    /* Of chi-square with one degree of freedom and more, less than one in 10^6 is 16 deviations above the mean. */
    const double deviations = excess(probability, seen, V, draws);
    if (!(deviations < 16))
        fail_msg("temperature %g top_k %d top_p %g min_p %g, %zu tokens: %g deviations", options->temperature,
                 (int)options->top_k, options->top_p, options->min_p, V, deviations);
}

static void test_sampler_each_truncation_follows_its_exact_distribution(void **state)
{
    (void)state;
    static const struct sampler_options options[] = {
        {.temperature = 1, .top_k = 2},
        {.temperature = 1, .top_k = 10},
        {.temperature = 5, .top_k = 40},
        {.temperature = 1, .top_k = 1000},
        {.temperature = 1, .top_p = 0.5},
        {.temperature = 1, .top_p = 0.9},
        {.temperature = 3, .top_p = 0.99},
        {.temperature = 1, .top_p = 1},
        {.temperature = 1, .min_p = 0.05},
        {.temperature = 2, .min_p = 0.3},
        {.temperature = 1, .min_p = 0.999},
        {.temperature = 1.5, .top_k = 20, .top_p = 0.8},
        {.temperature = 1.5, .top_k = 20, .min_p = 0.1},
        {.temperature = 1.5, .top_p = 0.95, .min_p = 0.05},
        {.temperature = 2, .top_k = 30, .top_p = 0.9, .min_p = 0.03},
        {.temperature = 0.01},
        {.temperature = 0.3},
        {.temperature = 100},
    };
    const size_t sizes[] = {2, 15, 16, 17, 84, 300};
    for (size_t i = 0; i < sizeof options / sizeof options[0]; i++) assert_follows(&options[i], sizes[i % 6], 100 + i);
    for (size_t i = 0; i < 6; i++) assert_follows(&options[14], sizes[i], 200 + i);
}

/* Of the 0.9 that top_k leaves, 0.7 is more than 0.75; of the whole it is less. */
static void test_sampler_top_p_is_taken_of_what_top_k_left(void **state)
{
    (void)state;
    const float logits[4] = {logf(0.7f), logf(0.2f), logf(0.06f), logf(0.04f)};
    const struct sampler_options joined = {.temperature = 1, .top_k = 2, .top_p = 0.75},
                                 alone = {.temperature = 1, .top_p = 0.75};
    unsigned second_joined = 0, second_alone = 0;
    struct sampler a, b;
    struct rng rng;
    rng_seed(&rng, 1, 0);
    open_sampler(&a, &joined, 4);
    open_sampler(&b, &alone, 4);
    for (int i = 0; i < 1000; i++) {
        second_joined += pick(&a, logits, &rng) != 0;
        second_alone += pick(&b, logits, &rng) != 0;
    }
    assert_int_equal(second_joined, 0);
    assert_true(second_alone > 100);
    sampler_close(&a);
    sampler_close(&b);
}

/* Compares the draw's weights with the exact distribution: less than 1e-6 in total variation, as promised. */
static void test_sampler_draws_from_the_exact_distribution_under_every_kernel(void **state)
{
    (void)state;
    const double temperatures[] = {0.01, 0.1, 0.5, 1, 3, 100};
    struct rng rng;
    rng_seed(&rng, 2, 0);
    for (size_t k = 0; k < KERNELS; k++) {
        const struct kernels *kernels = kernels_select(kernel_names[k]);
        for (size_t i = 0; kernels != NULL && i < 60; i++) {
            const size_t V = 1 + rng_below(&rng, MAX_V);
            const struct sampler_options options = {.temperature = temperatures[i % 6]};
            float logits[MAX_V];
            double exact[MAX_V], sum = 0, variation = 0;
            struct sampler sampler;
            random_logits(&rng, logits, V, i % 2 ? 1 : 8);
            exact_distribution(&options, logits, V, exact);
            assert_true(sampler_open(&sampler, &options, kernels, V, 0, NULL));
            pick(&sampler, logits, &rng);
            for (size_t v = 0; v < V; v++) sum += (double)sampler.weights[v];
            for (size_t v = 0; v < V; v++) variation += fabs((double)sampler.weights[v] / sum - exact[v]) / 2;
            if (!(variation < 1e-6)) fail_msg("%s, temperature %g: %g", kernels->name, options.temperature, variation);
            sampler_close(&sampler);
        }
    }
}

/* ------------------------------------------------------------------ limits of truncation */

static void assert_greedy(const struct sampler_options *options, bool ties)
{
    struct rng rng;
    rng_seed(&rng, 11, 0);
    for (int round = 0; round < 300; round++) {
        const size_t V = 1 + rng_below(&rng, 100);
        float logits[MAX_V];
        struct sampler sampler;
        random_logits(&rng, logits, V, 1);
        for (size_t v = 0; ties && v < V; v++) logits[v] = rintf(logits[v]);
        open_sampler(&sampler, options, V);
        for (int i = 0; i < 5; i++) assert_int_equal(pick(&sampler, logits, &rng), sampler_argmax(logits, V));
        sampler_close(&sampler);
    }
}

static void test_sampler_top_k_of_one_is_greedy(void **state)
{
    (void)state;
    const struct sampler_options options = {.temperature = 100, .top_k = 1};
    assert_greedy(&options, false);
    assert_greedy(&options, true);
}

static void test_sampler_top_p_near_zero_is_greedy(void **state)
{
    (void)state;
    const struct sampler_options options[] = {{.temperature = 100, .top_p = 1e-12}, {.temperature = 1, .top_p = 1e-3}};
    assert_greedy(&options[0], false);
    assert_greedy(&options[0], true);
    assert_greedy(&options[1], true);
}

static void test_sampler_top_k_keeps_the_lowest_ids_among_equals(void **state)
{
    (void)state;
    const struct sampler_options options = {.temperature = 1, .top_k = 3};
    const float logits[6] = {0, 1, 0, 0, 1, 0};
    unsigned seen[6] = {0};
    struct sampler sampler;
    struct rng rng;
    rng_seed(&rng, 3, 0);
    open_sampler(&sampler, &options, 6);
    for (int i = 0; i < 1000; i++) seen[pick(&sampler, logits, &rng)]++;
    assert_true(seen[0] > 0 && seen[1] > 0 && seen[4] > 0);
    assert_int_equal(seen[0] + seen[1] + seen[4], 1000);
    sampler_close(&sampler);
}

static void test_sampler_truncations_never_pick_what_is_forbidden(void **state)
{
    (void)state;
    static const struct sampler_options options[] = {
        {.temperature = 100, .top_k = 5}, {.temperature = 100, .top_p = 0.999}, {.temperature = 100, .min_p = 1e-9}};
    struct rng rng;
    rng_seed(&rng, 4, 0);
    for (size_t o = 0; o < 3; o++) {
        float logits[40];
        struct sampler sampler;
        for (size_t v = 0; v < 40; v++) logits[v] = v % 20 == 3 ? 1 : v % 2 ? NAN : -INFINITY;
        open_sampler(&sampler, &options[o], 40);
        for (int i = 0; i < 2000; i++) assert_int_equal(pick(&sampler, logits, &rng) % 20, 3);
        for (size_t v = 0; v < 40; v++) logits[v] = -INFINITY;
        assert_int_equal(pick(&sampler, logits, &rng), 0);
        sampler_close(&sampler);
    }
}

static void test_sampler_every_option_draws_exactly_one_number(void **state)
{
    (void)state;
    static const struct sampler_options options[] = {{.temperature = 1},
                                                     {.temperature = 1, .top_k = 5},
                                                     {.temperature = 1, .top_p = 0.5},
                                                     {.temperature = 1, .min_p = 0.1},
                                                     {.temperature = 1, .top_k = 1}};
    float logits[84];
    struct rng rng, expected;
    rng_seed(&rng, 3, 0);
    random_logits(&rng, logits, 84, 2);
    for (size_t o = 0; o < 5; o++) {
        struct sampler sampler;
        open_sampler(&sampler, &options[o], 84);
        expected = rng;
        rng_uniform(&expected);
        pick(&sampler, logits, &rng);
        assert_memory_equal(&rng, &expected, sizeof rng);
        sampler_close(&sampler);
    }
}

/* ------------------------------------------------------------------ penalties and biases */

/* The definition: from the whole history, for one token. */
static float plain_change(const struct sampler_options *options, float logit, uint32_t id, const uint32_t *history,
                          size_t n)
{
    const size_t window = options->repetition_window < n ? options->repetition_window : n;
    double x = (double)logit;
    unsigned count = 0;
    for (size_t i = n - window; i < n; i++) count += history[i] == id;
    if (count > 0) {
        if (options->repetition_penalty > 0 && x > 0) x /= options->repetition_penalty;
        if (options->repetition_penalty > 0 && (double)logit <= 0) x *= options->repetition_penalty;
        x -= options->presence_penalty;
        x -= options->frequency_penalty * count;
    }
    for (size_t i = 0; i < options->bias_count; i++)
        if (options->bias[i].id == id)
            x = options->bias[i].bias == -100 ? -INFINITY : x + (double)options->bias[i].bias;
    return (float)x;
}

static void assert_changes(const struct sampler_options *options, uint64_t seed)
{
    const size_t V = 20;
    uint32_t history[200];
    struct sampler sampler;
    struct rng rng;
    rng_seed(&rng, seed, 0);
    open_sampler(&sampler, options, V);
    for (size_t n = 0; n < 200; n++) {
        float logits[20], changed[20];
        random_logits(&rng, logits, V, 3);
        memcpy(changed, logits, sizeof logits);
        sampler_pick(&sampler, changed, &rng);
        for (uint32_t v = 0; v < V; v++) {
            const float expected = plain_change(options, logits[v], v, history, n);
            if (!(changed[v] == expected || fabsf(changed[v] - expected) < 1e-5f))
                fail_msg("after %zu tokens, token %u: %g instead of %g", n, v, (double)changed[v], (double)expected);
        }
        history[n] = (uint32_t)rng_below(&rng, V);
        sampler_see(&sampler, history[n], false);
    }
    sampler_close(&sampler);
}

static void test_sampler_penalties_and_biases_agree_with_their_definitions(void **state)
{
    (void)state;
    static const struct logit_bias bias[] = {{3, -100}, {4, 100}, {5, 2.5f}, {5, 1}, {19, -99.5f}};
    static const struct sampler_options options[] = {
        {.temperature = 1, .repetition_penalty = 1.3, .repetition_window = 10},
        {.temperature = 1, .repetition_penalty = 0.5, .repetition_window = 1},
        {.temperature = 1, .presence_penalty = 1.5, .repetition_window = 64},
        {.temperature = 1, .frequency_penalty = 0.25, .repetition_window = 199},
        {.temperature = 0, .frequency_penalty = -2, .repetition_window = 1000000000},
        {.temperature = 1,
         .repetition_penalty = 2,
         .presence_penalty = -1,
         .frequency_penalty = 0.5,
         .repetition_window = 7,
         .bias = bias,
         .bias_count = 5},
        {.temperature = 1, .repetition_penalty = 2, .presence_penalty = 3, .frequency_penalty = 4},
        {.temperature = 1, .bias = bias, .bias_count = 5},
    };
    for (size_t i = 0; i < sizeof options / sizeof options[0]; i++) assert_changes(&options[i], i);
}

static void test_sampler_bias_forbids_and_forces(void **state)
{
    (void)state;
    const struct logit_bias forbids = {7, -100}, forces = {30, 100};
    struct sampler_options options = {.temperature = 100, .bias = &forbids, .bias_count = 1};
    float logits[84];
    struct sampler sampler;
    struct rng rng;
    rng_seed(&rng, 8, 0);
    random_logits(&rng, logits, 84, 3);
    logits[7] = 50;
    open_sampler(&sampler, &options, 84);
    for (int i = 0; i < 5000; i++) assert_int_not_equal(pick(&sampler, logits, &rng), 7);
    sampler_close(&sampler);
    options = (struct sampler_options){.temperature = 1, .bias = &forces, .bias_count = 1};
    open_sampler(&sampler, &options, 84);
    for (int i = 0; i < 5000; i++) assert_int_equal(pick(&sampler, logits, &rng), 30);
    sampler_close(&sampler);
}

/* ------------------------------------------------------------------ log-probabilities */

static void test_sampler_logprobs_are_exact_and_sum_to_one(void **state)
{
    (void)state;
    struct rng rng;
    rng_seed(&rng, 6, 0);
    for (int round = 0; round < 200; round++) {
        const size_t V = 1 + rng_below(&rng, MAX_V), count = round % 2 ? V : 1 + rng_below(&rng, V < 20 ? V : 20);
        const struct sampler_options options = {.temperature = 1}, other = {.temperature = 0.5, .top_k = 3};
        float logits[MAX_V];
        double exact[MAX_V], sum = 0;
        struct token_probability top[MAX_V];
        struct sampler sampler;
        random_logits(&rng, logits, V, 4);
        exact_distribution(&options, logits, V, exact);
        open_sampler(&sampler, &other, V); /* whose options do not matter */
        const double logarithm = sampler_logprobs(&sampler, logits, count, top);
        for (size_t i = 0; i < count; i++) {
            const double p = exact[top[i].id];
            assert_true(fabs((double)top[i].logprob - log(p)) < 3e-6);
            assert_true(fabs((double)logits[top[i].id] - logarithm - log(p)) < 3e-6);
            if (i > 0) assert_true(logits[top[i].id] <= logits[top[i - 1].id]);
            sum += exp((double)top[i].logprob);
            exact[top[i].id] = -1; /* each comes once */
        }
        if (count == V) assert_true(fabs(sum - 1) < 2e-6);
        for (size_t v = 0; v < V; v++) assert_true(exact[v] < 0 || logits[v] <= logits[top[count - 1].id]);
        sampler_close(&sampler);
    }
}

static void test_sampler_logprobs_put_the_lowest_ids_first_among_equals(void **state)
{
    (void)state;
    const struct sampler_options options = {0};
    const float logits[6] = {0, 1, 0, 1, 0, 1};
    const uint32_t expected[5] = {1, 3, 5, 0, 2};
    struct token_probability top[5];
    struct sampler sampler;
    open_sampler(&sampler, &options, 6);
    sampler_logprobs(&sampler, logits, 5, top);
    for (size_t i = 0; i < 5; i++) assert_int_equal(top[i].id, expected[i]);
    sampler_close(&sampler);
}

/* ------------------------------------------------------------------ options and memory */

static void test_sampler_options_are_checked_by_name(void **state)
{
    (void)state;
    static const struct logit_bias large = {0, 100.5f}, not_a_number = {0, NAN};
    static const struct {
        struct sampler_options options;
        const char *name;
    } cases[] = {
        {{.temperature = 100, .top_k = UINT64_MAX, .top_p = 1, .min_p = 0.99, .repetition_penalty = 0.01}, NULL},
        {{.repetition_penalty = 100, .presence_penalty = -100, .frequency_penalty = 100}, NULL},
        {{.temperature = 100.5}, "temperature"},
        {{.temperature = (double)NAN}, "temperature"},
        {{.top_p = 1.01}, "top_p"},
        {{.top_p = -0.1}, "top_p"},
        {{.min_p = 1}, "min_p"},
        {{.min_p = -0.1}, "min_p"},
        {{.repetition_penalty = -1}, "repetition_penalty"},
        {{.repetition_penalty = 0.009}, "repetition_penalty"},
        {{.repetition_penalty = (double)INFINITY}, "repetition_penalty"},
        {{.presence_penalty = 101}, "presence_penalty"},
        {{.frequency_penalty = (double)NAN}, "frequency_penalty"},
        {{.bias = &large, .bias_count = 1}, "logit_bias"},
        {{.bias = &not_a_number, .bias_count = 1}, "logit_bias"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct error err = {0};
        const char *name = NULL;
        assert_int_equal(sampler_options_check(&cases[i].options, &name, &err), cases[i].name == NULL);
        if (cases[i].name == NULL) {
            assert_null(name);
            continue;
        }
        assert_non_null(name);
        assert_string_equal(name, cases[i].name);
        assert_non_null(strstr(err.message, name));
    }
}

static void assert_refused(const struct logit_bias *bias, size_t count, const char *part)
{
    const struct sampler_options options = {.temperature = 1, .bias = bias, .bias_count = count};
    struct sampler sampler;
    struct error err = {0};
    assert_false(sampler_open(&sampler, &options, kernels_select("auto"), 3, 0, &err));
    sampler_close(&sampler);
    assert_int_equal(err.code, ERROR_INVALID);
    if (strstr(err.message, part) == NULL) fail_msg("\"%s\" is not in \"%s\"", part, err.message);
}

static void test_sampler_refuses_biases_that_make_no_sense(void **state)
{
    (void)state;
    const struct logit_bias outside = {3, 1}, all[] = {{0, -100}, {1, -100}, {2, -100}};
    assert_refused(&outside, 1, "token 3; the vocabulary has 3");
    assert_refused(all, 3, "every token");
}

static const struct logit_bias some_bias = {1, 3};
static const struct sampler_options all_options = {.temperature = 0.8,
                                                   .top_k = 50,
                                                   .top_p = 0.9,
                                                   .min_p = 0.01,
                                                   .repetition_penalty = 1.1,
                                                   .presence_penalty = 0.1,
                                                   .frequency_penalty = 0.1,
                                                   .repetition_window = 16,
                                                   .bias = &some_bias,
                                                   .bias_count = 1};

static bool attempt(void *context, struct error *err)
{
    struct sampler sampler;
    (void)context;
    const bool opened = sampler_open(&sampler, &all_options, kernels_select("auto"), 84, 100, err);
    sampler_close(&sampler);
    return opened;
}

static void test_sampler_survives_failing_allocations(void **state)
{
    (void)state;
    assert_survives_failing_allocations(attempt, NULL);
}

/* Logit of token 0, zero before, after `read` of them in the prompt and `written` behind it. */
static float penalised(const struct sampler_options *options, size_t read, size_t written)
{
    float logits[20] = {0};
    struct sampler sampler;
    struct rng rng;
    rng_seed(&rng, 1, 0);
    open_sampler(&sampler, options, 20);
    for (size_t i = 0; i < read; i++) sampler_see(&sampler, 0, false);
    for (size_t i = 0; i < written; i++) sampler_see(&sampler, 0, true);
    sampler_pick(&sampler, logits, &rng);
    sampler_close(&sampler);
    return logits[0];
}

static void test_sampler_penalties_of_what_was_written_leave_the_prompt_and_the_window_out(void **state)
{
    (void)state;
    struct sampler_options options = {
        .presence_penalty = 1, .frequency_penalty = 0.5, .repetition_window = 2, .counts_written = true};
    assert_true(penalised(&options, 5, 0) == 0);
    assert_true(penalised(&options, 5, 1) == -1.5F);
    assert_true(penalised(&options, 0, 6) == -4);
    options.repetition_window = 0;
    assert_true(penalised(&options, 0, 6) == -4);
    options.counts_written = false;
    assert_true(penalised(&options, 0, 6) == 0);
    options.repetition_window = 2;
    assert_true(penalised(&options, 5, 0) == -2);
}

static void test_sampler_never_allocates_while_picking(void **state)
{
    (void)state;
    struct token_probability top[20];
    float logits[84];
    struct sampler sampler;
    struct rng rng;
    rng_seed(&rng, 1, 0);
    open_sampler(&sampler, &all_options, 84);
    fail_allocation(1);
    for (int i = 0; i < 100; i++) {
        random_logits(&rng, logits, 84, 2);
        sampler_logprobs(&sampler, logits, 20, top);
        sampler_see(&sampler, sampler_pick(&sampler, logits, &rng), true);
    }
    assert_false(fail_allocation_done());
    sampler_close(&sampler);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_sampler_each_truncation_follows_its_exact_distribution),
        cmocka_unit_test(test_sampler_top_p_is_taken_of_what_top_k_left),
        cmocka_unit_test(test_sampler_draws_from_the_exact_distribution_under_every_kernel),
        cmocka_unit_test(test_sampler_top_k_of_one_is_greedy),
        cmocka_unit_test(test_sampler_top_p_near_zero_is_greedy),
        cmocka_unit_test(test_sampler_top_k_keeps_the_lowest_ids_among_equals),
        cmocka_unit_test(test_sampler_truncations_never_pick_what_is_forbidden),
        cmocka_unit_test(test_sampler_every_option_draws_exactly_one_number),
        cmocka_unit_test(test_sampler_penalties_and_biases_agree_with_their_definitions),
        cmocka_unit_test(test_sampler_bias_forbids_and_forces),
        cmocka_unit_test(test_sampler_logprobs_are_exact_and_sum_to_one),
        cmocka_unit_test(test_sampler_logprobs_put_the_lowest_ids_first_among_equals),
        cmocka_unit_test(test_sampler_options_are_checked_by_name),
        cmocka_unit_test(test_sampler_refuses_biases_that_make_no_sense),
        cmocka_unit_test(test_sampler_survives_failing_allocations),
        cmocka_unit_test(test_sampler_penalties_of_what_was_written_leave_the_prompt_and_the_window_out),
        cmocka_unit_test(test_sampler_never_allocates_while_picking),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
