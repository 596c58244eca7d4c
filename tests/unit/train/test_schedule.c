#include <math.h>

#include "model/train/optimizer.h"
#include "tests/unit/support.h"

static double rate(const struct schedule_options *options, uint64_t step, uint64_t epoch, double progress)
{
    struct schedule_state state;
    schedule_state_init(&state);
    return schedule_rate(options, &state, 0.1, step, epoch, progress);
}

static void close_to(double got, double expected)
{
    if (fabs(got - expected) > 1e-12) fail_msg("got %.15g, expected %.15g", got, expected);
}

static void test_schedule_names_round_trip(void **state)
{
    (void)state;
    for (unsigned i = 0; schedule_names[i]; i++) {
        enum schedule_kind kind;
        assert_true(schedule_parse(schedule_names[i], &kind));
        assert_string_equal(schedule_name(kind), schedule_names[i]);
    }
    enum schedule_kind kind;
    assert_false(schedule_parse("linear", &kind));
}

static void test_schedule_constant_keeps_the_base_rate(void **state)
{
    (void)state;
    struct schedule_options options = {.kind = SCHEDULE_CONSTANT};
    close_to(rate(&options, 0, 0, 0), 0.1);
    close_to(rate(&options, 100000, 99, 1), 0.1);
}

static void test_schedule_warmup_grows_linearly_to_the_base_rate(void **state)
{
    (void)state;
    struct schedule_options options = {.kind = SCHEDULE_CONSTANT, .warmup = 4};
    close_to(rate(&options, 0, 0, 0), 0.025);
    close_to(rate(&options, 2, 0, 0), 0.075);
    close_to(rate(&options, 3, 0, 0), 0.1);
    close_to(rate(&options, 4, 0, 0), 0.1);
}

static void test_schedule_step_multiplies_every_few_epochs(void **state)
{
    (void)state;
    struct schedule_options options = {.kind = SCHEDULE_STEP, .factor = 0.5, .every = 2};
    close_to(rate(&options, 0, 1, 0), 0.1);
    close_to(rate(&options, 0, 2, 0), 0.05);
    close_to(rate(&options, 0, 5, 0), 0.025);
}

static void test_schedule_minimum_is_a_floor(void **state)
{
    (void)state;
    struct schedule_options options = {.kind = SCHEDULE_STEP, .factor = 0.1, .every = 1, .minimum = 0.01};
    close_to(rate(&options, 0, 2, 0), 0.001);
    close_to(rate(&options, 0, 9, 0), 0.001);
}

static void test_schedule_cosine_falls_from_the_base_rate_to_the_minimum(void **state)
{
    (void)state;
    struct schedule_options options = {.kind = SCHEDULE_COSINE, .minimum = 0.1};
    close_to(rate(&options, 0, 0, 0), 0.1);
    close_to(rate(&options, 0, 0, 0.5), 0.055);
    close_to(rate(&options, 0, 0, 1), 0.01);
    close_to(rate(&options, 0, 0, 1.5), 0.01);
}

static void test_schedule_plateau_multiplies_after_patience_and_starts_counting_again(void **state)
{
    (void)state;
    struct schedule_options options = {.kind = SCHEDULE_PLATEAU, .factor = 0.5, .patience = 2};
    struct schedule_state s;
    schedule_state_init(&s);
    const double losses[] = {2.0, 1.9, 1.95, 1.91, 1.92, 1.8, 1.85, 1.85};
    const double scales[] = {1, 1, 1, 0.5, 0.5, 0.5, 0.5, 0.25};
    for (size_t i = 0; i < sizeof losses / sizeof *losses; i++) {
        schedule_observe(&options, &s, losses[i]);
        close_to(schedule_rate(&options, &s, 1, 0, 0, 0), scales[i]);
    }
}

static void test_schedule_other_kinds_ignore_validation_losses(void **state)
{
    (void)state;
    struct schedule_options options = {.kind = SCHEDULE_COSINE, .factor = 0.5, .patience = 1};
    struct schedule_state s;
    schedule_state_init(&s);
    for (int i = 0; i < 5; i++) schedule_observe(&options, &s, 1);
    close_to(s.plateau_scale, 1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_schedule_names_round_trip),
        cmocka_unit_test(test_schedule_constant_keeps_the_base_rate),
        cmocka_unit_test(test_schedule_warmup_grows_linearly_to_the_base_rate),
        cmocka_unit_test(test_schedule_step_multiplies_every_few_epochs),
        cmocka_unit_test(test_schedule_minimum_is_a_floor),
        cmocka_unit_test(test_schedule_cosine_falls_from_the_base_rate_to_the_minimum),
        cmocka_unit_test(test_schedule_plateau_multiplies_after_patience_and_starts_counting_again),
        cmocka_unit_test(test_schedule_other_kinds_ignore_validation_losses),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
