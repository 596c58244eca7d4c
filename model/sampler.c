#include "model/sampler.h"

#include <math.h>

static void forbid(float *logits, uint32_t id)
{
    if (id != TOKEN_NONE) logits[id] = -INFINITY;
}

void sampler_forbid(const struct vocabulary *vocabulary, float *logits)
{
    const uint32_t labels = vocabulary_label_count(vocabulary);
    forbid(logits, vocabulary_pad(vocabulary));
    forbid(logits, vocabulary_unknown(vocabulary));
    for (uint32_t i = 0; i < labels; i++) forbid(logits, vocabulary_label(vocabulary, i));
}

uint32_t sampler_argmax(const float *logits, size_t vocabulary_size)
{
    size_t best = 0;
    float largest = -INFINITY;
    for (size_t v = 0; v < vocabulary_size; v++) {
        if (logits[v] > largest) { /* false where the logit is NaN */
            largest = logits[v];
            best = v;
        }
    }
    return (uint32_t)best;
}

/* exp((logit - largest) / temperature): 1 for the largest, 0 for what is forbidden. */
static double weight(float logit, float largest, double temperature)
{
    if (logit == largest) return largest == -INFINITY ? 0 : 1; /* also where both are infinite */
    if (!(logit < largest)) return 0;
    return exp(((double)logit - (double)largest) / temperature);
}

/* weights[V], relative to the largest; returns their sum, in the order of the ids. */
static double relative_weights(const float *logits, size_t vocabulary_size, double temperature, double *weights)
{
    const float largest = logits[sampler_argmax(logits, vocabulary_size)];
    double sum = 0;
    for (size_t v = 0; v < vocabulary_size; v++) {
        weights[v] = weight(logits[v], largest, temperature);
        sum += weights[v];
    }
    return sum;
}

uint32_t sampler_pick(const struct sampler_options *options, const float *logits, size_t vocabulary_size,
                      struct rng *rng, double *scratch)
{
    if (!(options->temperature > 0)) return sampler_argmax(logits, vocabulary_size);

    const double sum = relative_weights(logits, vocabulary_size, options->temperature, scratch);
    const double mark = rng_uniform(rng) * sum;
    double below = 0;
    uint32_t last = 0;
    for (size_t v = 0; v < vocabulary_size; v++) {
        if (scratch[v] == 0) continue;
        below += scratch[v];
        last = (uint32_t)v;
        if (mark < below) break;
    }
    return last; /* rounding may leave mark == sum: the last possible token */
}

void sampler_softmax(const float *logits, size_t vocabulary_size, double temperature, double *probabilities)
{
    const double sum = relative_weights(logits, vocabulary_size, temperature, probabilities);
    for (size_t v = 0; sum > 0 && v < vocabulary_size; v++) probabilities[v] /= sum;
}
