/* Shared by the clients of `make bench`. */
#ifndef LSTMD_TESTS_BENCH_CLIENT_H
#define LSTMD_TESTS_BENCH_CLIENT_H

#include <stdio.h>
#include <stdlib.h>
#include <time.h>

static void fail(const char *what)
{
    perror(what);
    exit(1);
}

static double now_ms(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec * 1e3 + (double)t.tv_nsec * 1e-6;
}

static int compare_times(const void *a, const void *b)
{
    const double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

/* Takes `count` sorted times. Returns 0 if there are none. */
static double percentile(const double *times, size_t count, double p)
{
    return count ? times[(size_t)(p / 100 * (double)(count - 1))] : 0;
}

#endif
