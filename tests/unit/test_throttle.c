#include "server/throttle.h"

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

static void test_throttle_is_bounded_and_lets_the_oldest_go(void **state)
{
    char address[32];
    for (unsigned i = 0; i < 1024; i++) {
        snprintf(address, sizeof address, "10.0.%u.%u", i / 256, i % 256);
        fail_times(*state, address, 10, SECOND + (i + 512) % 1024); /* 10.0.2.0 is the oldest */
    }
    const uint64_t now = SECOND + 1024;
    fail_times(*state, "10.1.0.0", 10, now);
    assert_int_equal(throttle_wait(*state, "10.1.0.0", now), 1);
    assert_int_equal(throttle_wait(*state, "10.0.2.0", now), 0);
    assert_int_equal(throttle_wait(*state, "10.0.2.1", now), 1);
    assert_int_equal(throttle_wait(*state, "10.0.1.255", now), 1);
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
        THROTTLE_TEST(test_throttle_is_bounded_and_lets_the_oldest_go),
        cmocka_unit_test(test_throttle_survives_failing_allocations),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
