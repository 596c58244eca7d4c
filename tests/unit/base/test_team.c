/* base/team: each run calls every worker once, and a barrier holds all workers. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/team.h"

enum { PHASES = 50 };

struct phases {
    struct team *team;
    atomic_size_t arrived[PHASES];
    atomic_size_t runs;
    atomic_bool early;
};

static void run_phases(void *context, size_t worker)
{
    struct phases *phases = context;
    (void)worker;
    atomic_fetch_add(&phases->runs, 1);
    for (size_t i = 0; i < PHASES; i++) {
        atomic_fetch_add(&phases->arrived[i], 1);
        team_barrier(phases->team);
        if (atomic_load(&phases->arrived[i]) != team_size(phases->team)) atomic_store(&phases->early, true);
    }
}

static void test_team_barrier_waits_for_every_worker(void **state)
{
    (void)state;
    for (size_t workers = 1; workers <= 5; workers++) {
        struct error err = {0};
        struct phases phases = {.team = team_new(workers, &err)};
        assert_non_null(phases.team);
        team_run(phases.team, run_phases, &phases);
        assert_int_equal(phases.runs, workers);
        assert_false(phases.early);
        team_free(phases.team);
    }
}

static void add_index(void *context, size_t worker)
{
    atomic_fetch_add((atomic_size_t *)context, worker + 1);
}

static void test_team_runs_again_and_again(void **state)
{
    (void)state;
    struct error err = {0};
    struct team *team = team_new(3, &err);
    atomic_size_t sum = 0;
    assert_non_null(team);
    for (int i = 0; i < 1000; i++) team_run(team, add_index, &sum);
    assert_int_equal(sum, 6000);
    team_free(team);
    team_free(NULL);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_team_barrier_waits_for_every_worker),
        cmocka_unit_test(test_team_runs_again_and_again),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
