#include <string.h>

#include "server/api/fields.h"
#include "tests/unit/support.h"

struct target {
    struct field_text text;
    uint64_t count;
    double real;
    int choice;
    bool yes;
};

static const char *const choices[] = {"one", "two", NULL};
static const struct field rows[] = {
    {"text", FIELD_TEXT, offsetof(struct target, text), 0, 0, NULL, 0},
    {"count", FIELD_INTEGER, offsetof(struct target, count), 1, FIELDS_MAX_INTEGER, NULL, 0},
    {"real", FIELD_REAL, offsetof(struct target, real), -1, 1, NULL, 0},
    {"choice", FIELD_CHOICE, offsetof(struct target, choice), 0, 0, choices, 0},
    {"yes", FIELD_BOOL, offsetof(struct target, yes), 0, 0, NULL, 0},
};
static const struct field_table table = {rows, sizeof rows / sizeof *rows};

static void test_fields_read_every_type_from_json(void **state)
{
    (void)state;
    static const char body[] =
        "{\"text\": \"a\\u0000b\", \"count\": 9007199254740991, \"real\": -0.25, \"choice\": \"two\"}";
    struct problem problem = {0};
    struct target target = {0};
    uint64_t given;
    json_t *json = fields_parse_body(body, sizeof body - 1, &problem);
    assert_non_null(json);
    assert_true(fields_read_json(&table, &target, json, &given, &problem));
    assert_int_equal(given, 15);
    assert_int_equal(target.text.size, 3);
    assert_memory_equal(target.text.data, "a\0b", 3);
    assert_true(target.count == UINT64_C(9007199254740991));
    assert_true(target.real == -0.25);
    assert_int_equal(target.choice, 1);
    json_decref(json);
}

static void test_fields_read_every_type_from_a_query(void **state)
{
    (void)state;
    struct problem problem = {0};
    struct target target = {.choice = 1};
    struct query query;
    uint64_t given;
    assert_true(query_parse(&query, "text=%C3%A9%00&count=9007199254740991&real=1e-3", NULL));
    assert_true(fields_read_query(&table, &target, &query, &given, &problem));
    assert_int_equal(given, 7);
    assert_int_equal(target.text.size, 3);
    assert_true(target.count == UINT64_C(9007199254740991));
    assert_true(target.real == 1e-3);
    assert_int_equal(target.choice, 1);
    query_close(&query);
}

static void test_fields_that_are_wrong_keep_their_defaults(void **state)
{
    (void)state;
    static const char body[] = "{\"text\": 1, \"count\": 0, \"real\": 1.01, \"choice\": \"three\", \"reel\": 1}";
    struct problem problem = {0};
    struct target target = {.count = 7, .real = 0.5, .choice = 1};
    json_t *json = fields_parse_body(body, sizeof body - 1, &problem);
    assert_false(fields_read_json(&table, &target, json, NULL, &problem));
    assert_int_equal(problem.status, 422);
    assert_int_equal(problem.error_count, 5);
    assert_null(target.text.data);
    assert_true(target.count == 7 && target.real == 0.5 && target.choice == 1);
    const char *unknown = json_string_value(json_object_get(json_array_get(problem.errors, 4), "message"));
    assert_non_null(strstr(unknown, "\"real\""));
    json_decref(json);
    problem_close(&problem);
}

static void test_fields_numbers_in_queries_are_json_numbers(void **state)
{
    (void)state;
    static const char *const wrong[] = {"",    "+1",  ".5", "1 ", " 1",  "0x1", "inf",
                                        "nan", "1,5", "1e", "-",  "--1", "1%00"};
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++) {
        char text[32] = "real=";
        strcat(text, wrong[i]);
        struct query query;
        struct target target;
        struct problem problem = {0};
        assert_true(query_parse(&query, text, NULL));
        assert_false(fields_read_query(&table, &target, &query, NULL, &problem));
        assert_int_equal(problem.error_count, 1);
        problem_close(&problem);
        query_close(&query);
    }
}

static void test_fields_duplicate_key_is_found_by_name(void **state)
{
    (void)state;
    static const struct {
        const char *body, *name;
    } cases[] = {{"{\"a\":1,\"a\":2}", "a"},
                 {"{\"a\\\"b\" : 1, \"a\\\"b\" : 2}", "a\\\"b"},
                 {"{\"x\": {\"deep\": 1, \"deep\": 2}}", "deep"},
                 {"{\"\": 1, \"\": 2}", ""}};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct problem problem = {0};
        json_t *json = fields_parse_body(cases[i].body, strlen(cases[i].body), &problem);
        assert_non_null(json);
        assert_int_equal(problem.status, 422);
        const json_t *error = json_array_get(problem.errors, 0);
        assert_string_equal(json_string_value(json_object_get(error, "field")), cases[i].name);
        json_decref(json);
        problem_close(&problem);
    }
}

static void test_fields_duplicate_key_of_broken_json_is_400(void **state)
{
    (void)state;
    struct problem problem = {0};
    assert_null(fields_parse_body("{\"a\":1,\"a\":2", 12, &problem));
    assert_int_equal(problem.status, 400);
    problem_close(&problem);
}

