#include "server/api/metrics.h"

#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

/* Upper bounds in seconds: a step takes microseconds, a long generation a minute. */
static const double bounds[] = {1e-5, 3e-5, 1e-4, 3e-4, 1e-3, 3e-3, 0.01, 0.03, 0.1, 0.3, 1, 3, 10, 30, 60};
#define BOUND_COUNT (sizeof bounds / sizeof *bounds)

/* What the daemon answers with, and 499 for a client that left; anything else counts as 0, "other". */
static const int statuses[] = {200, 201, 202, 204, 304, 400, 401, 403, 404, 405, 408, 409, 411, 412, 413,
                               414, 415, 417, 421, 422, 429, 431, 499, 500, 501, 503, 505, 507, 0};
#define STATUS_COUNT (sizeof statuses / sizeof *statuses)

struct histogram {
    atomic_uint_fast64_t counts[BOUND_COUNT + 1]; /* between two bounds; the last: above them all */
    atomic_uint_fast64_t nanoseconds;             /* the sum */
};

struct route {
    const char *pattern;
    atomic_uint_fast64_t requests[STATUS_COUNT];
    struct histogram seconds;
    atomic_uint_fast64_t bytes_in, bytes_out;
};

struct metrics {
    size_t route_count;
    atomic_uint_fast64_t counters[METRICS_COUNTER_COUNT];
    struct histogram histograms[METRICS_HISTOGRAM_COUNT];
    struct route routes[]; /* [route_count + 1], the last for what is no route */
};

struct metrics *metrics_new(size_t routes, struct error *err)
{
    struct metrics *metrics = calloc(1, sizeof *metrics + (routes + 1) * sizeof *metrics->routes);
    if (!metrics) {
        error_set(err, ERROR_NO_MEMORY, "out of memory for the metrics");
        return NULL;
    }
    metrics->route_count = routes;
    metrics->routes[routes].pattern = "other";
    return metrics;
}

void metrics_name_route(struct metrics *metrics, size_t i, const char *pattern)
{
    metrics->routes[i].pattern = pattern;
}

void metrics_free(struct metrics *metrics)
{
    free(metrics);
}

static void metrics_count(atomic_uint_fast64_t *counter, uint64_t n)
{
    atomic_fetch_add_explicit(counter, n, memory_order_relaxed);
}

static uint64_t value_of(const atomic_uint_fast64_t *counter)
{
    return atomic_load_explicit(counter, memory_order_relaxed);
}

void metrics_add(struct metrics *metrics, enum metrics_counter counter, uint64_t n)
{
    metrics_count(&metrics->counters[counter], n);
}

static void histogram_observe(struct histogram *histogram, double seconds)
{
    size_t i = 0;
    while (i < BOUND_COUNT && seconds > bounds[i]) i++;
    metrics_count(&histogram->counts[i], 1);
    metrics_count(&histogram->nanoseconds, seconds > 0 ? (uint64_t)(seconds * 1e9) : 0);
}

void metrics_observe(struct metrics *metrics, enum metrics_histogram histogram, double seconds)
{
    histogram_observe(&metrics->histograms[histogram], seconds);
}

void metrics_request(struct metrics *metrics, const char *route, int status, double seconds, uint64_t bytes_in,
                     uint64_t bytes_out)
{
    size_t r = 0, s = 0;
    while (r < metrics->route_count && strcmp(metrics->routes[r].pattern, route) != 0) r++;
    while (s < STATUS_COUNT - 1 && statuses[s] != status) s++;
    metrics_count(&metrics->routes[r].requests[s], 1);
    histogram_observe(&metrics->routes[r].seconds, seconds);
    metrics_count(&metrics->routes[r].bytes_in, bytes_in);
    metrics_count(&metrics->routes[r].bytes_out, bytes_out);
}

/* --- Writing --- */

void metrics_write_head(FILE *out, const char *name, const char *type, const char *help)
{
    fprintf(out, "# HELP %s %s\n# TYPE %s %s\n", name, help, name, type);
}

void metrics_write_sample(FILE *out, const char *name, const char *labels, double value)
{
    fprintf(out, *labels ? "%s{%s} %.17g\n" : "%s%s %.17g\n", name, labels, value);
}

void metrics_write_one(FILE *out, const char *name, const char *type, const char *help, double value)
{
    metrics_write_head(out, name, type, help);
    metrics_write_sample(out, name, "", value);
}

const char *metrics_label(char *out, size_t size, const char *key, const char *value)
{
    size_t n = (size_t)snprintf(out, size, "%s=\"", key);
    for (; *value && n + 4 < size; value++) {
        if (*value == '\\' || *value == '"' || *value == '\n') out[n++] = '\\';
        out[n++] = *value == '\n' ? 'n' : *value;
    }
    snprintf(out + n, size - n, "\"");
    return out;
}

