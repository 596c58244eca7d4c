/* Measures, for `lstmd bench`, states that clients keep: writing one as text, reading it, and the digest of a model's
 * weights, which is computed once per load. */
#ifndef LSTMD_CLI_BENCH_STATE_H
#define LSTMD_CLI_BENCH_STATE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/error.h"
#include "cli/bench.h"
#include "model/generate/state_text.h"

/* An LSTM with one-hot input, V = 84, with a random state. The units are states, and megabytes of weights for the
 * digest. Close with bench_state_close(), also after a failure. */
struct bench_state {
    struct bench_work write, read, digest;
    struct network network;
    struct stepper stepper;
    struct state_owner owner;
    struct carried_state carried;
    char *text; /* [size + 1] */
    size_t size;
    struct arena arena;
};
bool bench_state_open(struct bench_state *bench, uint32_t layers, uint32_t hidden, struct error *err);
void bench_state_close(struct bench_state *bench);

#endif
