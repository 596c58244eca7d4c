#include "base/rng.h"

#include <math.h>

static uint64_t rotate_left(uint64_t x, int bits)
{
    return (x << bits) | (x >> (64 - bits));
}

static uint64_t splitmix64(uint64_t *state)
{
    uint64_t z = *state += UINT64_C(0x9e3779b97f4a7c15);
    z = (z ^ (z >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
    z = (z ^ (z >> 27)) * UINT64_C(0x94d049bb133111eb);
    return z ^ (z >> 31);
}

void rng_seed(struct rng *rng, uint64_t seed, uint64_t stream)
{
    /* The stream number is hashed first, so that seed 1 of stream 2 and seed 2 of stream 1 have nothing in common. */
    uint64_t state = seed ^ splitmix64(&stream);
    for (int i = 0; i < 4; i++) rng->state[i] = splitmix64(&state);
}

uint64_t rng_next(struct rng *rng)
{
    uint64_t *s = rng->state;
    uint64_t result = rotate_left(s[0] + s[3], 23) + s[0];
    uint64_t t = s[1] << 17;
    s[2] ^= s[0];
    s[3] ^= s[1];
    s[1] ^= s[2];
    s[0] ^= s[3];
    s[2] ^= t;
    s[3] = rotate_left(s[3], 45);
    return result;
}

double rng_uniform(struct rng *rng)
{
    return (double)(rng_next(rng) >> 11) * 0x1p-53;
}

uint64_t rng_below(struct rng *rng, uint64_t bound)
{
    /* Reject the first 2^64 mod bound values: the number of the others is a multiple of bound, so all remainders are
     * equally likely. */
    uint64_t refused = (0 - bound) % bound;
    uint64_t x = rng_next(rng);
    while (x < refused) x = rng_next(rng);
    return x % bound;
}

double rng_normal(struct rng *rng)
{
    double radius = sqrt(-2.0 * log(1.0 - rng_uniform(rng))); /* 1 - u is never 0 */
    return radius * cos(2.0 * M_PI * rng_uniform(rng));
}
