/* Measuring for `lstmd bench`: a piece of work, how often it ran per second, and the median of repetitions.
 *
 * All workers of a team call a work together, again and again. The first measurement warms up and counts how many calls
 * fill the wanted time; later ones make exactly that many. Not thread-safe: two measurements at a time would slow each
 * other.
 */
#ifndef LSTMD_CLI_BENCH_H
#define LSTMD_CLI_BENCH_H

#include <stddef.h>

#include "base/team.h"

#define BENCH_MAX_VALUES  64
#define BENCH_MAX_THREADS 2

/* The values of one quantity over the repetitions. */
struct bench_series {
    double values[BENCH_MAX_VALUES];
    size_t count;
};

void bench_add(struct bench_series *series, double value); /* values beyond BENCH_MAX_VALUES are dropped */
double bench_median(const struct bench_series *series);    /* 0 without values */
double bench_spread(const struct bench_series *series); /* half of (largest - smallest), as a fraction of the median */

/* For two quantities measured in turns: the median of each repetition's ratio. A machine that is slow for a while does
 * not change it. 0 without values. */
double bench_ratio(const struct bench_series *series, const struct bench_series *to);

struct bench_work {
    team_function *once; /* context, worker */
    void *context;
    struct team *team; /* borrowed */
    double units;      /* done by one call of all workers */
    size_t count;      /* calls per measurement; 0: not known yet */
};

/* Units per second over about `seconds` (at least one call). */
double bench_measure(struct bench_work *work, double seconds);

#endif
