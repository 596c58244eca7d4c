#include "server/api/throttle.h"

#include <stdio.h>

#include "tests/unit/support.h"

#define SECOND UINT64_C(1000000000)

static int setup(void **state)
{
    *state = throttle_new(NULL);
    return *state ? 0 : -1;
}

static int teardown(void **state)
{
    throttle_free(*state);
    throttle_free(NULL);
    return 0;
}

static unsigned fail_times(struct throttle *throttle, const char *address, size_t n, uint64_t now)
{
    unsigned seconds = 0;
    for (size_t i = 0; i < n; i++) seconds = throttle_failed(throttle, address, now);
    return seconds;
}

static void test_throttle_waits_twice_as_long_with_each_failure_from_the_tenth(void **state)
{
    static const unsigned waits[] = {1, 2, 4, 8, 16, 32, 64, 64};
    uint64_t now = 5 * SECOND;
    assert_int_equal(throttle_wait(*state, "192.0.2.1", now), 0);
    assert_int_equal(fail_times(*state, "192.0.2.1", 9, now), 0);
    for (size_t i = 0; i < sizeof waits / sizeof *waits; i++) {
        assert_int_equal(throttle_failed(*state, "192.0.2.1", now), waits[i]);
        assert_int_equal(throttle_wait(*state, "192.0.2.1", now), waits[i]);
        assert_int_equal(throttle_wait(*state, "192.0.2.1", now + 1), waits[i]); /* rounded up */
        assert_int_equal(throttle_wait(*state, "192.0.2.1", now + waits[i] * SECOND - 1), 1);
        now += waits[i] * SECOND;
        assert_int_equal(throttle_wait(*state, "192.0.2.1", now), 0);
    }
}

static void test_throttle_forgets_after_ten_minutes(void **state)
{
    const uint64_t now = 5 * SECOND;
    fail_times(*state, "192.0.2.1", 9, now);
    assert_int_equal(throttle_failed(*state, "192.0.2.1", now + 599 * SECOND), 1);
    assert_int_equal(fail_times(*state, "192.0.2.1", 9, now + 1199 * SECOND), 0);
    assert_int_equal(throttle_failed(*state, "192.0.2.1", now + 1199 * SECOND), 1);
}

static void test_throttle_knows_an_address_by_its_network(void **state)
{
    static const struct {
        const char *one, *other;
        bool same;
    } cases[] = {
        {"192.0.2.1", "192.0.2.1", true},
        {"192.0.2.1", "192.0.2.2", false},
        {"192.0.2.3", "::ffff:192.0.2.3", true},
        {"2001:db8:0:1::1", "2001:db8:0:1:ffff::2", true},
        {"2001:db8:0:2::1", "2001:db8:0:3::1", false},
        {"", "somewhere", true},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct throttle *throttle = throttle_new(NULL);
        fail_times(throttle, cases[i].one, 10, SECOND);
        assert_int_equal(throttle_wait(throttle, cases[i].one, SECOND), 1);
        assert_int_equal(throttle_wait(throttle, cases[i].other, SECOND), cases[i].same);
        throttle_free(throttle);
    }
    (void)state;
}

/* The n-th of many addresses. */
static const char *address_of(unsigned n)
{
    static char text[32];
    snprintf(text, sizeof text, "10.%u.%u.%u", n >> 16, n >> 8 & 255, n & 255);
    return text;
}

static void test_throttle_keeps_an_address_that_waits_whatever_others_do(void **state)
{
    uint64_t now = SECOND;
    for (; throttle_failed(*state, "192.0.2.1", now) < 64; now += 64 * SECOND) continue;
    for (unsigned i = 0; i < 1100; i++) throttle_failed(*state, address_of(i), now + i + 1);
    assert_int_equal(throttle_wait(*state, "192.0.2.1", now + SECOND), 63);
    assert_int_equal(throttle_wait(*state, "192.0.2.1", now + 64 * SECOND - 1), 1);
}

static void test_throttle_nobody_comes_off_better_by_being_many(void **state)
{
    uint64_t now = SECOND;
    for (unsigned i = 0; i < 1500 * 20; i++) {
        throttle_failed(*state, address_of(i % 1500), now);
        now += SECOND / 5; /* an address comes again after 300 s */
    }
    assert_true(throttle_failed(*state, address_of(2000), now) > 0);
    assert_int_equal(throttle_wait(*state, "192.0.2.1", now), 0); /* who has not failed does not wait */
}

static void test_throttle_knows_who_has_48_bits(void **state)
{
    char address[64];
    uint64_t now = SECOND;
    for (unsigned i = 0; i < 100; i++, now += SECOND) {
        snprintf(address, sizeof address, "2001:db8:7:%x::1", i);
        assert_int_equal(throttle_wait(*state, address, now), 0);
        assert_int_equal(throttle_failed(*state, address, now), i < 99 ? 0 : 1);
    }
    now -= SECOND;
    assert_int_equal(throttle_wait(*state, "2001:db8:7:ffff::1", now), 1);
    assert_int_equal(throttle_wait(*state, "2001:db8:8:ffff::1", now), 0);
}

static void test_throttle_listens_to_those_it_knows_where_everybody_fails(void **state)
{
    const uint64_t now = 5 * SECOND;
    throttle_succeeded(*state, "192.0.2.1", now);
    for (unsigned i = 0; i < 1000; i++) {
        assert_int_equal(throttle_wait(*state, "192.0.2.2", now), 0);
        throttle_failed(*state, address_of(i), now);
    }
    assert_int_equal(throttle_wait(*state, "192.0.2.2", now + SECOND / 10 - 1), 1);
    assert_int_equal(throttle_wait(*state, "192.0.2.2", now + SECOND / 10), 0);
    assert_int_equal(throttle_wait(*state, "192.0.2.1", now), 0);
    assert_int_equal(throttle_wait(*state, "192.0.2.2", now + SECOND), 0);
    for (unsigned i = 0; i < 10; i++) throttle_failed(*state, address_of(i), now + SECOND);
    assert_int_equal(throttle_wait(*state, "192.0.2.2", now + SECOND), 1);
    fail_times(*state, "192.0.2.1", 10, now);
    assert_int_equal(throttle_wait(*state, "192.0.2.1", now), 1); /* its own */
}

static bool make(void *context, struct error *err)
{
    (void)context;
    struct throttle *throttle = throttle_new(err);
    throttle_free(throttle);
    return throttle != NULL;
}

static void test_throttle_survives_failing_allocations(void **state)
{
    (void)state;
    assert_survives_failing_allocations(make, NULL);
}

#define THROTTLE_TEST(f) cmocka_unit_test_setup_teardown(f, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        THROTTLE_TEST(test_throttle_waits_twice_as_long_with_each_failure_from_the_tenth),
        THROTTLE_TEST(test_throttle_forgets_after_ten_minutes),
        THROTTLE_TEST(test_throttle_knows_an_address_by_its_network),
        THROTTLE_TEST(test_throttle_keeps_an_address_that_waits_whatever_others_do),
        THROTTLE_TEST(test_throttle_nobody_comes_off_better_by_being_many),
        THROTTLE_TEST(test_throttle_knows_who_has_48_bits),
        THROTTLE_TEST(test_throttle_listens_to_those_it_knows_where_everybody_fails),
        cmocka_unit_test(test_throttle_survives_failing_allocations),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
