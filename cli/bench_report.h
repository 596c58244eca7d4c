/* The result of `lstmd bench`: rows of medians with their limits and peers, and the machine. */
#ifndef LSTMD_CLI_BENCH_REPORT_H
#define LSTMD_CLI_BENCH_REPORT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdio.h>

#include "base/error.h"
#include "cli/bench.h"
#include "cli/bench_peer.h"
#include "model/kernels/kernels.h"

#define BENCH_MAX_ROWS 128

struct bench_row {
    char name[64];
    const char *unit;
    struct bench_series values;
    struct bench_series limits; /* without values: the row is itself a limit */
    struct bench_series peers[BENCH_MAX_PEERS];
};

struct bench_report {
    struct bench_row rows[BENCH_MAX_ROWS];
    size_t count;
    struct bench_peer peers[BENCH_MAX_PEERS];
    size_t peer_count;
    const struct kernels *kernels;
    size_t repetitions;
    double load; /* load of the machine before the first measurement */
};

/* Appends an empty row; NULL if there are BENCH_MAX_ROWS. */
struct bench_row *bench_report_add(struct bench_report *report, const char *name, const char *unit);

void bench_report_print(const struct bench_report *report, FILE *out);

/* {"machine": {...}, "repetitions", "rows": [{name, unit, value, spread, limit, ratio_to_limit, peers: {name:
 * value}, ratio_to_peers: {name: value}}]}; limit and ratio_to_limit are null for the rows that are limits. */
bool bench_report_print_json(const struct bench_report *report, FILE *out, struct error *err);

#endif
