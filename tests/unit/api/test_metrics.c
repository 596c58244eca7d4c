#include "server/api/metrics.h"

#include <stdlib.h>
#include <string.h>

#include "tests/unit/support.h"

static struct metrics *two_routes(void)
{
    struct error err = {0};
    struct metrics *metrics = metrics_new(2, &err);
    assert_non_null(metrics);
    metrics_name_route(metrics, 0, "/a");
    metrics_name_route(metrics, 1, "/b/{name}");
    return metrics;
}

static char *written(const struct metrics *metrics)
{
    char *text;
    size_t size;
    FILE *out = open_memstream(&text, &size);
    metrics_write(metrics, out);
    fclose(out);
    return text;
}

static void assert_line(const char *text, const char *line)
{
    const char *at = strstr(text, line);
    if (!at || (at > text && at[-1] != '\n') || at[strlen(line)] != '\n') fail_msg("no line \"%s\" in\n%s", line, text);
}

static void test_metrics_count_requests_by_route_and_status(void **state)
{
    (void)state;
    struct metrics *metrics = two_routes();
    metrics_request(metrics, "/b/{name}", 200, 0.5, 3, 10);
    metrics_request(metrics, "/b/{name}", 200, 0.5, 0, 0);
    metrics_request(metrics, "/b/{name}", 418, 0.5, 0, 0);
    metrics_request(metrics, "-", 404, 0.5, 0, 4);
    char *text = written(metrics);
    assert_line(text, "lstmd_http_requests_total{route=\"/b/{name}\",code=\"200\"} 2");
    assert_line(text, "lstmd_http_requests_total{route=\"/b/{name}\",code=\"other\"} 1");
    assert_line(text, "lstmd_http_requests_total{route=\"other\",code=\"404\"} 1");
    assert_line(text, "lstmd_http_request_seconds_count{route=\"/b/{name}\"} 3");
    assert_line(text, "lstmd_http_received_bytes_total 3");
    assert_line(text, "lstmd_http_sent_bytes_total 14");
    assert_null(strstr(text, "route=\"/a\""));
    free(text);
    metrics_free(metrics);
}

static void test_metrics_histogram_puts_a_value_at_a_bound_below_it(void **state)
{
    (void)state;
    struct metrics *metrics = two_routes();
    metrics_observe(metrics, METRICS_QUEUE, 0);
    metrics_observe(metrics, METRICS_QUEUE, 0.1);
    metrics_observe(metrics, METRICS_QUEUE, 0.1000001);
    metrics_observe(metrics, METRICS_QUEUE, 1000);
    char *text = written(metrics);
    assert_line(text, "lstmd_queue_seconds_bucket{le=\"1e-05\"} 1");
    assert_line(text, "lstmd_queue_seconds_bucket{le=\"0.1\"} 2");
    assert_line(text, "lstmd_queue_seconds_bucket{le=\"0.3\"} 3");
    assert_line(text, "lstmd_queue_seconds_bucket{le=\"60\"} 3");
    assert_line(text, "lstmd_queue_seconds_bucket{le=\"+Inf\"} 4");
    assert_line(text, "lstmd_queue_seconds_count 4");
    assert_line(text, "lstmd_queue_seconds_sum 1000.200000100");
    free(text);
    metrics_free(metrics);
}

static void test_metrics_label_escapes_and_fits(void **state)
{
    (void)state;
    char out[32];
    assert_string_equal(metrics_label(out, sizeof out, "k", "a\"b\\c\nd"), "k=\"a\\\"b\\\\c\\nd\"");
    for (size_t size = 8; size <= sizeof out; size++) {
        char *small = malloc(size); /* so that a sanitizer sees what is written beyond it */
        metrics_label(small, size, "k", "\"\"\"\"\"\"\"\"\"\"\"\"\"\"\"\"\"\"\"\"");
        const size_t n = strlen(small);
        assert_true(n < size && small[n - 1] == '"');
        free(small);
    }
}

static void test_metrics_without_memory_are_an_error(void **state)
{
    (void)state;
    struct error err = {0};
    fail_allocation(1);
    struct metrics *metrics = metrics_new(2, &err);
    assert_true(fail_allocation_done());
    assert_null(metrics);
    assert_int_equal(err.code, ERROR_NO_MEMORY);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_metrics_count_requests_by_route_and_status),
        cmocka_unit_test(test_metrics_histogram_puts_a_value_at_a_bound_below_it),
        cmocka_unit_test(test_metrics_label_escapes_and_fits),
        cmocka_unit_test(test_metrics_without_memory_are_an_error),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
