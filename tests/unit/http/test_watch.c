#include <poll.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

#include "server/http/watch.h"
#include "tests/unit/support.h"

#define DEADLINE_MS 20000
#define MANY        400

/* A socket that is watched, and the other end of it. */
struct watched {
    struct watch_entry entry;
    int peer;
    atomic_int gone, due;
};

static void count_gone(void *context)
{
    atomic_fetch_add(&((struct watched *)context)->gone, 1);
}

static void count_due(void *context)
{
    atomic_fetch_add(&((struct watched *)context)->due, 1);
}

static void set_calls(struct watch *watch, struct watched *one, uint64_t period_ns)
{
    const struct watch_calls calls = {
        .gone = count_gone, .due = period_ns ? count_due : NULL, .context = one, .period_ns = period_ns};
    watch_set(watch, &one->entry, &calls);
}

static void add(struct watch *watch, struct watched *one)
{
    int ends[2];
    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM, 0, ends), 0);
    atomic_store(&one->gone, 0);
    atomic_store(&one->due, 0);
    one->entry.fd = ends[0];
    one->peer = ends[1];
    assert_true(watch_add(watch, &one->entry));
}

static void take_out(struct watch *watch, struct watched *one)
{
    watch_remove(watch, &one->entry);
    close(one->entry.fd);
    if (one->peer >= 0) close(one->peer);
}

static void leave(struct watched *one)
{
    close(one->peer);
    one->peer = -1;
}

static void wait_for(atomic_int *count, int wanted)
{
    for (int i = 0; i < DEADLINE_MS && atomic_load(count) < wanted; i++) poll(NULL, 0, 1);
    assert_true(atomic_load(count) >= wanted);
}

static int setup(void **state)
{
    *state = watch_new(NULL);
    return *state ? 0 : -1;
}

static int teardown(void **state)
{
    watch_free(*state);
    watch_free(NULL);
    return 0;
}

static void test_watch_tells_once_who_has_left(void **state)
{
    static struct watched all[MANY];
    for (size_t i = 0; i < MANY; i++) {
        add(*state, &all[i]);
        set_calls(*state, &all[i], 0);
    }
    for (size_t i = 0; i < MANY; i += 2) leave(&all[i]);
    for (size_t i = 0; i < MANY; i += 2) wait_for(&all[i].gone, 1);
    for (size_t i = 0; i < MANY; i++) {
        take_out(*state, &all[i]);
        assert_int_equal(atomic_load(&all[i].gone), i % 2 == 0);
        assert_int_equal(atomic_load(&all[i].due), 0);
    }
}

static void test_watch_tells_of_one_that_left_before_it_was_asked(void **state)
{
    struct watched one = {0};
    add(*state, &one);
    set_calls(*state, &one, 0);
    leave(&one);
    wait_for(&one.gone, 1);
    set_calls(*state, &one, 0); /* for the next request on this connection */
    assert_int_equal(atomic_load(&one.gone), 2);
    take_out(*state, &one);
}

static void test_watch_calls_again_and_again_with_different_periods(void **state)
{
    static const uint64_t periods[] = {1000000, 3000000, 2000000, 3000000, 3600000000000, 1000000};
    enum { COUNT = sizeof periods / sizeof *periods };
    struct watched all[COUNT] = {0};
    for (size_t i = 0; i < COUNT; i++) {
        add(*state, &all[i]);
        set_calls(*state, &all[i], periods[i]);
    }
    for (size_t i = 0; i < COUNT; i++)
        if (i != 4) wait_for(&all[i].due, 3);
    assert_int_equal(atomic_load(&all[4].due), 0);
    set_calls(*state, &all[4], 1000000); /* sooner than it was */
    wait_for(&all[4].due, 1);
    set_calls(*state, &all[4], 0);
    const int before = atomic_load(&all[4].due);
    wait_for(&all[0].due, atomic_load(&all[0].due) + 3);
    assert_int_equal(atomic_load(&all[4].due), before); /* its old calls are over */
    for (size_t i = 0; i < COUNT; i++) take_out(*state, &all[i]);
}

static void test_watch_calls_sooner_once_the_peer_has_left(void **state)
{
    struct watched one = {0};
    add(*state, &one);
    set_calls(*state, &one, UINT64_C(3600000000000));
    leave(&one);
    wait_for(&one.due, 2);
    take_out(*state, &one);
}

static void test_watch_does_not_take_a_descriptor_for_the_one_that_had_it_before(void **state)
{
    struct watched one = {0};
    for (int i = 0; i < MANY; i++) { /* the event of the old socket may still be on its way */
        add(*state, &one);
        leave(&one);
        take_out(*state, &one);
        add(*state, &one);
        set_calls(*state, &one, 0);
        assert_int_equal(atomic_load(&one.gone), 0);
        take_out(*state, &one);
        assert_int_equal(atomic_load(&one.gone), 0);
    }
}

static bool watch_two(void *context, struct error *err)
{
    struct watched *all = context;
    struct watch *watch = watch_new(err);
    if (!watch) return false;
    bool good = true;
    for (size_t i = 0; i < 2 && good; i++) {
        good = watch_add(watch, &all[i].entry);
        if (good) set_calls(watch, &all[i], 1000000);
        if (good) watch_remove(watch, &all[i].entry);
    }
    watch_free(watch);
    return good || error_set_no_memory(err, 1, "a table");
}

static void test_watch_survives_failing_allocations(void **state)
{
    (void)state;
    struct watched all[2] = {0};
    for (size_t i = 0; i < 2; i++) {
        int ends[2];
        assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM, 0, ends), 0);
        all[i].entry.fd = ends[0];
        all[i].peer = ends[1];
    }
    assert_survives_failing_allocations(watch_two, all);
    for (size_t i = 0; i < 2; i++) {
        close(all[i].entry.fd);
        close(all[i].peer);
    }
}

#define WATCH_TEST(f) cmocka_unit_test_setup_teardown(f, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        WATCH_TEST(test_watch_tells_once_who_has_left),
        WATCH_TEST(test_watch_tells_of_one_that_left_before_it_was_asked),
        WATCH_TEST(test_watch_calls_again_and_again_with_different_periods),
        WATCH_TEST(test_watch_calls_sooner_once_the_peer_has_left),
        WATCH_TEST(test_watch_does_not_take_a_descriptor_for_the_one_that_had_it_before),
        cmocka_unit_test(test_watch_survives_failing_allocations),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
