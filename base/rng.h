/* The random number generator: xoshiro256++ (Blackman and Vigna, "Scrambled linear pseudorandom number generators",
 * 2019, https://prng.di.unimi.it), its state filled from a seed by splitmix64. Same seed, same numbers, on every
 * machine. Not for secrets: the numbers can be predicted. A struct rng belongs to one thread at a time; it is plain
 * data and may be copied or saved.
 */
#ifndef LSTMD_BASE_RNG_H
#define LSTMD_BASE_RNG_H

#include <stdint.h>

struct rng {
    uint64_t state[4];
};

/* `stream` separates generators that share a seed (one per sequence, layer, epoch, ...). */
void rng_seed(struct rng *rng, uint64_t seed, uint64_t stream);

uint64_t rng_next(struct rng *rng);

/* Uniform in [0, 1), multiples of 2^-53. */
double rng_uniform(struct rng *rng);

/* Uniform in [0, bound), without bias; bound > 0. */
uint64_t rng_below(struct rng *rng, uint64_t bound);

/* Standard normal (Box-Muller, one value per call). The last bit depends on the machine's log() and cos(). */
double rng_normal(struct rng *rng);

#endif
