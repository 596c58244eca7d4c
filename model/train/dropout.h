/* Dropout masks: rows of 0 and 1 / (1 - probability). A mask's random numbers depend on its name alone (seed, step,
 * place, row). So any thread can draw a mask again, and nobody has to keep it.
 *
 * Two kinds use them. Dropout of activations acts on every non-recurrent connection, with a mask for each stream and
 * time step (Zaremba et al. 2014). Weight drop zeroes elements of the recurrent weight matrices, the same ones for all
 * streams and time steps of an optimisation step (DropConnect, Wan et al. 2013, on hidden-to-hidden weights as in
 * Merity et al. 2017). It keeps a network from overfitting through its memory, which the other kind does not touch.
 */
#ifndef LSTMD_MODEL_TRAIN_DROPOUT_H
#define LSTMD_MODEL_TRAIN_DROPOUT_H

#include <stddef.h>
#include <stdint.h>

#define DROPOUT_WEIGHTS 15u /* the place of weight drop; activations have 0 .. NETWORK_MAX_LAYERS */

struct dropout {
    double probability; /* 0 .. <1, rounded to multiples of 2^-16 */
    uint64_t seed, step;
};

/* Draws mask [width]. width: a multiple of 4; place < 16; row < 2^60. */
void dropout_draw(const struct dropout *dropout, unsigned place, uint64_t row, size_t width, float *mask);

/* The name of row `row` of layer k's recurrent weights. */
static inline uint64_t dropout_weight_row(size_t k, size_t row)
{
    return (uint64_t)k << 32 | row;
}

#endif
