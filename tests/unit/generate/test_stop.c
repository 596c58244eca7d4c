#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <string.h>

#include "base/rng.h"
#include "model/generate/stop.h"
#include "tests/unit/support.h"

static struct stop_matcher matcher_of(const struct text_span *texts, size_t count)
{
    struct stop_matcher matcher;
    struct error err = {0};
    if (!stop_matcher_open(&matcher, texts, count, &err)) fail_msg("%s", err.message);
    return matcher;
}

static bool ends_with(const char *text, size_t n, const char *end, size_t length)
{
    return length <= n && memcmp(text + n - length, end, length) == 0;
}

/* By definition: the longest stop text that text[0..n) ends with. */
static size_t plain_found(const char *text, size_t n, const struct text_span *stops, size_t count)
{
    size_t longest = 0;
    for (size_t s = 0; s < count; s++)
        if (ends_with(text, n, stops[s].text, stops[s].bytes) && stops[s].bytes > longest) longest = stops[s].bytes;
    return longest;
}

/* By definition: the longest proper beginning of a stop text that text[0..n) ends with. */
static size_t plain_held(const char *text, size_t n, const struct text_span *stops, size_t count)
{
    size_t longest = 0;
    for (size_t s = 0; s < count; s++)
        for (size_t length = 1; length < stops[s].bytes; length++)
            if (length > longest && ends_with(text, n, stops[s].text, length)) longest = length;
    return longest;
}

/* Feeds the text and compares each byte's answers with the definitions, up to the first stop text. */
static size_t compare(const char *text, size_t n, const struct text_span *stops, size_t count)
{
    struct stop_matcher matcher = matcher_of(stops, count);
    size_t found = 0;
    for (size_t i = 1; i <= n && found == 0; i++) {
        found = stop_matcher_feed(&matcher, text[i - 1]);
        assert_int_equal(found, plain_found(text, i, stops, count));
        if (found == 0) assert_int_equal(stop_matcher_held(&matcher), plain_held(text, i, stops, count));
    }
    stop_matcher_close(&matcher);
    return found;
}

static void fill(struct rng *rng, char *text, size_t n)
{
    for (size_t i = 0; i < n; i++) text[i] = (char)('a' + rng_below(rng, 2));
}

static void test_stop_agrees_with_its_definition_on_random_texts(void **state)
{
    (void)state;
    struct rng rng;
    unsigned found = 0;
    rng_seed(&rng, 5, 0);
    for (int round = 0; round < 20000; round++) {
        char text[24], bytes[4][8];
        struct text_span stops[4];
        const size_t n = rng_below(&rng, sizeof text + 1), count = 1 + rng_below(&rng, 4);
        fill(&rng, text, n);
        for (size_t s = 0; s < count; s++) {
            stops[s] = (struct text_span){bytes[s], 1 + rng_below(&rng, 8)};
            fill(&rng, bytes[s], stops[s].bytes);
        }
        found += compare(text, n, stops, count) > 0;
    }
    assert_in_range(found, 5000, 19999);
}

static void test_stop_falls_back_within_texts_that_repeat_themselves(void **state)
{
    (void)state;
    const struct text_span stops[] = {{"aab", 3}, {"abab\0c", 6}, {"aabaac", 6}};
    assert_int_equal(compare("aaab", 4, stops, 1), 3);
    assert_int_equal(compare("abababab\0c", 10, stops + 1, 1), 6);
    assert_int_equal(compare("aabaabaac", 9, stops + 2, 1), 6);
}

static void test_stop_takes_the_first_to_be_complete_and_of_those_the_longest(void **state)
{
    (void)state;
    const struct text_span nested[] = {{"abc", 3}, {"b", 1}}, same_end[] = {{"c", 1}, {"abc", 3}, {"bc", 2}};
    struct stop_matcher matcher = matcher_of(nested, 2);
    assert_int_equal(stop_matcher_feed(&matcher, 'a'), 0);
    assert_int_equal(stop_matcher_feed(&matcher, 'b'), 1);
    stop_matcher_close(&matcher);
    assert_int_equal(compare("xabc", 4, same_end, 3), 3);
}

static void test_stop_without_texts_holds_nothing(void **state)
{
    (void)state;
    struct stop_matcher matcher = matcher_of(NULL, 0);
    assert_int_equal(stop_matcher_feed(&matcher, 'a'), 0);
    assert_int_equal(stop_matcher_held(&matcher), 0);
    stop_matcher_close(&matcher);
}

static void assert_refused(const struct text_span *texts, size_t count, const char *part)
{
    struct stop_matcher matcher;
    struct error err = {0};
    assert_false(stop_matcher_open(&matcher, texts, count, &err));
    stop_matcher_close(&matcher);
    assert_int_equal(err.code, ERROR_INVALID);
    if (strstr(err.message, part) == NULL) fail_msg("\"%s\" is not in \"%s\"", part, err.message);
}

static void test_stop_has_limits(void **state)
{
    (void)state;
    static char large[STOP_MAX_BYTES + 1];
    struct text_span texts[STOP_MAX_TEXTS + 1];
    for (size_t i = 0; i <= STOP_MAX_TEXTS; i++) texts[i] = (struct text_span){large, STOP_MAX_BYTES};
    struct stop_matcher matcher = matcher_of(texts, STOP_MAX_TEXTS);
    for (size_t i = 1; i < STOP_MAX_BYTES; i++) assert_int_equal(stop_matcher_feed(&matcher, '\0'), 0);
    assert_int_equal(stop_matcher_held(&matcher), STOP_MAX_BYTES - 1);
    assert_int_equal(stop_matcher_feed(&matcher, '\0'), STOP_MAX_BYTES);
    stop_matcher_close(&matcher);
    assert_refused(texts, STOP_MAX_TEXTS + 1, "at most 16");
    texts[3].bytes++;
    assert_refused(texts, STOP_MAX_TEXTS, "1025 bytes is too long");
    texts[3].bytes = 0;
    assert_refused(texts, STOP_MAX_TEXTS, "empty");
}

static bool attempt(void *context, struct error *err)
{
    struct stop_matcher matcher;
    const struct text_span texts[] = {{"abc", 3}, {"d", 1}};
    (void)context;
    const bool opened = stop_matcher_open(&matcher, texts, 2, err);
    stop_matcher_close(&matcher);
    return opened;
}

static void test_stop_survives_failing_allocations(void **state)
{
    (void)state;
    assert_survives_failing_allocations(attempt, NULL);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_stop_agrees_with_its_definition_on_random_texts),
        cmocka_unit_test(test_stop_falls_back_within_texts_that_repeat_themselves),
        cmocka_unit_test(test_stop_takes_the_first_to_be_complete_and_of_those_the_longest),
        cmocka_unit_test(test_stop_without_texts_holds_nothing),
        cmocka_unit_test(test_stop_has_limits),
        cmocka_unit_test(test_stop_survives_failing_allocations),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
