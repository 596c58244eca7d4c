/* Measures, for `lstmd bench`, reading a text that is there: in pieces, as /score does, and token by token. Logits are
 * wanted after each token. Weights and tokens are random, because their values do not change the time. */
#ifndef LSTMD_CLI_BENCH_TEXT_H
#define LSTMD_CLI_BENCH_TEXT_H

#include <stddef.h>
#include <stdint.h>

#include "base/arena.h"
#include "base/error.h"
#include "cli/bench.h"
#include "model/generate/step_piece.h"
#include "model/network/network.h"

struct bench_text_shape {
    uint32_t layers, hidden, vocabulary; /* an LSTM with one-hot input */
};

/* The works' units are characters. Close with bench_text_close(), also after a failure. */
struct bench_text {
    struct bench_work pieces, steps; /* with our own kernels */
    struct bench_work library;       /* with OpenBLAS, if it is wanted */
    struct stepper stepper;
    struct step_piece own, other;
    struct step_scratch scratch;
    uint32_t *tokens; /* [count] */
    size_t count;
    float *state, *logits;
    struct arena arena;
};
/* library: OpenBLAS is loaded and is measured, too. */
bool bench_text_open(struct bench_text *text, const struct kernels *kernels, const struct bench_text_shape *shape,
                     bool library, struct error *err);
void bench_text_close(struct bench_text *text);

#endif
