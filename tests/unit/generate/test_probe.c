/* Probes: the properties of a text and the units that follow them, compared with the formula in two passes. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <math.h>
#include <string.h>

#include "base/rng.h"
#include "base/utf8.h"
#include "model/generate/probe.h"
#include "tests/unit/support.h"

#define TOKENS 400
#define UNITS  7

/* Returns the result of probe_text_next() for each character of a text, as a digit. */
static void assert_property(const char *text, enum probe_property property, const char *expected)
{
    struct error err = {0};
    struct probe_text follower;
    double values[PROBE_PROPERTIES];
    if (!probe_text_open(&follower, &err)) fail_msg("%s", err.message);
    for (size_t at = 0, i = 0, n = strlen(text); at < n; i++) {
        uint32_t character;
        size_t length = utf8_decode(text + at, n - at, &character);
        if (length == 0) length = 1;
        probe_text_next(&follower, text + at, length, values);
        if ((int)values[property] != expected[i] - '0')
            fail_msg("%s of %s, character %zu: %g", probe_property_names[property], text, i, values[property]);
        at += length;
    }
}

static void test_text_has_its_properties(void **state)
{
    (void)state;
    assert_property("ab\ncd\n\ne", PROBE_POSITION, "01201200");
    assert_property("a\"b\"c", PROBE_QUOTES, "01100");
    assert_property("a\xE2\x80\x9C\x62\xE2\x80\x9D\xC2\xAB\x63\xC2\xBB\xC2\xBB", PROBE_QUOTES, "01101100");
    assert_property("(a[b])c)d", PROBE_BRACKETS, "111110000");
    assert_property("aB\xC3\x84\xC3\xA4.", PROBE_CAPITAL, "01100");
    assert_property("a, \xC3\xA4\x31\n", PROBE_BORDER, "011001");
    assert_property("a1 9", PROBE_DIGIT, "0101");
    assert_property("\xFF\xFE ", PROBE_BORDER, "001");
}

static void test_word_has_the_properties_of_its_letters(void **state)
{
    (void)state;
    struct error err = {0};
    struct probe_text follower;
    double values[PROBE_PROPERTIES];
    assert_true(probe_text_open(&follower, &err));
    probe_text_next(&follower, "Route66", 7, values);
    assert_true(values[PROBE_CAPITAL] == 1 && values[PROBE_DIGIT] == 1 && values[PROBE_BORDER] == 0);
    probe_text_next(&follower, "--", 2, values);
    assert_true(values[PROBE_POSITION] == 1 && values[PROBE_CAPITAL] == 0 && values[PROBE_BORDER] == 1);
}

static double mean_of(const double *values)
{
    double sum = 0;
    for (size_t t = 0; t < TOKENS; t++) sum += values[t];
    return sum / TOKENS;
}

static double correlation(const double *x, const double *y)
{
    const double mean_x = mean_of(x), mean_y = mean_of(y);
    double xx = 0, yy = 0, xy = 0;
    for (size_t t = 0; t < TOKENS; t++) {
        xx += (x[t] - mean_x) * (x[t] - mean_x);
        yy += (y[t] - mean_y) * (y[t] - mean_y);
        xy += (x[t] - mean_x) * (y[t] - mean_y);
    }
    return xy / sqrt(xx * yy);
}

static void test_rank_is_that_of_the_formula(void **state)
{
    (void)state;
    static double units[UNITS][TOKENS], property[TOKENS];
    struct error err = {0};
    struct probe probe;
    struct rng rng;
    rng_seed(&rng, 9, 0);
    assert_true(probe_open(&probe, UNITS, &err));
    for (size_t t = 0; t < TOKENS; t++) {
        double values[PROBE_PROPERTIES] = {0};
        float row[UNITS];
        property[t] = values[PROBE_QUOTES] = (double)(t % 7 < 3);
        for (size_t u = 0; u < UNITS; u++) {
            /* far from zero, so that sums of squares alone would cancel; unit 4 never changes, unit 2 is the opposite
             */
            const double part = u == 2 ? -2 : (double)u / UNITS;
            row[u] = u == 4 ? 3 : (float)(1000 + part * property[t] + 0.3 * rng_normal(&rng));
            units[u][t] = (double)row[u];
        }
        probe_add(&probe, row, values);
    }
    struct probe_unit best[UNITS];
    const size_t count = probe_rank(&probe, PROBE_QUOTES, UNITS, best);
    assert_int_equal(count, UNITS - 1);
    assert_int_equal(best[0].unit, 2);
    for (size_t i = 0; i < count; i++) {
        assert_true(fabs(best[i].r - correlation(units[best[i].unit], property)) < 1e-9);
        assert_true(i == 0 || fabs(best[i].r) <= fabs(best[i - 1].r));
    }
    struct probe_unit first[2];
    assert_int_equal(probe_rank(&probe, PROBE_QUOTES, 2, first), 2);
    assert_memory_equal(first, best, sizeof first);
    assert_int_equal(probe_rank(&probe, PROBE_DIGIT, 2, first), 0);
    assert_int_equal(probe_rank(&probe, PROBE_QUOTES, 0, NULL), 0);
    probe_close(&probe);
}

static bool open_probe(void *context, struct error *err)
{
    struct probe probe;
    (void)context;
    const bool opened = probe_open(&probe, UNITS, err);
    probe_close(&probe);
    return opened;
}

static void test_probe_without_memory(void **state)
{
    (void)state;
    assert_survives_failing_allocations(open_probe, NULL);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_text_has_its_properties),
        cmocka_unit_test(test_word_has_the_properties_of_its_letters),
        cmocka_unit_test(test_rank_is_that_of_the_formula),
        cmocka_unit_test(test_probe_without_memory),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
