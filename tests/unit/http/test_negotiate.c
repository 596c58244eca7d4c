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

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_accept_weighs_ranges),
        cmocka_unit_test(test_accept_passes_over_what_is_malformed),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
