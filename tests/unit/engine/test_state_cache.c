#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/rng.h"
#include "server/engine/state_cache.h"
#include "tests/unit/support.h"

#define MODEL      7
#define STATE      8 /* floats */
#define VOCABULARY 84
#define PLENTY     ((size_t)1 << 30)

static struct state_cache *cache_of(size_t max_bytes)
{
    struct state_cache *cache = state_cache_new(max_bytes, NULL);
    assert_non_null(cache);
    assert_true(state_cache_add_model(cache, MODEL, STATE, VOCABULARY, NULL));
    return cache;
}

/* The state that belongs to a prefix: a function of its tokens. */
static void state_of(const uint32_t *tokens, size_t n, float state[STATE])
{
    uint64_t hash = 99;
    for (size_t i = 0; i < n; i++) hash = (hash ^ tokens[i]) * UINT64_C(0x100000001B3) + 1;
    for (size_t i = 0; i < STATE; i++) state[i] = (float)((hash >> i * 7 & 0xFFFF) + i);
}

static void store(struct state_cache *cache, uint64_t model, const uint32_t *tokens, size_t n)
{
    float state[STATE];
    state_of(tokens, n, state);
    state_cache_store(cache, model, tokens, n, state);
}

/* Finds, and checks that the state is that of the prefix that was found. */
static size_t find(struct state_cache *cache, uint64_t model, const uint32_t *tokens, size_t n)
{
    float state[STATE], expected[STATE];
    memset(state, 0xA5, sizeof state);
    const size_t covered = state_cache_find(cache, model, tokens, n, state);
    if (covered > 0)
        state_of(tokens, covered, expected);
    else
        memset(expected, 0xA5, sizeof expected);
    assert_memory_equal(state, expected, sizeof state);
    return covered;
}

static size_t bytes(struct state_cache *cache)
{
    return state_cache_numbers(cache).bytes;
}

static size_t states(struct state_cache *cache)
{
    return state_cache_numbers(cache).states;
}

static void test_state_cache_finds_the_longest_stored_prefix(void **state)
{
    (void)state;
    static const uint32_t tokens[] = {0, 5, 6, 7, 8, 9, 10, 11};
    struct state_cache *cache = cache_of(PLENTY);
    assert_int_equal(find(cache, MODEL, tokens, 8), 0);
    store(cache, MODEL, tokens, 5);
    store(cache, MODEL, tokens, 2); /* splits the way to the first */
    assert_int_equal(find(cache, MODEL, tokens, 8), 5);
    assert_int_equal(find(cache, MODEL, tokens, 5), 5);
    assert_int_equal(find(cache, MODEL, tokens, 4), 2);
    assert_int_equal(find(cache, MODEL, tokens, 2), 2);
    assert_int_equal(find(cache, MODEL, tokens, 1), 0);
    assert_int_equal(find(cache, MODEL, tokens, 0), 0);
    const struct state_cache_numbers numbers = state_cache_numbers(cache);
    assert_int_equal(numbers.states, 2);
    assert_int_equal(numbers.hits, 4);
    assert_int_equal(numbers.misses, 3);
    state_cache_free(cache);
}

static void test_state_cache_prefixes_that_part_share_what_they_have_in_common(void **state)
{
    (void)state;
    struct state_cache *cache = cache_of(PLENTY);
    uint32_t left[1000] = {0}, right[1000] = {0};
    for (uint32_t i = 0; i < 1000; i++) left[i] = right[i] = i % 80;
    right[998] = 81;
    store(cache, MODEL, left, 1000);
    const size_t one = bytes(cache);
    store(cache, MODEL, right, 1000);
    assert_true(bytes(cache) - one < 400);
    assert_int_equal(find(cache, MODEL, left, 1000), 1000);
    assert_int_equal(find(cache, MODEL, right, 1000), 1000);
    right[999] = 1;
    assert_int_equal(find(cache, MODEL, right, 1000), 0);
    store(cache, MODEL, left, 998);
    assert_int_equal(find(cache, MODEL, right, 1000), 998);
    state_cache_free(cache);
}

/* Vocabularies beyond 256 and 65536 tokens need more bytes per token; ids that agree in the low bytes differ. */
static void test_state_cache_tells_tokens_apart_that_agree_in_their_low_bytes(void **state)
{
    (void)state;
    static const uint32_t sizes[] = {256, 257, 65536, 65537, 1000000};
    for (size_t i = 0; i < 5; i++) {
        struct state_cache *cache = state_cache_new(PLENTY, NULL);
        assert_true(state_cache_add_model(cache, MODEL, STATE, sizes[i], NULL));
        const uint32_t last = sizes[i] - 1, other = last & (sizes[i] > 65536 ? 0xFFFF : 0xFF);
        const uint32_t a[] = {1, last, last, 2}, b[] = {1, last, other, 2};
        store(cache, MODEL, a, 4);
        assert_int_equal(find(cache, MODEL, a, 4), 4);
        assert_int_equal(find(cache, MODEL, b, 4), other == last ? 4 : 0);
        store(cache, MODEL, b, 2);
        assert_int_equal(find(cache, MODEL, b, 4), other == last ? 4 : 2);
        state_cache_free(cache);
    }
}

