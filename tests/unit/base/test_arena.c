#include "base/arena.h"

#include <string.h>

#include "base/size.h"
#include "tests/unit/support.h"

static void test_arena_memory_is_zeroed_aligned_and_apart(void **state)
{
    (void)state;
    static const size_t sizes[] = {1, 63, 64, 65, 4096, 5 << 20}; /* the last lies in large pages, if there are any */
    struct arena arena = {0};
    unsigned char *parts[6];
    for (size_t i = 0; i < 6; i++) {
        parts[i] = arena_alloc(&arena, sizes[i], 1, "part", NULL);
        assert_non_null(parts[i]);
        assert_int_equal((uintptr_t)parts[i] % ARENA_ALIGNMENT, 0);
        for (size_t j = 0; j < sizes[i]; j++)
            if (parts[i][j] != 0) fail_msg("byte %zu of %zu is not zero", j, sizes[i]);
        memset(parts[i], (int)i + 1, sizes[i]);
    }
    for (size_t i = 0; i < 6; i++)
        for (size_t j = 0; j < sizes[i]; j++)
            if (parts[i][j] != i + 1) fail_msg("byte %zu of %zu is not %zu", j, sizes[i], i + 1);
    assert_true(arena.total >= 1 + 63 + 64 + 65 + 4096 + (5 << 20));
    arena_free(&arena);
    assert_null(arena.blocks);
    assert_int_equal(arena.total, 0);
}

static void test_arena_zero_bytes_give_a_pointer(void **state)
{
    (void)state;
    struct arena arena = {0};
    assert_non_null(arena_alloc(&arena, 0, 8, "nothing", NULL));
    assert_non_null(arena_alloc(&arena, 8, 0, "nothing", NULL));
    arena_free(&arena);
}

static void test_arena_can_be_used_again_after_free(void **state)
{
    (void)state;
    struct arena arena = {0};
    arena_free(&arena);
    assert_non_null(arena_alloc(&arena, 10, 10, "x", NULL));
    arena_free(&arena);
    assert_non_null(arena_alloc(&arena, 10, 10, "x", NULL));
    arena_free(&arena);
}

static void test_arena_overflow_is_an_error_that_names_the_thing(void **state)
{
    (void)state;
    static const size_t requests[][2] = {{SIZE_MAX, 2}, {SIZE_MAX / 2 + 1, 2}, {SIZE_MAX, 1}, {1, SIZE_MAX - 10}};
    struct arena arena = {0};
    for (size_t i = 0; i < 4; i++) {
        struct error err = {0};
        assert_null(arena_alloc(&arena, requests[i][0], requests[i][1], "the weights", &err));
        assert_int_equal(err.code, ERROR_TOO_LARGE);
        assert_non_null(strstr(err.message, "the weights"));
    }
    struct error err = {0};
    assert_null(arena_copy_text(&arena, "", SIZE_MAX, &err));
    assert_int_equal(err.code, ERROR_TOO_LARGE);
    arena_free(&arena);
}

static bool fill(void *context, struct error *err)
{
    (void)context;
    struct arena arena = {0};
    bool done = arena_alloc(&arena, 3, 5, "a", err) && arena_copy_text(&arena, "abc", 3, err) &&
                arena_alloc(&arena, 1000, 1000, "b", err);
    arena_free(&arena);
    return done;
}

static void test_arena_survives_failing_allocations(void **state)
{
    (void)state;
    assert_survives_failing_allocations(fill, NULL);
}

static void test_arena_copy_text_ends_with_nul(void **state)
{
    (void)state;
    struct arena arena = {0};
    assert_string_equal(arena_copy_text(&arena, "abcdef", 3, NULL), "abc");
    assert_string_equal(arena_copy_text(&arena, NULL, 0, NULL), "");
    arena_free(&arena);
}

static void test_size_arithmetic_refuses_overflow(void **state)
{
    (void)state;
    size_t result = 7;
    assert_true(size_multiply(3, 4, &result));
    assert_int_equal(result, 12);
    assert_false(size_multiply(SIZE_MAX, 2, &result));
    assert_false(size_add(SIZE_MAX, 1, &result));
    assert_int_equal(result, 12);
    assert_true(size_add(SIZE_MAX - 1, 1, &result));
    assert_true(result == SIZE_MAX);
    assert_int_equal(size_round_up(0, 64), 0);
    assert_int_equal(size_round_up(1, 64), 64);
    assert_int_equal(size_round_up(64, 64), 64);
    assert_int_equal(size_round_up(65, 64), 128);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_arena_memory_is_zeroed_aligned_and_apart),
        cmocka_unit_test(test_arena_zero_bytes_give_a_pointer),
        cmocka_unit_test(test_arena_can_be_used_again_after_free),
        cmocka_unit_test(test_arena_overflow_is_an_error_that_names_the_thing),
        cmocka_unit_test(test_arena_survives_failing_allocations),
        cmocka_unit_test(test_arena_copy_text_ends_with_nul),
        cmocka_unit_test(test_size_arithmetic_refuses_overflow),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