/* The samples of one histogram; labels: "" or with a comma at the end. Buckets are cumulative, and the count is their
 * sum, so that the three agree whatever is counted meanwhile. */
static void write_histogram(FILE *out, const char *name, const char *labels, const struct histogram *histogram)
{
    uint64_t sum = 0;
    for (size_t i = 0; i < BOUND_COUNT; i++) {
        sum += value_of(&histogram->counts[i]);
        fprintf(out, "%s_bucket{%sle=\"%g\"} %llu\n", name, labels, bounds[i], (unsigned long long)sum);
    }
    sum += value_of(&histogram->counts[BOUND_COUNT]);
    fprintf(out, "%s_bucket{%sle=\"+Inf\"} %llu\n", name, labels, (unsigned long long)sum);
    const int plain = (int)strlen(labels) - (*labels ? 1 : 0);
    const char *open = *labels ? "{" : "", *close = *labels ? "}" : "";
    fprintf(out, "%s_sum%s%.*s%s %.9f\n", name, open, plain, labels, close,
            (double)value_of(&histogram->nanoseconds) * 1e-9);
    fprintf(out, "%s_count%s%.*s%s %llu\n", name, open, plain, labels, close, (unsigned long long)sum);
}

static bool was_asked(const struct route *route)
{
    for (size_t s = 0; s < STATUS_COUNT; s++)
        if (value_of(&route->requests[s])) return true;
    return false;
}

static void write_requests(const struct metrics *metrics, FILE *out)
{
    static const char name[] = "lstmd_http_requests_total";
    char label[128], labels[160], code[8];
    metrics_write_head(out, name, "counter", "Requests by route and status; 499: the client left before the answer.");
    for (size_t r = 0; r <= metrics->route_count; r++) {
        metrics_label(label, sizeof label, "route", metrics->routes[r].pattern);
        for (size_t s = 0; s < STATUS_COUNT; s++) {
            const uint64_t n = value_of(&metrics->routes[r].requests[s]);
            if (n == 0) continue;
            snprintf(code, sizeof code, "%d", statuses[s]);
            snprintf(labels, sizeof labels, "%s,code=\"%s\"", label, statuses[s] ? code : "other");
            metrics_write_sample(out, name, labels, (double)n);
        }
    }
}

static void write_routes(const struct metrics *metrics, FILE *out)
{
    static const char seconds[] = "lstmd_http_request_seconds";
    char label[128], labels[136];
    metrics_write_head(out, seconds, "histogram", "From the head of a request to the last byte of its answer.");
    for (size_t r = 0; r <= metrics->route_count; r++) {
        if (!was_asked(&metrics->routes[r])) continue;
        snprintf(labels, sizeof labels, "%s,", metrics_label(label, sizeof label, "route", metrics->routes[r].pattern));
        write_histogram(out, seconds, labels, &metrics->routes[r].seconds);
    }
    uint64_t in = 0, sent = 0;
    for (size_t r = 0; r <= metrics->route_count; r++) {
        in += value_of(&metrics->routes[r].bytes_in);
        sent += value_of(&metrics->routes[r].bytes_out);
    }
    metrics_write_one(out, "lstmd_http_received_bytes_total", "counter", "Bytes of request bodies.", (double)in);
    metrics_write_one(out, "lstmd_http_sent_bytes_total", "counter", "Bytes of the bodies of answers.", (double)sent);
}

void metrics_write(const struct metrics *metrics, FILE *out)
{
    static const struct {
        const char *name, *labels, *help;
    } counters[] = {
#define ROW(id, name, labels, help) {name, labels, help},
        METRICS_COUNTERS(ROW)
#undef ROW
    };
    static const struct {
        const char *name, *help;
    } histograms[] = {
#define ROW(id, name, help) {name, help},
        METRICS_HISTOGRAMS(ROW)
#undef ROW
    };
    write_requests(metrics, out);
    write_routes(metrics, out);
    for (size_t i = 0; i < METRICS_COUNTER_COUNT; i++) {
        if (*counters[i].help) metrics_write_head(out, counters[i].name, "counter", counters[i].help);
        metrics_write_sample(out, counters[i].name, counters[i].labels, (double)value_of(&metrics->counters[i]));
    }
    for (size_t i = 0; i < METRICS_HISTOGRAM_COUNT; i++) {
        metrics_write_head(out, histograms[i].name, "histogram", histograms[i].help);
        write_histogram(out, histograms[i].name, "", &metrics->histograms[i]);
    }
}
