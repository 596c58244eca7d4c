#include "base/log.h"

#include <errno.h>
#include <fcntl.h>
#include <jansson.h>
#include <math.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/utf8.h"
#include "tests/unit/support.h"

static void log_text(void *text)
{
    log_event(LOG_INFO, "seen", LOG_TEXT("value", text));
}

/* The line without its time, which is checked; free() it. */
static char *line_of(enum log_format format, void (*write)(void *), void *context)
{
    log_configure(LOG_DEBUG, format);
    char *line = capture_output(2, write, context);
    size_t prefix = strlen(format == LOG_JSON ? "{\"time\":\"" : "time=");
    assert_true(strlen(line) > prefix + CLOCK_UTC_SIZE);
    assert_int_equal(line[prefix + 10], 'T');
    assert_int_equal(line[prefix + CLOCK_UTC_SIZE - 2], 'Z');
    size_t skip = prefix + CLOCK_UTC_SIZE - 1 + (format == LOG_JSON ? 2 : 1);
    memmove(line, line + skip, strlen(line + skip) + 1);
    return line;
}

static void log_fields(void *context)
{
    (void)context;
    log_event(LOG_WARNING, "model loaded", LOG_TEXT("model", "headlines"), LOG_TEXT("absent", NULL),
              LOG_INTEGER("ms", -12), LOG_REAL("loss", 1.25));
}

static void test_log_logfmt_line(void **state)
{
    (void)state;
    char *line = line_of(LOG_LOGFMT, log_fields, NULL);
    assert_string_equal(line, "level=warning event=\"model loaded\" model=headlines ms=-12 loss=1.250\n");
    free(line);
}

static void test_log_json_line(void **state)
{
    (void)state;
    char *line = line_of(LOG_JSON, log_fields, NULL);
    assert_string_equal(
        line, "\"level\":\"warning\",\"event\":\"model loaded\",\"model\":\"headlines\",\"ms\":-12,\"loss\":1.250}\n");
    free(line);
}

static void test_log_text_cannot_forge_a_line_or_a_field(void **state)
{
    (void)state;
    static const struct {
        const char *text, *logged;
    } cases[] = {{"", "\"\""},
                 {"plain/path-1.txt", "plain/path-1.txt"},
                 {"a b", "\"a b\""},
                 {"a=b", "\"a=b\""},
                 {"x\ntime=0 level=info", "\"x\\ntime=0 level=info\""},
                 {"\" level=error \"", "\"\\\" level=error \\\"\""},
                 {"back\\slash", "\"back\\\\slash\""},
                 {"\x1b[31mred\x7f", "\"\\u001b[31mred\\u007f\""},
                 {"\xC2\x85next", "\"\\u0085next\""},
                 {"\xE2\x80\xA8", "\"\\u2028\""},
                 {"\xE2\x80\xAEtxt", "\"\\u202etxt\""},
                 {"caf\xC3\xA9", "\"caf\xC3\xA9\""},
                 {"bad\xFF\xE2\x82", "\"bad\xEF\xBF\xBD\xEF\xBF\xBD\xEF\xBF\xBD\""}};
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        char expected[256];
        char *line = line_of(LOG_LOGFMT, log_text, (void *)(uintptr_t)cases[i].text);
        snprintf(expected, sizeof expected, "level=info event=seen value=%s\n", cases[i].logged);
        assert_string_equal(line, expected);
        free(line);
    }
}

static void test_log_json_reads_back_every_text(void **state)
{
    (void)state;
    log_configure(LOG_DEBUG, LOG_JSON);
    for (unsigned c = 1; c < 0x3000; c++) {
        char text[8] = "";
        size_t n = utf8_encode(c, text + 1);
        text[0] = 'a';
        text[n + 1] = 'z';
        char *line = capture_output(2, log_text, text);
        assert_ptr_equal(strchr(line, '\n'), line + strlen(line) - 1);
        json_t *object = json_loads(line, 0, NULL);
        assert_non_null(object);
        assert_string_equal(json_string_value(json_object_get(object, "value")), text);
        json_decref(object);
        free(line);
        if (c == 0x100) c = 0x1FF0;
        if (c == 0x2080) c = 0x2FF0;
    }
}

static void log_strange_numbers(void *context)
{
    (void)context;
    log_event(LOG_ERROR, "n", LOG_REAL("a", NAN), LOG_REAL("b", INFINITY), LOG_REAL("c", -1.7e308),
              LOG_INTEGER("d", INT64_MIN));
}

static void test_log_strange_numbers_stay_json(void **state)
{
    (void)state;
    log_configure(LOG_DEBUG, LOG_JSON);
    char *line = capture_output(2, log_strange_numbers, NULL);
    json_t *object = json_loads(line, 0, NULL);
    assert_non_null(object);
    assert_true(json_is_null(json_object_get(object, "a")));
    assert_true(json_is_null(json_object_get(object, "b")));
    assert_true(json_real_value(json_object_get(object, "c")) < -1.6e308);
    assert_true(json_integer_value(json_object_get(object, "d")) == INT64_MIN);
    json_decref(object);
    free(line);
}

