/* The B streams of an epoch: their order, where they begin, a window of them. */
#include <string.h>

#include "base/rng.h"
#include "model/text/dataset.h"

#define RNG_STREAM_SHUFFLE UINT64_C(0x7368756600000000) /* + epoch: stream of the run's seed, for this alone */

static bool streams_allocate(struct streams *streams, struct error *err)
{
    const struct dataset *dataset = streams->dataset;
    if (dataset->one_stream || dataset->document_count < 2) return true; /* nothing to shuffle */
    size_t tokens = streams->batch * streams->length + 1;                /* at most token_count */
    if (!tokens_open(&streams->shuffled, dataset->vocabulary_size, tokens, dataset->directory, err)) return false;
    return scratch_reserve_array(&streams->order, dataset->document_count, sizeof(size_t), dataset->directory,
                                 "a shuffle", err);
}

bool streams_open(struct streams *streams, const struct dataset *dataset, size_t batch, uint64_t seed, uint64_t epoch,
                  struct error *err)
{
    *streams = (struct streams){.dataset = dataset};
    size_t targets = dataset->token_count > 0 ? dataset->token_count - 1 : 0;
    if (targets == 0) return error_set(err, ERROR_INVALID, "there is no text to learn from");
    if (dataset->lacks_eos)
        return error_set(err, ERROR_INVALID,
                         "the vocabulary has no <eos>, without which there is no end of a document to learn");
    if (batch == 0) return error_set(err, ERROR_INVALID, "the batch must be at least 1");
    streams->batch = batch < targets ? batch : targets;
    streams->length = targets / streams->batch;
    if (!streams_allocate(streams, err)) return false;
    streams_start_epoch(streams, seed, epoch);
    return true;
}

static bool dataset_stopped(const struct dataset *dataset)
{
    return dataset->stop && atomic_load(dataset->stop);
}

/* Fisher and Yates. It always starts from the identity, so the order depends on seed and epoch alone. */
static void shuffle_order(size_t *order, size_t count, uint64_t seed, uint64_t epoch)
{
    struct rng rng;
    rng_seed(&rng, seed, RNG_STREAM_SHUFFLE + epoch);
    for (size_t i = 0; i < count; i++) order[i] = i;
    for (size_t i = count; i-- > 1;) {
        size_t k = (size_t)rng_below(&rng, i + 1), swap = order[i];
        order[i] = order[k];
        order[k] = swap;
    }
}

/* Writes the documents in their order and the closing <eos>, without the first `skip` tokens and as far as there is
 * room. */
static void lay_out(struct streams *streams, size_t skip)
{
    const struct dataset *dataset = streams->dataset;
    const size_t *order = streams->order.data;
    size_t at = 0;
    size_t room = streams->batch * streams->length + 1;
    for (size_t i = 0; i < dataset->document_count && room > 0 && !dataset_stopped(dataset); i++) {
        size_t start = dataset->starts[order[i]], n = dataset->starts[order[i] + 1] - start;
        size_t skipped = skip < n ? skip : n;
        skip -= skipped;
        n -= skipped;
        if (n > room) n = room;
        tokens_copy(&streams->shuffled, at, &dataset->tokens, start + skipped, n);
        at += n;
        room -= n;
    }
    if (room > 0) tokens_copy(&streams->shuffled, at, &dataset->tokens, dataset->token_count - 1, 1);
}

void streams_start_epoch(struct streams *streams, uint64_t seed, uint64_t epoch)
{
    const struct dataset *dataset = streams->dataset;
    size_t left_over = dataset->token_count - 1 - streams->batch * streams->length;
    size_t skip = (size_t)(epoch % (left_over + 1));
    streams->first = 0;
    if (!streams->shuffled.data) {
        streams->tokens = &dataset->tokens;
        streams->first = skip;
        return;
    }
    shuffle_order(streams->order.data, dataset->document_count, seed, epoch);
    lay_out(streams, skip);
    streams->tokens = &streams->shuffled;
}

size_t streams_window(const struct streams *streams, size_t position, size_t window, uint32_t *inputs,
                      uint32_t *targets)
{
    const size_t B = streams->batch, left = position < streams->length ? streams->length - position : 0;
    const size_t T = window < left ? window : left;
    for (size_t b = 0; b < B; b++) {
        const size_t from = streams->first + b * streams->length + position;
        for (size_t t = 0; t < T; t++) {
            inputs[t * B + b] = tokens_get(streams->tokens, from + t);
            targets[t * B + b] = tokens_get(streams->tokens, from + t + 1);
        }
    }
    return T;
}

void streams_close(struct streams *streams)
{
    scratch_close(&streams->order);
    tokens_close(&streams->shuffled);
    *streams = (struct streams){0};
}
