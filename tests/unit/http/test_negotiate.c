#include <stdio.h>
#include <string.h>

#include "server/http/negotiate.h"
#include "tests/unit/support.h"

static const char *const types[] = {"application/json", "text/csv"};
enum { JSON, CSV };

static void test_accept_weighs_ranges(void **state)
{
    (void)state;
    static const struct {
        const char *accept;
        size_t chosen;
    } cases[] = {
        {NULL, JSON},
        {"", JSON},
        {"*/*", JSON},
        {"text/csv", CSV},
        {"TEXT/CSV", CSV},
        {"text/csv; charset=utf-8", CSV},
        {"text/*", CSV},
        {"text/csv;q=0", JSON},
        {"text/csv;q=0.0", JSON},
        {"application/json, text/csv;q=0.1", JSON},
        {"application/json;q=0.1, text/csv", CSV},
        {"application/json;q=0.1,text/csv;q=0.101", CSV},
        {"text/csv , application/json", JSON}, /* equal: ours comes first */
        {"text/csv;q=0.5, */*;q=0.1", CSV},
        {"text/csv;q=0.1, */*;q=0.5", JSON},
        {"*/*, application/json;q=0", CSV}, /* the more specific range wins */
        {"text/*;q=1, text/csv;q=0", JSON},
        {"text/*;q=0, text/csv, application/json;q=0.9", CSV},
        {"text/csv;x=\"a,application/json;q=1\", application/json;q=0.5", CSV}, /* a comma in quotes */
        {"text/csv ; Q=1.000 , application/json ; q=0.999", CSV},
        {"text/html", JSON}, /* none of ours: disregarded */
        {"text/html, application/xhtml+xml, */*;q=0.8", JSON},
        {"text/csvx", JSON},
        {"application/text/csv", JSON},
        {"application/json;q=0, text/csv;q=0", JSON},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++)
        if (accept_choose(cases[i].accept, types, 2) != cases[i].chosen) fail_msg("%s", cases[i].accept);
}

static void test_accept_passes_over_what_is_malformed(void **state)
{
    (void)state;
    static const char *const malformed[] = {"text/csv;q=2",
                                            "text/csv;q=",
                                            "text/csv;q=0.1234",
                                            "text/csv;q=1.1",
                                            "text/csv;q=-1",
                                            "text/csv x",
                                            "text",
                                            ",,,;;",
                                            "text/csv;q=nan",
                                            "/",
                                            "\"",
                                            ";q=1",
                                            "text/csv;q=0,5x",
                                            "text/csv;q=.5"};
    for (size_t i = 0; i < sizeof malformed / sizeof *malformed; i++) {
        char both[64];
        if (accept_choose(malformed[i], types, 2) != JSON) fail_msg("%s", malformed[i]);
        snprintf(both, sizeof both, "text/csv, %s", malformed[i]);
        if (accept_choose(both, types, 2) != CSV) fail_msg("%s", both);
    }
}

static void test_gzip_is_chosen_where_the_client_likes_it(void **state)
{
    (void)state;
    static const struct {
        const char *encodings;
        bool gzip;
    } cases[] = {
        {NULL, false},
        {"", false},
        {"gzip", true},
        {"GZIP", true},
        {"deflate, gzip, br, zstd", true},
        {"gzip;q=0", false},
        {"gzip;q=0.000", false},
        {"gzip ; q=0.001", true},
        {"identity", false},
        {"identity, gzip", true},
        {"identity, gzip;q=0.9", false},
        {"identity;q=0.5, gzip;q=0.9", true},
        {"*", true},
        {"*;q=0", false},
        {"*;q=0, gzip", true},
        {"gzip;q=0, *", false},
        {"*, gzip;q=0", false},
        {"gzip, *;q=0", true},
        {"br", false},
        {"gzipx", false},
        {"gzi", false},
        {"gzip;q=2", false},
        {"gzip x", false},
        {"gzip;q=, gzip", true},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++)
        if (accept_gzip(cases[i].encodings) != cases[i].gzip) fail_msg("%s", cases[i].encodings);
}

static void test_tag_is_found_in_a_list(void **state)
{
    (void)state;
    static const struct {
        const char *list;
        bool found;
    } cases[] = {
        {NULL, false},
        {"", false},
        {"\"a1\"", true},
        {" \"b\" , \"a1\"", true},
        {"W/\"a1\"", true},
        {"\"b\",W/\"a1\",\"c\"", true},
        {"*", true},
        {" * ", true},
        {"*x", false},
        {"\"b\", *", false},
        {"\"a\"", false},
        {"\"a11\"", false},
        {"\"A1\"", false},
        {"a1", false},
        {"\"a1", false},
        {"w/\"a1\"", false},
        {"\"x, \"a1\"", false}, /* the tag is "x, " */
        {"\"*\"", false},
        {"W/", false},
        {",,, \"a1\"", true},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++)
        if (etag_is_listed(cases[i].list, "\"a1\"") != cases[i].found) fail_msg("%s", cases[i].list);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_accept_weighs_ranges),
        cmocka_unit_test(test_accept_passes_over_what_is_malformed),
        cmocka_unit_test(test_gzip_is_chosen_where_the_client_likes_it),
        cmocka_unit_test(test_tag_is_found_in_a_list),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
