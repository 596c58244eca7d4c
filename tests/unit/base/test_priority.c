#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdint.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "base/priority.h"
#include "tests/unit/support.h"

/* sched_getattr(2), first version. */
struct scheduling {
    uint32_t size, policy;
    uint64_t flags;
    int32_t nice;
    uint32_t priority;
    uint64_t runtime, deadline, period;
};

static struct scheduling before, after;

/* In threads of their own: what they gave up cannot be taken back without privileges. */
static void *prompt(void *unused)
{
    setpriority(PRIO_PROCESS, (id_t)gettid(), 5);
    syscall(SYS_sched_getattr, 0, &before, sizeof before, 0);
    priority_prompt();
    syscall(SYS_sched_getattr, 0, &after, sizeof after, 0);
    return unused;
}

static void *lowest(void *unused)
{
    priority_lowest();
    syscall(SYS_sched_getattr, 0, &after, sizeof after, 0);
    return unused;
}

static void run(void *(*thread)(void *))
{
    pthread_t id;
    assert_int_equal(pthread_create(&id, NULL, thread, NULL), 0);
    assert_int_equal(pthread_join(id, NULL), 0);
}

static void test_priority_prompt_changes_the_slice_alone(void **state)
{
    (void)state;
    run(prompt);
    assert_int_equal(after.policy, SCHED_OTHER);
    assert_int_equal(after.nice, 5);
    /* A kernel that knows slices tells them; an older one says 0 before and after. */
    if (before.runtime == 0)
        print_message("this kernel knows no slices of a thread's own\n");
    else
        assert_int_equal(after.runtime, 100000);
}

static void test_priority_lowest_takes_what_is_left(void **state)
{
    (void)state;
    run(lowest);
    assert_int_equal(after.policy, SCHED_IDLE);
    assert_int_equal(after.nice, 19);
}

/* ---- giving way ---- */

static atomic_bool over;
static bool at_lowest;

static void pin(void)
{
    cpu_set_t all, one;
    size_t cpu = 0;
    assert_int_equal(sched_getaffinity(0, sizeof all, &all), 0);
    while (!CPU_ISSET(cpu, &all)) cpu++;
    CPU_ZERO(&one);
    CPU_SET(cpu, &one);
    assert_int_equal(sched_setaffinity(0, sizeof one, &one), 0);
}

/* Wants the same processor, with the same priority. */
static void *compete(void *unused)
{
    while (!atomic_load(&over)) continue;
    return unused;
}

/* Gives way ten times; how often another thread had the processor meanwhile. */
static void *give_way(void *switches)
{
    struct rusage then, now;
    pthread_t rival;
    pin();
    if (at_lowest) priority_lowest();
    atomic_store(&over, false);
    assert_int_equal(pthread_create(&rival, NULL, compete, NULL), 0);
    getrusage(RUSAGE_THREAD, &then);
    for (int piece = 0; piece < 40; piece++) priority_give_way(1000000);
    getrusage(RUSAGE_THREAD, &now);
    atomic_store(&over, true);
    assert_int_equal(pthread_join(rival, NULL), 0);
    *(long *)switches = now.ru_nivcsw - then.ru_nivcsw;
    return NULL;
}

static long switches_at(bool lowest_)
{
    pthread_t id;
    long switches = -1;
    at_lowest = lowest_;
    assert_int_equal(pthread_create(&id, NULL, give_way, &switches), 0);
    assert_int_equal(pthread_join(id, NULL), 0);
    return switches;
}

static void test_give_way_lets_others_have_the_processor_at_the_lowest_priority(void **state)
{
    (void)state;
    assert_true(switches_at(true) > 2);
    assert_true(switches_at(false) <= 2); /* at a tick of Linux, perhaps: the calls are over in microseconds */
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_priority_prompt_changes_the_slice_alone),
        cmocka_unit_test(test_priority_lowest_takes_what_is_left),
        cmocka_unit_test(test_give_way_lets_others_have_the_processor_at_the_lowest_priority),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
