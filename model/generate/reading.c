#include "model/generate/reading.h"

#include <math.h>
#include <string.h>

#include "model/generate/window.h"

bool reading_open(struct reading *reading, const struct stepper *stepper, const uint32_t *ids, uint32_t pad,
                  bool keep_gates, struct error *err)
{
    struct arena *arena = &reading->arena;
    *reading = (struct reading){.stepper = stepper, .ids = ids, .pad = pad};
    reading->state = arena_alloc(arena, stepper->state_size, sizeof(float), "a hidden state", err);
    reading->logits = arena_alloc(arena, stepper->logits_size, sizeof(float), "logits", err);
    if (!reading->state || !reading->logits) return false;
    return step_scratch_open(&reading->scratch, stepper, 1, err) &&
           (!keep_gates || step_scratch_keep_gates(&reading->scratch, stepper, err));
}

void reading_close(struct reading *reading)
{
    step_scratch_close(&reading->scratch);
    arena_free(&reading->arena);
    reading->state = reading->logits = NULL;
}

static void feed_one(struct reading *reading, const uint32_t *id, float *logits)
{
    step(reading->stepper, &reading->scratch, 1, id, &reading->state, logits ? &logits : NULL);
}

void reading_feed(struct reading *reading, size_t i, bool wanted)
{
    const struct stepper *stepper = reading->stepper;
    const struct token_window *window = &stepper->architecture.window;
    const struct window_feed feed = window_feed(window, reading->pad, i + 1);
    const size_t bytes = stepper->state_size * sizeof(float);
    size_t first = i;
    if (window->size > 0) {
        if (!wanted) return;
        memset(reading->state, 0, bytes);
        for (size_t k = 0; k < feed.padding; k++) feed_one(reading, &reading->pad, NULL);
        first = feed.first;
    }
    for (size_t k = first; k < i; k++) feed_one(reading, &reading->ids[k], NULL);
    feed_one(reading, &reading->ids[i], wanted ? reading->logits : NULL);
}

struct reading_softmax reading_softmax(const float *logits, size_t vocabulary)
{
    struct reading_softmax softmax = {.largest = logits[0]};
    double sum = 0, weighted = 0;
    for (size_t i = 1; i < vocabulary; i++)
        if (logits[i] > softmax.largest) softmax.largest = logits[i];
    for (size_t i = 0; i < vocabulary; i++) {
        const double distance = (double)(logits[i] - softmax.largest), weight = exp(distance);
        sum += weight;
        if (weight > 0) weighted += weight * distance;
    }
    /* cppcheck-suppress invalidFunctionArg ; a vocabulary has tokens, and the likeliest adds 1 */
    softmax.log_sum = log(sum);
    softmax.entropy = fmax(0, softmax.log_sum - weighted / sum);
    return softmax;
}

double reading_softmax_log(const struct reading_softmax *softmax, float logit)
{
    return (double)(logit - softmax->largest) - softmax->log_sum;
}

double reading_log_probability(const float *logits, size_t vocabulary, uint32_t id)
{
    const struct reading_softmax softmax = reading_softmax(logits, vocabulary);
    return reading_softmax_log(&softmax, logits[id]);
}
