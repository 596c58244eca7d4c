/* Reading a piece of a text: feeds several tokens of one sequence, layer by layer. The input products of a layer and
 * the logits do not depend on the recurrence, so those of all tokens are one product each. The weights are then read
 * once for a piece and not once for each token. The hidden products are steps, one after the other.
 *
 * With our own kernels a piece has the bits of step(), token for token, wherever a text is cut. With OpenBLAS
 * (`library`) the bits of a token depend on its place in its piece. So whoever uses it cuts a text at fixed places
 * from its beginning, and lets no state out that another text goes on from: the same text has the same numbers
 * everywhere, but a state in the cache, in a session or with a client is always one of our own kernels.
 * The library multiplies float32 alone, and networks with fused steps; others are read with our own kernels.
 *
 * The scratch belongs to one thread at a time. Reading never allocates.
 */
#ifndef LSTMD_MODEL_GENERATE_STEP_PIECE_H
#define LSTMD_MODEL_GENERATE_STEP_PIECE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/arena.h"
#include "base/error.h"
#include "model/generate/step.h"

struct step_piece {
    const struct stepper *stepper; /* borrowed */
    size_t tokens;                 /* P: of a piece at most */
    bool library;                  /* OpenBLAS multiplies */
    float *logits;                 /* [P][logits_size] of the last piece; NULL: no logits */
    float *rows[2];                /* [P][W] h of a layer, and of the one below; W: the widest row */
    size_t width;                  /* W */
    int16_t *integers;             /* [P][W] INT8: the rows of an input; else NULL */
    float *gates;                  /* [P][gate row] input products */
    /* What input products start with, and bias_hh of the steps behind them; NULL: the layer's own. */
    float *start[NETWORK_MAX_LAYERS], *bias_hh[NETWORK_MAX_LAYERS];
    struct step_scratch scratch; /* of one sequence */
    struct arena arena;
};

/* Tokens of a piece at most: few for a large network, so that a piece takes no more than some hundredths of a second.
 * It depends on the shape alone. */
size_t step_piece_most(const struct stepper *stepper);

/* Whether OpenBLAS multiplies for a reader that keeps no state. */
bool step_piece_has_library(const struct stepper *stepper);

/* Pieces of up to `tokens` tokens. library: OpenBLAS multiplies if step_piece_has_library(). Close with
 * step_piece_close(), also after a failure. Errors: ERROR_NO_MEMORY. */
bool step_piece_open(struct step_piece *piece, const struct stepper *stepper, size_t tokens, bool library, bool logits,
                     struct error *err);
void step_piece_close(struct step_piece *piece);

/* Feeds tokens[n], 1 <= n <= piece->tokens, to `state`, and writes the logits of tokens wanted .. n-1 to
 * piece->logits (token i: row i). */
void step_piece(struct step_piece *piece, size_t n, const uint32_t *tokens, float *state, size_t wanted);

#endif