static void test_state_cache_forgets_the_least_recently_used(void **state)
{
    (void)state;
    struct state_cache *cache = cache_of(PLENTY);
    uint32_t tokens[3] = {0};
    store(cache, MODEL, tokens, 3);
    const size_t each = bytes(cache);
    state_cache_free(cache);
    cache = cache_of(4 * each);
    for (tokens[0] = 0; tokens[0] < 4; tokens[0]++) store(cache, MODEL, tokens, 3);
    assert_int_equal(bytes(cache), 4 * each);
    tokens[0] = 0;
    assert_int_equal(find(cache, MODEL, tokens, 3), 3); /* used: 1 is the oldest now */
    tokens[0] = 1;
    store(cache, MODEL, tokens, 3); /* stored again: 2 is */
    for (tokens[0] = 10; tokens[0] < 12; tokens[0]++) store(cache, MODEL, tokens, 3);
    static const uint32_t there[] = {0, 1, 10, 11}, gone[] = {2, 3};
    for (size_t i = 0; i < 4; i++) {
        tokens[0] = there[i];
        assert_int_equal(find(cache, MODEL, tokens, 3), 3);
    }
    for (size_t i = 0; i < 2; i++) {
        tokens[0] = gone[i];
        assert_int_equal(find(cache, MODEL, tokens, 3), 0);
    }
    assert_int_equal(state_cache_numbers(cache).evictions, 2);
    assert_int_equal(bytes(cache), 4 * each);
    state_cache_free(cache);
}

static void test_state_cache_what_cannot_fit_is_not_stored_and_drives_nothing_out(void **state)
{
    (void)state;
    uint32_t tokens[5000] = {1, 2, 3};
    struct state_cache *cache = cache_of(1000);
    store(cache, MODEL, tokens, 3);
    store(cache, MODEL, tokens, 5000);
    assert_int_equal(states(cache), 1);
    assert_int_equal(find(cache, MODEL, tokens, 5000), 3);
    state_cache_free(cache);
    cache = cache_of(0);
    store(cache, MODEL, tokens, 3);
    assert_int_equal(states(cache), 0);
    assert_int_equal(bytes(cache), 0);
    state_cache_free(cache);
}

static void test_state_cache_dropping_a_model_empties_it_and_nothing_else(void **state)
{
    (void)state;
    struct state_cache *cache = cache_of(PLENTY);
    assert_true(state_cache_add_model(cache, 8, STATE, 300, NULL));
    uint32_t tokens[2];
    for (uint32_t i = 0; i < 1000; i++) {
        tokens[0] = i % 83;
        tokens[1] = i / 83;
        store(cache, MODEL, tokens, 2);
    }
    const size_t before = bytes(cache);
    store(cache, 8, tokens, 2);
    const size_t other = bytes(cache) - before;
    state_cache_drop_model(cache, MODEL);
    state_cache_drop_model(cache, MODEL);
    assert_int_equal(states(cache), 1);
    assert_int_equal(bytes(cache), other);
    assert_int_equal(find(cache, 8, tokens, 2), 2);
    assert_int_equal(find(cache, MODEL, tokens, 2), 0);
    store(cache, MODEL, tokens, 2); /* a late job of the old model */
    assert_int_equal(states(cache), 1);
    state_cache_drop_model(cache, 8);
    assert_int_equal(bytes(cache), 0);
    state_cache_free(cache);
}

static void test_state_cache_least_recently_used_goes_first_across_models(void **state)
{
    (void)state;
    const uint32_t token = 1, other = 2;
    struct state_cache *cache = cache_of(400);
    assert_true(state_cache_add_model(cache, 8, STATE, VOCABULARY, NULL));
    store(cache, MODEL, &token, 1);
    store(cache, 8, &token, 1);
    assert_int_equal(states(cache), 2);
    assert_int_equal(find(cache, MODEL, &token, 1), 1);
    store(cache, MODEL, &other, 1);
    assert_int_equal(find(cache, 8, &token, 1), 0);
    assert_int_equal(find(cache, MODEL, &token, 1), 1);
    state_cache_free(cache);
}

