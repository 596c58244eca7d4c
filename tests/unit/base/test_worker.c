#include "base/worker.h"

#include <semaphore.h>

#include "tests/unit/support.h"

#define MOST 16 /* tasks */

struct gate {
    struct task task; /* first */
    sem_t open;
};

struct notes {
    size_t numbers[MOST], count;
};

/* A task that notes its number when it runs. */
struct noted {
    struct task task; /* first */
    size_t number;
    struct notes *notes;
};

static void note(struct task *task)
{
    const struct noted *noted = (const struct noted *)task;
    noted->notes->numbers[noted->notes->count++] = noted->number;
}

static void wait_at_gate(struct task *task)
{
    while (sem_wait(&((struct gate *)task)->open) != 0) continue;
}

/* Submits n tasks of these sizes behind one that waits for all of them, and looks in which order they run. */
static void check_order(const size_t *sizes, const size_t *wanted, size_t n)
{
    struct gate gate = {.task.run = wait_at_gate};
    struct noted tasks[MOST];
    struct notes notes = {.count = 0};
    struct worker *worker = worker_new(NULL);
    assert_non_null(worker);
    assert_int_equal(sem_init(&gate.open, 0, 0), 0);
    assert_true(worker_submit(worker, &gate.task));
    for (size_t i = 0; i < n; i++) {
        tasks[i] = (struct noted){{.run = note, .size = sizes[i]}, i, &notes};
        assert_true(worker_submit(worker, &tasks[i].task));
    }
    sem_post(&gate.open);
    worker_stop(worker);
    assert_int_equal(notes.count, n);
    for (size_t i = 0; i < n; i++) assert_int_equal(notes.numbers[i], wanted[i]);
    assert_false(worker_submit(worker, &gate.task));
    worker_free(worker);
    sem_destroy(&gate.open);
}

static void test_worker_runs_a_small_task_before_large_ones_that_were_first(void **state)
{
    (void)state;
    static const size_t sizes[] = {16, 15, 14, 13, 12, 2, 1};
    static const size_t wanted[] = {6, 5, 4, 0, 3, 2, 1};
    check_order(sizes, wanted, sizeof sizes / sizeof *sizes);
}

static void test_worker_lets_no_large_task_wait_for_ever(void **state)
{
    (void)state;
    static const size_t sizes[] = {9, 8, 1, 1, 1, 1, 1, 1, 1};
    static const size_t wanted[] = {2, 3, 4, 0, 5, 6, 7, 1, 8};
    check_order(sizes, wanted, sizeof sizes / sizeof *sizes);
}

static void test_worker_keeps_the_order_of_tasks_of_one_size(void **state)
{
    (void)state;
    static const size_t sizes[MOST] = {0};
    static const size_t wanted[MOST] = {0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15};
    check_order(sizes, wanted, MOST);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_worker_runs_a_small_task_before_large_ones_that_were_first),
        cmocka_unit_test(test_worker_lets_no_large_task_wait_for_ever),
        cmocka_unit_test(test_worker_keeps_the_order_of_tasks_of_one_size),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
