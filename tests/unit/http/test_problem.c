#include <stdlib.h>
#include <string.h>

#include "server/http/problem.h"
#include "tests/unit/support.h"

static json_t *document_of(const struct problem *problem)
{
    size_t size = 0;
    char *text = problem_to_json(problem, "/generate", &size);
    assert_non_null(text);
    assert_int_equal(size, strlen(text));
    assert_int_equal(text[size - 1], '\n');
    json_t *document = json_loads(text, 0, NULL);
    assert_non_null(document);
    free(text);
    return document;
}

static const char *text_of(const json_t *document, const char *key)
{
    return json_string_value(json_object_get(document, key));
}

static void test_problem_first_status_wins(void **state)
{
    (void)state;
    struct problem problem = {0};
    assert_false(problem_set(&problem, 415, "first %d", 1));
    problem_set(&problem, 404, "second");
    problem_add_field(&problem, "x", "third");
    json_t *document = document_of(&problem);
    assert_int_equal(json_integer_value(json_object_get(document, "status")), 415);
    assert_string_equal(text_of(document, "title"), "Unsupported Media Type");
    assert_string_equal(text_of(document, "detail"), "first 1");
    assert_string_equal(text_of(document, "type"), "about:blank");
    assert_string_equal(text_of(document, "instance"), "/generate");
    json_decref(document);
    problem_close(&problem);
    assert_int_equal(problem.status, 0);
}

static void test_problem_names_every_field(void **state)
{
    (void)state;
    struct problem problem = {0};
    problem_add_field(&problem, "length", "must be %s", "small");
    problem_add_field(&problem, "seed", "is wrong");
    json_t *document = document_of(&problem);
    assert_int_equal(problem.status, 422);
    assert_string_equal(text_of(document, "detail"), "2 fields are wrong: length, seed");
    const json_t *errors = json_object_get(document, "errors");
    assert_int_equal(json_array_size(errors), 2);
    assert_string_equal(text_of(json_array_get(errors, 0), "field"), "length");
    assert_string_equal(text_of(json_array_get(errors, 0), "message"), "must be small");
    json_decref(document);
    problem_close(&problem);
}

static void test_problem_counts_fields_beyond_its_limit(void **state)
{
    (void)state;
    struct problem problem = {0};
    for (int i = 0; i < 1000; i++) problem_add_field(&problem, "a-name-of-some-length", "is wrong");
    json_t *document = document_of(&problem);
    assert_int_equal(json_array_size(json_object_get(document, "errors")), PROBLEM_MAX_ERRORS);
    assert_non_null(strstr(text_of(document, "detail"), "1000 fields are wrong"));
    assert_non_null(strstr(text_of(document, "detail"), ", ..."));
    json_decref(document);
    problem_close(&problem);
}

static void test_problem_is_valid_json_whatever_it_quotes(void **state)
{
    (void)state;
    struct problem problem = {0};
    problem_add_field(&problem, "\xff\"\n", "\xc3 \x01");
    json_decref(document_of(&problem));
    problem_close(&problem);
}

static void test_problem_status_follows_from_the_error(void **state)
{
    (void)state;
    static const struct {
        enum error_code code;
        int status;
    } cases[] = {{ERROR_INVALID, 422},  {ERROR_NOT_FOUND, 404}, {ERROR_CONFLICT, 409},    {ERROR_TOO_LARGE, 413},
                 {ERROR_NO_SPACE, 507}, {ERROR_NO_MEMORY, 503}, {ERROR_UNAVAILABLE, 503}, {ERROR_CANCELLED, 503},
                 {ERROR_CORRUPT, 500},  {ERROR_IO, 500},        {ERROR_NUMERIC, 500},     {ERROR_USAGE, 500}};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct error err = {0};
        struct problem problem = {0};
        error_set(&err, cases[i].code, "why");
        problem_set_error(&problem, &err);
        assert_int_equal(problem.status, cases[i].status);
        assert_string_equal(problem.detail, "why");
        assert_string_not_equal(http_status_reason(problem.status), "Error");
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_problem_first_status_wins),
        cmocka_unit_test(test_problem_names_every_field),
        cmocka_unit_test(test_problem_counts_fields_beyond_its_limit),
        cmocka_unit_test(test_problem_is_valid_json_whatever_it_quotes),
        cmocka_unit_test(test_problem_status_follows_from_the_error),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