static void test_fields_skip_a_byte_order_mark(void **state)
{
    (void)state;
    static const char body[] = "\xEF\xBB\xBF{\"count\": 3}", broken[] = "\xEF\xBB\xBF{\"count\": ?}";
    struct problem problem = {0};
    json_t *json = fields_parse_body(body, sizeof body - 1, &problem);
    assert_non_null(json);
    assert_true(json_number_value(json_object_get(json, "count")) == 3);
    json_decref(json);
    assert_null(fields_parse_body(broken, sizeof broken - 1, &problem));
    assert_non_null(strstr(problem.detail, "at byte 14")); /* of the whole body */
    problem_close(&problem);
    assert_null(fields_parse_body("\xEF\xBB\xBF", 3, &problem));
    assert_non_null(strstr(problem.detail, "empty"));
    problem_close(&problem);
}

static void test_fields_explain_what_other_languages_write(void **state)
{
    (void)state;
    static const struct {
        const char *body, *message;
    } cases[] = {
        {"{\"yes\": False}", "near 'False', at byte 9: JSON's booleans are true and false"},
        {"{\"yes\":True}", "JSON's booleans are true and false"},
        {"{\"yes\": None}", "JSON writes null"},
        {"{\"real\": NaN}", "JSON has no NaN"},
        {"{\"real\": -Infinity}", "JSON has no infinity"},
        {"{'yes': true}", "double quotes"},
        {"{\"text\": 'a'}", "double quotes"},
        {"{\"text\": undefined}", "JSON writes null"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct problem problem = {0};
        assert_null(fields_parse_body(cases[i].body, strlen(cases[i].body), &problem));
        assert_int_equal(problem.status, 400);
        if (!strstr(problem.detail, cases[i].message)) fail_msg("%s: %s", cases[i].body, problem.detail);
        problem_close(&problem);
    }
}

static void test_fields_show_what_was_sent(void **state)
{
    (void)state;
    static const struct {
        const char *body, *message;
    } cases[] = {
        {"{\"yes\": \"False\"}", "must be true or false, not the string \"False\"; JSON's booleans have no quotes"},
        {"{\"yes\": 1}", "must be true or false, not 1"},
        {"{\"count\": \"10\"}", "must be an integer, not the string \"10\"; JSON's numbers have no quotes"},
        {"{\"real\": true}", "must be a number, not true"},
        {"{\"real\": null}", "must be a number, not null"},
        {"{\"text\": 5}", "must be a string, not 5"},
        {"{\"text\": [5]}", "must be a string, not an array"},
        {"{\"choice\": \"three\"}", "must be \"one\" or \"two\", not the string \"three\""},
        {"{\"gpu\": 0}", "unknown field; lstmd computes on the processor alone; there is no GPU to choose"},
        {"{\"foobar\": 0}", "unknown field; /openapi.yaml lists all"},
        {"{\"Cuont\": 0}", "unknown field; did you mean \"count\"?"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct problem problem = {0};
        struct target target = {0};
        json_t *json = fields_parse_body(cases[i].body, strlen(cases[i].body), &problem);
        assert_false(fields_read_json(&table, &target, json, NULL, &problem));
        assert_string_equal(json_string_value(json_object_get(json_array_get(problem.errors, 0), "message")),
                            cases[i].message);
        json_decref(json);
        problem_close(&problem);
    }
    struct query query;
    struct problem problem = {0};
    struct target target = {0};
    assert_true(query_parse(&query, "yes=False", NULL));
    assert_false(fields_read_query(&table, &target, &query, NULL, &problem));
    assert_string_equal(json_string_value(json_object_get(json_array_get(problem.errors, 0), "message")),
                        "must be true or false, not \"False\"");
    query_close(&query);
    problem_close(&problem);
}

static void test_fields_without_memory_are_not_called_wrong(void **state)
{
    (void)state;
    static const char body[] =
        "{\"text\": \"abcdefghijklmnopqrstuvwxyz0123456789\", \"count\": 3, \"a\": {\"b\": [1, 2]}}";
    for (size_t n = 1;; n++) {
        struct problem problem = {0};
        fail_allocation(n);
        json_t *json = fields_parse_body(body, sizeof body - 1, &problem);
        if (!fail_allocation_done()) {
            assert_non_null(json);
            json_decref(json);
            assert_true(n > 5);
            break;
        }
        assert_null(json);
        assert_int_equal(problem.status, 503);
        problem_close(&problem);
    }
    /* The next body is what it is. */
    struct problem problem = {0};
    assert_null(fields_parse_body("{", 1, &problem));
    assert_int_equal(problem.status, 400);
    problem_close(&problem);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_fields_read_every_type_from_json),
        cmocka_unit_test(test_fields_read_every_type_from_a_query),
        cmocka_unit_test(test_fields_that_are_wrong_keep_their_defaults),
        cmocka_unit_test(test_fields_numbers_in_queries_are_json_numbers),
        cmocka_unit_test(test_fields_duplicate_key_is_found_by_name),
        cmocka_unit_test(test_fields_duplicate_key_of_broken_json_is_400),
        cmocka_unit_test(test_fields_skip_a_byte_order_mark),
        cmocka_unit_test(test_fields_explain_what_other_languages_write),
        cmocka_unit_test(test_fields_show_what_was_sent),
        cmocka_unit_test(test_fields_without_memory_are_not_called_wrong),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
