/* Measures patterns for `lstmd bench`: stepping one sequence with a pattern, the same without, and the masks alone. */
#ifndef LSTMD_CLI_BENCH_PATTERN_H
#define LSTMD_CLI_BENCH_PATTERN_H

#include <stdbool.h>
#include <stdint.h>

#include "base/error.h"
#include "cli/bench.h"
#include "cli/bench_tasks.h"
#include "model/generate/pattern.h"

#define BENCH_PATTERN_VOCABULARY 84 /* <eos> and the printable characters from the space on */

/* An LSTM of one layer, V = 84, one sequence, and a pattern without an end that changes its mask with each token. The
 * units of `masked` and `plain` are tokens, those of `masks` are masks. Close with bench_pattern_close(), also after a
 * failure. */
struct bench_pattern {
    struct bench_stepping stepping; /* its work is `plain` */
    struct bench_work masked, masks;
    struct pattern *pattern;
    uint32_t state;
};
bool bench_pattern_open(struct bench_pattern *bench, const struct kernels *kernels, uint32_t hidden, struct error *err);
void bench_pattern_close(struct bench_pattern *bench);

#endif
