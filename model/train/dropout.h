/* Dropout masks: rows of 0 and 1 / (1 - probability). A mask's random numbers depend on nothing but what names it, so
 * it can be drawn again instead of being kept, and by any thread.
 *
 * Two kinds use them. Dropout of activations stands on every non-recurrent connection, with a mask for each stream and
 * time step (Zaremba et al. 2014). Weight drop zeroes elements of the recurrent weight matrices, the same ones for all
 * streams and time steps of an optimisation step (DropConnect, Wan et al. 2013, on hidden-to-hidden weights as in
 * Merity et al. 2017): it keeps a network from overfitting by its memory, which the other kind does not touch.
 */
#ifndef LSTMD_MODEL_TRAIN_DROPOUT_H
#define LSTMD_MODEL_TRAIN_DROPOUT_H

#include <stddef.h>
#include <stdint.h>

#define DROPOUT_WEIGHTS 15u /* the place that weight drop has; activations have 0 .. NETWORK_MAX_LAYERS */

struct dropout {
    double probability; /* 0 .. <1, rounded to multiples of 2^-16 */
    uint64_t seed, step;
};

/* mask[width], width a multiple of 4. place < 16, row < 2^60. */
void dropout_draw(const struct dropout *dropout, unsigned place, uint64_t row, size_t width, float *mask);

/* The name of row `row` of layer k's recurrent weights. */
static inline uint64_t dropout_weight_row(size_t k, size_t row)
{
    return (uint64_t)k << 32 | row;
}

#endif
