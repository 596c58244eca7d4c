#include <pthread.h>
#include <sched.h>
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

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_priority_prompt_changes_the_slice_alone),
        cmocka_unit_test(test_priority_lowest_takes_what_is_left),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
