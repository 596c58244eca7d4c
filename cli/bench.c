#include "cli/bench.h"

#include <stdlib.h>
#include <string.h>

#include "base/clock.h"

void bench_add(struct bench_series *series, double value)
{
    if (series->count < BENCH_MAX_VALUES) series->values[series->count++] = value;
}

static int bench_compare(const void *a, const void *b)
{
    const double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

static struct bench_series bench_sort_series(const struct bench_series *series)
{
    struct bench_series copy = *series;
    qsort(copy.values, copy.count, sizeof copy.values[0], bench_compare);
    return copy;
}

double bench_median(const struct bench_series *series)
{
    if (series->count == 0) return 0;
    const struct bench_series s = bench_sort_series(series);
    return (s.values[(s.count - 1) / 2] + s.values[s.count / 2]) / 2;
}

double bench_spread(const struct bench_series *series)
{
    const double median = bench_median(series);
    if (median <= 0) return 0;
    const struct bench_series s = bench_sort_series(series);
    return (s.values[s.count - 1] - s.values[0]) / 2 / median;
}

double bench_ratio(const struct bench_series *series, const struct bench_series *to)
{
    struct bench_series ratios = {.count = 0};
    for (size_t i = 0; i < series->count && i < to->count; i++)
        if (to->values[i] > 0) bench_add(&ratios, series->values[i] / to->values[i]);
    return bench_median(&ratios);
}

static void bench_repeat(void *context, size_t worker)
{
    const struct bench_work *work = context;
    for (size_t i = 0; i < work->count; i++) work->once(work->context, worker);
}

static double seconds_of(struct bench_work *work)
{
    const uint64_t start = clock_monotonic_ns();
    team_run(work->team, bench_repeat, work);
    const uint64_t end = clock_monotonic_ns();
    return end > start ? (double)(end - start) * 1e-9 : 1e-9;
}

static void bench_calibrate(struct bench_work *work, double seconds)
{
    work->count = 1;
    for (double taken; (taken = seconds_of(work)) < seconds / 2;) {
        const double factor = seconds / taken;
        work->count = (size_t)((double)work->count * (factor < 100 ? factor : 100)) + 1;
    }
}

double bench_measure(struct bench_work *work, double seconds)
{
    if (work->count == 0) bench_calibrate(work, seconds);
    return work->units * (double)work->count / seconds_of(work);
}
