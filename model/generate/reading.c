#include "model/generate/reading.h"

#include <math.h>
#include <string.h>

#include "model/generate/window.h"

/* With a window, each token's tokens are fed anew, one by one. */
static bool reads_pieces(const struct reading *reading)
{
    return !reading->options.each_state && reading->stepper->architecture.window.size == 0;
}

bool reading_open(struct reading *reading, const struct stepper *stepper, const struct reading_options *options,
                  struct error *err)
{
    struct arena *arena = &reading->arena;
    *reading = (struct reading){.stepper = stepper, .options = *options};
    reading->state = arena_alloc(arena, stepper->state_size, sizeof(float), "a hidden state", err);
    if (!reading->state) return false;
    return step_piece_open(&reading->piece, stepper, reads_pieces(reading) ? options->count : 1,
                           reads_pieces(reading) && !options->carries, options->wanted_from < options->count, err) &&
           (!options->keep_gates || step_scratch_keep_gates(&reading->piece.scratch, stepper, err));
}

void reading_close(struct reading *reading)
{
    step_piece_close(&reading->piece);
    arena_free(&reading->arena);
    reading->state = NULL;
    reading->logits = NULL;
}

/* Reads the piece that begins with token i. */
static void feed_piece(struct reading *reading, size_t i)
{
    const struct reading_options *options = &reading->options;
    const size_t left = options->count - i, n = left < reading->piece.tokens ? left : reading->piece.tokens;
    step_piece(&reading->piece, n, options->ids + i, reading->state,
               options->wanted_from > i ? options->wanted_from - i : 0);
    reading->first = i;
    reading->end = i + n;
}

static void feed_one(struct reading *reading, const uint32_t *id)
{
    step_piece(&reading->piece, 1, id, reading->state, 1);
}

/* Feeds the tokens of token i's window before it. */
static void feed_window(struct reading *reading, size_t i)
{
    const struct reading_options *options = &reading->options;
    const struct window_feed feed = window_feed(&reading->stepper->architecture.window, options->pad, i + 1);
    memset(reading->state, 0, reading->stepper->state_size * sizeof(float));
    for (size_t k = 0; k < feed.padding; k++) feed_one(reading, &options->pad);
    for (size_t k = feed.first; k < i; k++) feed_one(reading, &options->ids[k]);
}

void reading_feed(struct reading *reading, size_t i)
{
    const struct stepper *stepper = reading->stepper;
    if (i < reading->first || i >= reading->end) {
        if (stepper->architecture.window.size > 0) {
            if (i < reading->options.wanted_from) return;
            feed_window(reading, i);
        }
        feed_piece(reading, i);
    }
    reading->logits =
        reading->piece.logits ? reading->piece.logits + (i - reading->first) * stepper->logits_size : NULL;
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
