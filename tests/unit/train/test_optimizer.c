#include "model/train/optimizer.h"
#include "tests/unit/support.h"

static void test_optimizer_names_round_trip(void **state)
{
    (void)state;
    for (unsigned i = 0; optimizer_names[i]; i++) {
        enum optimizer_kind kind;
        assert_true(optimizer_parse(optimizer_names[i], &kind));
        assert_int_equal(kind, i);
        assert_string_equal(optimizer_name(kind), optimizer_names[i]);
    }
}

static void test_optimizer_parse_refuses_unknown_name(void **state)
{
    (void)state;
    enum optimizer_kind kind = OPTIMIZER_SGD;
    assert_false(optimizer_parse("Adam", &kind));
    assert_false(optimizer_parse("", &kind));
    assert_int_equal(kind, OPTIMIZER_SGD);
}

static void test_optimizer_moments_are_those_of_the_formulas(void **state)
{
    (void)state;
    assert_int_equal(optimizer_moments(OPTIMIZER_SGD), 1);
    assert_int_equal(optimizer_moments(OPTIMIZER_RMSPROP), 1);
    assert_int_equal(optimizer_moments(OPTIMIZER_ADAM), 2);
    assert_int_equal(optimizer_moments(OPTIMIZER_ADAMW), 2);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_optimizer_names_round_trip),
        cmocka_unit_test(test_optimizer_parse_refuses_unknown_name),
        cmocka_unit_test(test_optimizer_moments_are_those_of_the_formulas),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