static void log_much(void *text)
{
    log_event(LOG_INFO, "much", LOG_TEXT("a", text), LOG_TEXT("b", text), LOG_TEXT("c", text), LOG_TEXT("d", text),
              LOG_TEXT("e", text), LOG_INTEGER("last", 1));
}

static void test_log_long_text_is_cut_and_the_line_stays_whole(void **state)
{
    (void)state;
    static char text[100000];
    memset(text, 'x', sizeof text - 1);
    log_configure(LOG_DEBUG, LOG_JSON);
    char *line = capture_output(2, log_much, text);
    assert_true(strlen(line) <= 4096);
    json_t *object = json_loads(line, 0, NULL);
    assert_non_null(object);
    assert_true(json_is_true(json_object_get(object, "cut")));
    const char *a = json_string_value(json_object_get(object, "a"));
    assert_int_equal(strlen(a), 1024 + 3);
    assert_string_equal(a + 1024, "...");
    assert_null(json_object_get(object, "e"));
    assert_int_equal(json_integer_value(json_object_get(object, "last")), 1);
    json_decref(object);
    free(line);
}

static void log_levels(void *context)
{
    (void)context;
    log_write(LOG_DEBUG, "a", NULL);
    log_write(LOG_INFO, "b", NULL);
    log_write(LOG_WARNING, "c", NULL);
    log_write(LOG_ERROR, "d", NULL);
}

static void test_log_level_decides_what_is_written(void **state)
{
    (void)state;
    log_configure(LOG_WARNING, LOG_LOGFMT);
    assert_false(log_enabled(LOG_INFO));
    assert_true(log_enabled(LOG_WARNING));
    char *text = capture_output(2, log_levels, NULL);
    assert_null(strstr(text, "event=a"));
    assert_null(strstr(text, "event=b"));
    assert_non_null(strstr(text, "level=warning event=c\n"));
    assert_non_null(strstr(text, "level=error event=d\n"));
    free(text);
}

static void *log_from_thread(void *text)
{
    for (int i = 0; i < 200; i++) log_event(LOG_INFO, "thread", LOG_TEXT("text", text));
    return NULL;
}

static void log_from_threads(void *context)
{
    (void)context;
    static char texts[4][800];
    pthread_t threads[4];
    for (int i = 0; i < 4; i++) {
        memset(texts[i], 'a' + i, sizeof texts[i] - 1);
        assert_int_equal(pthread_create(&threads[i], NULL, log_from_thread, texts[i]), 0);
    }
    for (int i = 0; i < 4; i++) pthread_join(threads[i], NULL);
}

static void test_log_lines_of_threads_do_not_mix(void **state)
{
    (void)state;
    log_configure(LOG_INFO, LOG_LOGFMT);
    char *text = capture_output(2, log_from_threads, NULL);
    size_t lines = 0;
    for (char *line = text; *line; lines++) {
        char *end = strchr(line, '\n'), *value = strstr(line, " text=");
        assert_non_null(end);
        assert_non_null(value);
        value += 6;
        assert_int_equal(end - value, 799);
        for (char *c = value; c < end; c++) assert_int_equal(*c, *value);
        line = end + 1;
    }
    assert_int_equal(lines, 800);
    free(text);
}

/* To a full disk, so that the write itself fails. */
static void test_log_keeps_errno(void **state)
{
    (void)state;
    log_configure(LOG_INFO, LOG_LOGFMT);
    int saved = dup(2), full = open("/dev/full", O_WRONLY);
    assert_true(full >= 0 && dup2(full, 2) == 2);
    errno = EILSEQ;
    log_text("x");
    int after = errno;
    dup2(saved, 2);
    close(saved);
    close(full);
    assert_int_equal(after, EILSEQ);
}

static void test_clock_is_monotonic_and_utc_has_its_form(void **state)
{
    (void)state;
    uint64_t before = clock_monotonic_ns();
    for (int i = 0; i < 1000; i++) {
        uint64_t now = clock_monotonic_ns();
        assert_true(now >= before);
        before = now;
    }
    char text[CLOCK_UTC_SIZE];
    clock_utc_text(text);
    int y, mo, d, h, mi, s, ms, n = 0;
    assert_int_equal(sscanf(text, "%4d-%2d-%2dT%2d:%2d:%2d.%3dZ%n", &y, &mo, &d, &h, &mi, &s, &ms, &n), 7);
    assert_int_equal(n, CLOCK_UTC_SIZE - 1);
    assert_true(y >= 2024 && mo >= 1 && mo <= 12 && d >= 1 && d <= 31 && h < 24 && mi < 60 && s <= 60);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_log_logfmt_line),
        cmocka_unit_test(test_log_json_line),
        cmocka_unit_test(test_log_text_cannot_forge_a_line_or_a_field),
        cmocka_unit_test(test_log_json_reads_back_every_text),
        cmocka_unit_test(test_log_strange_numbers_stay_json),
        cmocka_unit_test(test_log_long_text_is_cut_and_the_line_stays_whole),
        cmocka_unit_test(test_log_level_decides_what_is_written),
        cmocka_unit_test(test_log_lines_of_threads_do_not_mix),
        cmocka_unit_test(test_log_keeps_errno),
        cmocka_unit_test(test_clock_is_monotonic_and_utc_has_its_form),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