/* Few different tokens, so that prefixes part and meet everywhere; compared with a plain list of what was stored. */
static void test_state_cache_agrees_with_a_plain_list(void **state)
{
    (void)state;
    enum { STORED = 400, LONGEST = 12 };
    static uint32_t stored[STORED][LONGEST];
    static size_t lengths[STORED];
    struct rng rng;
    rng_seed(&rng, 4, 0);
    struct state_cache *cache = cache_of(PLENTY);
    for (size_t i = 0; i < STORED; i++) {
        lengths[i] = 1 + rng_below(&rng, LONGEST);
        for (size_t t = 0; t < LONGEST; t++) stored[i][t] = (uint32_t)rng_below(&rng, 3);
        store(cache, MODEL, stored[i], lengths[i]);
        uint32_t wanted[LONGEST];
        for (size_t t = 0; t < LONGEST; t++) wanted[t] = (uint32_t)rng_below(&rng, 3);
        size_t longest = 0;
        for (size_t j = 0; j <= i; j++)
            if (lengths[j] > longest && memcmp(stored[j], wanted, lengths[j] * sizeof(uint32_t)) == 0)
                longest = lengths[j];
        assert_int_equal(find(cache, MODEL, wanted, LONGEST), longest);
    }
    state_cache_drop_model(cache, MODEL);
    assert_int_equal(bytes(cache), 0);
    state_cache_free(cache);
}

/* Small, so that splitting, eviction and pruning happen all the time. */
static void test_state_cache_stays_exact_and_bounded_while_states_go(void **state)
{
    (void)state;
    struct rng rng;
    rng_seed(&rng, 5, 0);
    struct state_cache *cache = cache_of(5000);
    size_t hits = 0;
    for (size_t i = 0; i < 20000; i++) {
        uint32_t tokens[20];
        const size_t n = 1 + rng_below(&rng, 20);
        for (size_t t = 0; t < n; t++) tokens[t] = (uint32_t)rng_below(&rng, 2);
        hits += find(cache, MODEL, tokens, n) > 0;
        store(cache, MODEL, tokens, n);
        assert_int_equal(find(cache, MODEL, tokens, n), n);
        assert_true(bytes(cache) <= 5000);
    }
    assert_true(hits > 1000);
    assert_true(state_cache_numbers(cache).evictions > 1000);
    state_cache_drop_model(cache, MODEL);
    assert_int_equal(bytes(cache), 0);
    state_cache_free(cache);
}

static void test_state_cache_state_of_the_bundled_size_costs_less_than_1500_bytes(void **state)
{
    (void)state;
    enum { COUNT = 2000, LENGTH = 100 }; /* prompts of a hundred characters */
    float values[256] = {0};
    struct state_cache *cache = state_cache_new(PLENTY, NULL);
    assert_true(state_cache_add_model(cache, MODEL, 256, VOCABULARY, NULL));
    struct rng rng;
    rng_seed(&rng, 6, 0);
    for (size_t i = 0; i < COUNT; i++) {
        uint32_t tokens[LENGTH];
        for (size_t t = 0; t < LENGTH; t++) tokens[t] = (uint32_t)rng_below(&rng, VOCABULARY);
        state_cache_store(cache, MODEL, tokens, LENGTH, values);
    }
    assert_int_equal(states(cache), COUNT);
    const size_t each = bytes(cache) / COUNT;
    print_message("a cached state of 1x128 after 100 characters: %zu bytes\n", each);
    assert_true(each < 1500);
    state_cache_free(cache);
}

static void random_tokens(uint64_t i, uint32_t *tokens, size_t n)
{
    struct rng rng;
    rng_seed(&rng, i, 1);
    for (size_t t = 0; t < n; t++) tokens[t] = (uint32_t)rng_below(&rng, VOCABULARY);
}

#if defined __SANITIZE_THREAD__ || defined __SANITIZE_ADDRESS__
#define MANY 50000
#else
#define MANY 1000000
#endif

/* The time of this thread only. It does not include other work of the machine. */
static uint64_t processor_ns(void)
{
    struct timespec now;
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &now);
    return (uint64_t)now.tv_sec * 1000000000 + (uint64_t)now.tv_nsec;
}

static void test_state_cache_a_lookup_among_a_million_costs_microseconds(void **state)
{
    (void)state;
    enum { LENGTH = 40, LOOKUPS = MANY }; /* a scan for each would go far beyond the time limit of tests/run */
    struct state_cache *cache = cache_of((size_t)4 << 30);
    uint32_t tokens[LENGTH];
    for (uint64_t i = 0; i < MANY; i++) {
        random_tokens(i, tokens, LENGTH);
        store(cache, MODEL, tokens, LENGTH);
    }
    assert_int_equal(states(cache), MANY);
    uint64_t spent = 0;
    for (uint64_t i = 0; i < LOOKUPS; i++) {
        float found[STATE];
        random_tokens(i * 7919 % MANY, tokens, LENGTH);
        const uint64_t begun = processor_ns();
        const size_t covered = state_cache_find(cache, MODEL, tokens, LENGTH, found);
        spent += processor_ns() - begun;
        assert_int_equal(covered, LENGTH);
    }
    print_message("a lookup among %d states: %.2f us\n", MANY, (double)spent / LOOKUPS * 1e-3);
    state_cache_free(cache);
}

