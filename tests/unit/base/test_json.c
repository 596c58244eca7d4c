#include <stdlib.h>
#include <string.h>

#include "base/json.h"
#include "tests/unit/support.h"

/* jansson's buffer has sizes that are powers of two. It must grow at the text's last character, at its closing quote,
 * and where the text is long. */
static void test_json_text_that_memory_is_lacking_for_is_not_cut(void **state)
{
    (void)state;
    for (size_t size = 4; size <= 16390; size = size < 66 ? size + 1 : 2 * size - 3) {
        char *text = malloc(size + 4);
        memset(text, 'a', size + 4);
        memcpy(text, "[\"", 2);
        memcpy(text + size + 2, "\"]", 2);
        bool failed = true;
        for (size_t n = 1; failed; n++) {
            json_error_t where;
            fail_allocation(n);
            json_t *json = json_text_parse(text, size + 4, 0, &where);
            failed = fail_allocation_done();
            assert_int_equal(json == NULL, failed);
            if (failed) assert_true(json_text_lacked_memory(&where));
            if (json) assert_int_equal(json_string_length(json_array_get(json, 0)), size);
            json_decref(json);
        }
        free(text);
    }
}

/* A document that needs more blocks than one parse has places for. */
static void test_json_text_of_many_parts_survives_failing_allocations(void **state)
{
    (void)state;
    char text[4096] = "{\"a\": [";
    for (int i = 0; i < 60; i++) strcat(text, "{\"b\": \"text\", \"c\": 1.5}, ");
    strcat(text, "null]}");
    bool failed = true;
    for (size_t n = 1; failed; n++) {
        json_error_t where;
        fail_allocation(n);
        json_t *json = json_text_parse(text, strlen(text), JSON_REJECT_DUPLICATES, &where);
        failed = fail_allocation_done();
        assert_int_equal(json == NULL, failed);
        if (json) assert_int_equal(json_array_size(json_object_get(json, "a")), 61);
        json_decref(json);
    }
}

static void test_json_text_with_a_fault_is_told_from_lack_of_memory(void **state)
{
    (void)state;
    json_error_t where;
    assert_null(json_text_parse("[1, }", 5, 0, &where));
    assert_false(json_text_lacked_memory(&where));
    assert_true(where.position == 5 && where.text[0] != '\0');
}

/* A megabyte of arrays, objects and keys, whose end is wrong: each part is freed again. Were each looked for among all,
 * this would take minutes. */
static void test_json_text_whose_end_is_wrong_is_refused_as_quickly_as_it_is_read(void **state)
{
    (void)state;
    static const char *const parts[] = {"[],", "{\"a\":{\"b\":[]}},", "\"text\",", "1.5,"};
    const size_t size = (size_t)1 << 20;
    for (size_t i = 0; i < sizeof parts / sizeof *parts; i++) {
        char *text = malloc(size);
        size_t n = 0;
        json_error_t where;
        text[n++] = '[';
        for (const size_t part = strlen(parts[i]); n + part < size; n += part) memcpy(text + n, parts[i], part);
        assert_null(json_text_parse(text, n, 0, &where));
        assert_false(json_text_lacked_memory(&where));
        text[n - 1] = ']';
        json_t *json = json_text_parse(text, n, 0, &where);
        assert_int_equal(json_array_size(json), (n - 1) / strlen(parts[i]));
        json_decref(json);
        free(text);
    }
}

static void test_json_safe_string_replaces_what_is_no_utf8(void **state)
{
    (void)state;
    json_t *good = json_safe_string("a\xc3\xa4", 3), *bad = json_safe_string("a\xc3"
                                                                             "b\xff",
                                                                             4);
    assert_string_equal(json_string_value(good), "a\xc3\xa4");
    assert_string_equal(json_string_value(bad), "a\xef\xbf\xbd"
                                                "b\xef\xbf\xbd");
    json_decref(good);
    json_decref(bad);
    fail_allocation(1);
    assert_null(json_safe_string("\xff", 1));
    assert_true(fail_allocation_done());
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_json_text_that_memory_is_lacking_for_is_not_cut),
        cmocka_unit_test(test_json_text_of_many_parts_survives_failing_allocations),
        cmocka_unit_test(test_json_text_with_a_fault_is_told_from_lack_of_memory),
        cmocka_unit_test(test_json_text_whose_end_is_wrong_is_refused_as_quickly_as_it_is_read),
        cmocka_unit_test(test_json_safe_string_replaces_what_is_no_utf8),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
