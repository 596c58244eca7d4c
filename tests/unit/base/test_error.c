#include "base/error.h"

#include <errno.h>
#include <string.h>

#include "base/utf8.h"
#include "tests/unit/support.h"

static void test_error_first_cause_wins(void **state)
{
    (void)state;
    struct error err = {0};
    assert_false(error_set(&err, ERROR_CORRUPT, "tensor %d", 3));
    error_set(&err, ERROR_IO, "later");
    error_set_errno(&err, ENOSPC, "later still");
    error_set_no_memory(&err, 1, "the last");
    assert_int_equal(err.code, ERROR_CORRUPT);
    assert_string_equal(err.message, "tensor 3");
    error_clear(&err);
    assert_int_equal(err.code, ERROR_NONE);
    assert_string_equal(err.message, "");
}

static void test_error_null_is_allowed_everywhere(void **state)
{
    (void)state;
    assert_false(error_set(NULL, ERROR_IO, "x"));
    assert_false(error_set_errno(NULL, EIO, "x"));
    assert_false(error_add_context(NULL, "x"));
    assert_false(error_set_no_memory(NULL, 1, "x"));
    error_clear(NULL);
}

static void test_error_errno_decides_the_code(void **state)
{
    (void)state;
    static const struct {
        int errno_value;
        enum error_code code;
    } cases[] = {{ENOENT, ERROR_NOT_FOUND},  {ENOTDIR, ERROR_NOT_FOUND}, {EEXIST, ERROR_CONFLICT},
                 {ENOSPC, ERROR_NO_SPACE},   {EDQUOT, ERROR_NO_SPACE},   {EFBIG, ERROR_NO_SPACE},
                 {ENOMEM, ERROR_NO_MEMORY},  {EACCES, ERROR_IO},         {EIO, ERROR_IO},
                 {ENOTEMPTY, ERROR_CONFLICT}};
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct error err = {0};
        error_set_errno(&err, cases[i].errno_value, "%s", "/a/b");
        assert_int_equal(err.code, cases[i].code);
        assert_memory_equal(err.message, "/a/b: ", 6);
        assert_string_equal(err.message + 6, strerror(cases[i].errno_value));
    }
}

static void test_error_context_stands_before_the_cause(void **state)
{
    (void)state;
    struct error err = {0};
    error_add_context(&err, "nothing to add to");
    assert_int_equal(err.code, ERROR_NONE);
    assert_string_equal(err.message, "");
    error_set(&err, ERROR_INVALID, "not a number");
    error_add_context(&err, "line %d", 7);
    error_add_context(&err, "%s", "a.yaml");
    assert_string_equal(err.message, "a.yaml: line 7: not a number");
}

static void test_error_out_of_memory_names_bytes_and_thing(void **state)
{
    (void)state;
    struct error err = {0};
    error_set_no_memory(&err, 1234567890123, "weights");
    assert_int_equal(err.code, ERROR_NO_MEMORY);
    assert_string_equal(err.message, "out of memory (1234567890123 bytes for weights)");
    error_clear(&err);
    error_set_no_memory(&err, 0, "a library's own");
    assert_string_equal(err.message, "out of memory for a library's own");
}

static void assert_message_is_sound(const struct error *err)
{
    size_t n = strnlen(err->message, sizeof err->message);
    assert_true(n < sizeof err->message);
    assert_int_equal(utf8_valid_prefix(err->message, n), n);
    assert_null(strpbrk(err->message, "\n\r\t\x1b\x7f"));
}

static void test_error_long_text_is_cut_at_a_whole_character(void **state)
{
    (void)state;
    char text[2000];
    for (size_t shift = 0; shift < 4; shift++) {
        memset(text, 'x', shift);
        for (size_t i = shift; i + 4 < sizeof text; i += 4) memcpy(text + i, "\xF0\x9F\x98\x80", 5);
        struct error err = {0};
        error_set(&err, ERROR_INVALID, "%s", text);
        assert_message_is_sound(&err);
        assert_null(strchr(err.message, '?'));
        assert_true(strlen(err.message) > ERROR_MESSAGE_SIZE - 8);
        assert_string_equal(err.message + strlen(err.message) - 3, "...");
    }
}

static void test_error_long_path_does_not_hide_the_reason(void **state)
{
    (void)state;
    char path[1000];
    memset(path, 'p', sizeof path - 1);
    path[sizeof path - 1] = '\0';
    struct error err = {0};
    error_set_errno(&err, ENOSPC, "%s", path);
    assert_non_null(strstr(err.message, strerror(ENOSPC)));
    error_clear(&err);
    error_set(&err, ERROR_INVALID, "the reason");
    error_add_context(&err, "%s", path);
    assert_non_null(strstr(err.message, "the reason"));
    assert_message_is_sound(&err);
}

static void test_error_message_is_one_line_of_utf8(void **state)
{
    (void)state;
    struct error err = {0};
    error_set(&err, ERROR_INVALID, "a\nb\x1b[31m\xff\xc3(\xc3\xa9)");
    assert_string_equal(err.message, "a?b?[31m?"
                                     "?(\xc3\xa9)");
    error_add_context(&err, "c\rd\xe2\x82");
    assert_string_equal(err.message, "c?d?"
                                     "?: a?b?[31m?"
                                     "?(\xc3\xa9)");
    assert_message_is_sound(&err);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_error_first_cause_wins),
        cmocka_unit_test(test_error_null_is_allowed_everywhere),
        cmocka_unit_test(test_error_errno_decides_the_code),
        cmocka_unit_test(test_error_context_stands_before_the_cause),
        cmocka_unit_test(test_error_out_of_memory_names_bytes_and_thing),
        cmocka_unit_test(test_error_long_text_is_cut_at_a_whole_character),
        cmocka_unit_test(test_error_long_path_does_not_hide_the_reason),
        cmocka_unit_test(test_error_message_is_one_line_of_utf8),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
