#include "model/train/dropout.h"

#include "base/rng.h"

void dropout_draw(const struct dropout *dropout, unsigned place, uint64_t row, size_t width, float *mask)
{
    const uint64_t threshold = (uint64_t)(dropout->probability * 65536.0);
    const float kept = (float)(65536.0 / (65536.0 - (double)threshold));
    struct rng rng;
    rng_seed(&rng, dropout->seed ^ (row << 4) ^ place, dropout->step);
    for (size_t i = 0; i < width; i += 4) {
        uint64_t bits = rng_next(&rng);
        for (size_t j = 0; j < 4; j++, bits >>= 16) mask[i + j] = (bits & 0xffff) < threshold ? 0.0f : kept;
    }
}
