#include <string.h>

#include "server/http/query.h"
#include "tests/unit/support.h"

static void test_query_splits_and_decodes(void **state)
{
    (void)state;
    struct query query;
    assert_true(query_parse(&query, "a=1+2&&b%3D=x%20%2By&c&d=e=f", NULL));
    static const char *const wanted[][2] = {{"a", "1 2"}, {"b=", "x +y"}, {"c", ""}, {"d", "e=f"}};
    assert_int_equal(query.count, 4);
    for (size_t i = 0; i < query.count; i++) {
        assert_string_equal(query.pairs[i].name, wanted[i][0]);
        assert_string_equal(query.pairs[i].value, wanted[i][1]);
        assert_int_equal(query.pairs[i].value_size, strlen(wanted[i][1]));
    }
    query_close(&query);
}

static void test_query_keeps_nul_bytes(void **state)
{
    (void)state;
    struct query query;
    assert_true(query_parse(&query, "a=x%00y", NULL));
    assert_int_equal(query.pairs[0].value_size, 3);
    assert_memory_equal(query.pairs[0].value, "x\0y", 4);
    query_close(&query);
}

static void test_query_without_anything_has_no_pairs(void **state)
{
    (void)state;
    static const char *const texts[] = {"", "&", "&&&"};
    for (size_t i = 0; i < 3; i++) {
        struct query query;
        assert_true(query_parse(&query, texts[i], NULL));
        assert_int_equal(query.count, 0);
        query_close(&query);
    }
}

static void test_query_names_the_byte_of_a_wrong_escape(void **state)
{
    (void)state;
    static const struct {
        const char *text, *byte;
    } cases[] = {
        {"%", "byte 0"}, {"a=%4", "byte 2"}, {"a=1&b=%zz", "byte 6"}, {"a=1&%g0=b", "byte 4"}, {"a=%4%41", "byte 2"}};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct query query;
        struct error err = {0};
        assert_false(query_parse(&query, cases[i].text, &err));
        assert_int_equal(err.code, ERROR_INVALID);
        assert_non_null(strstr(err.message, cases[i].byte));
        query_close(&query);
    }
}

static bool parse(void *context, struct error *err)
{
    struct query query;
    bool good = query_parse(&query, context, err);
    query_close(&query);
    return good;
}

static void test_query_survives_failing_allocations(void **state)
{
    (void)state;
    assert_survives_failing_allocations(parse, "a=b&c=d");
}

static void test_path_match_compares_decoded_segments(void **state)
{
    (void)state;
    char parameter[64];
    assert_true(path_match("/", "/", parameter));
    assert_true(path_match("/models", "/models", parameter));
    assert_true(path_match("/models", "/m%6Fdels", parameter));
    assert_true(path_match("/models/{name}", "/models/a%2Fb%20c+d", parameter));
    assert_string_equal(parameter, "a/b c+d");
    assert_true(path_match("/models/{name}/load", "/models/a%2Fb/lo%61d", parameter));
    assert_string_equal(parameter, "a/b");
    assert_true(path_match("/models/{name}/load", "/models/load/load", parameter));
    assert_string_equal(parameter, "load");
    assert_true(path_match("/models", "/models", parameter));
    assert_string_equal(parameter, "");
    static const char *const unlike[] = {"/models/a", "/models/a/", "/models//load", "/models/a/load/",
                                         "/models/a/b/load"};
    for (size_t i = 0; i < sizeof unlike / sizeof *unlike; i++)
        assert_false(path_match("/models/{name}/load", unlike[i], parameter));
    static const char *const others[] = {"",         "/",          "/model",        "/modelss",     "models",
                                         "/models/", "/models/x/", "/models%2Fx",   "//models/x",   "/models/x/y",
                                         "/MODELS",  "/models%00", "/models/x%00y", "/models/x%zz", "/models/%"};
    for (size_t i = 0; i < sizeof others / sizeof *others; i++) {
        assert_false(path_match("/models", others[i], parameter));
        assert_false(path_match("/models/{name}", others[i], parameter));
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_query_splits_and_decodes),
        cmocka_unit_test(test_query_keeps_nul_bytes),
        cmocka_unit_test(test_query_without_anything_has_no_pairs),
        cmocka_unit_test(test_query_names_the_byte_of_a_wrong_escape),
        cmocka_unit_test(test_query_survives_failing_allocations),
        cmocka_unit_test(test_path_match_compares_decoded_segments),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