struct visitor {
    pthread_t thread;
    struct state_cache *cache;
    uint64_t seed;
    size_t wrong;
};

static void *visit(void *argument)
{
    struct visitor *visitor = argument;
    struct rng rng;
    rng_seed(&rng, visitor->seed, 2);
    for (size_t i = 0; i < 5000; i++) {
        uint32_t tokens[10];
        float found[STATE], expected[STATE];
        const uint64_t model = rng_below(&rng, 8) == 0 ? 8 : MODEL;
        const size_t n = 1 + rng_below(&rng, 10);
        for (size_t t = 0; t < n; t++) tokens[t] = (uint32_t)rng_below(&rng, 3);
        const size_t covered = state_cache_find(visitor->cache, model, tokens, n, found);
        state_of(tokens, covered, expected);
        visitor->wrong += covered > 0 && memcmp(found, expected, sizeof found) != 0;
        store(visitor->cache, model, tokens, n);
        if (visitor->seed == 0 && i % 500 == 499) {
            state_cache_drop_model(visitor->cache, 8);
            state_cache_add_model(visitor->cache, 8, STATE, VOCABULARY, NULL);
        }
    }
    return NULL;
}

static void test_state_cache_serves_threads_at_once(void **state)
{
    (void)state;
    struct visitor visitors[4];
    struct state_cache *cache = cache_of(6000);
    for (uint64_t i = 0; i < 4; i++) {
        visitors[i] = (struct visitor){.cache = cache, .seed = i};
        assert_int_equal(pthread_create(&visitors[i].thread, NULL, visit, &visitors[i]), 0);
    }
    for (size_t i = 0; i < 4; i++) {
        pthread_join(visitors[i].thread, NULL);
        assert_int_equal(visitors[i].wrong, 0);
    }
    assert_true(bytes(cache) <= 6000);
    state_cache_free(cache);
}

static bool open_and_close(void *context, struct error *err)
{
    (void)context;
    struct state_cache *cache = state_cache_new(10000, err);
    const bool added = cache && state_cache_add_model(cache, MODEL, STATE, VOCABULARY, err);
    state_cache_free(cache);
    return added;
}

static void test_state_cache_survives_failing_allocations(void **state)
{
    (void)state;
    static const uint32_t tokens[] = {1, 2, 3, 4, 5, 6}, other[] = {1, 2, 9, 9};
    assert_survives_failing_allocations(open_and_close, NULL);
    for (size_t n = 1, failed = 1; failed; n++) {
        struct state_cache *cache = cache_of(PLENTY);
        store(cache, MODEL, tokens, 6);
        const size_t before = bytes(cache);
        fail_allocation(n);
        store(cache, MODEL, other, 4); /* a split and a leaf */
        failed = fail_allocation_done();
        assert_int_equal(find(cache, MODEL, tokens, 6), 6);
        const size_t found = find(cache, MODEL, other, 4);
        assert_true(found == 4 || (failed && found == 0)); /* what fails to shrink is stored all the same */
        assert_true(found == 4 ? bytes(cache) > before : bytes(cache) <= before + 128);
        state_cache_drop_model(cache, MODEL);
        assert_int_equal(bytes(cache), 0);
        state_cache_free(cache);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_state_cache_finds_the_longest_stored_prefix),
        cmocka_unit_test(test_state_cache_prefixes_that_part_share_what_they_have_in_common),
        cmocka_unit_test(test_state_cache_tells_tokens_apart_that_agree_in_their_low_bytes),
        cmocka_unit_test(test_state_cache_forgets_the_least_recently_used),
        cmocka_unit_test(test_state_cache_what_cannot_fit_is_not_stored_and_drives_nothing_out),
        cmocka_unit_test(test_state_cache_dropping_a_model_empties_it_and_nothing_else),
        cmocka_unit_test(test_state_cache_least_recently_used_goes_first_across_models),
        cmocka_unit_test(test_state_cache_agrees_with_a_plain_list),
        cmocka_unit_test(test_state_cache_stays_exact_and_bounded_while_states_go),
        cmocka_unit_test(test_state_cache_state_of_the_bundled_size_costs_less_than_1500_bytes),
        cmocka_unit_test(test_state_cache_a_lookup_among_a_million_costs_microseconds),
        cmocka_unit_test(test_state_cache_serves_threads_at_once),
        cmocka_unit_test(test_state_cache_survives_failing_allocations),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
