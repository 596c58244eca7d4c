#include "model/text/dataset.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tests/unit/support.h"

/* ---- datasets made by hand ---- */

#define MOST_TOKENS 2048

/* Document d is <eos> and lengths[d] tokens. Every value is unique, so a token tells its place. */
struct sample {
    struct dataset dataset;
    uint32_t tokens[MOST_TOKENS];
    size_t starts[256];
};

static void sample_make(struct sample *sample, const size_t *lengths, size_t count, bool one_stream)
{
    size_t n = 0;
    for (size_t d = 0; d < count; d++) {
        sample->starts[d] = n;
        sample->tokens[n++] = 0;
        for (size_t i = 0; i < lengths[d]; i++, n++) sample->tokens[n] = (uint32_t)n;
    }
    sample->starts[count] = n;
    sample->tokens[n++] = 0;
    sample->dataset = (struct dataset){
        .tokens = {.data = sample->tokens, .shift = 2},
        .vocabulary_size = UINT32_MAX,
        .token_count = n,
        .starts = sample->starts,
        .document_count = count,
        .one_stream = one_stream,
    };
}

/* Lengths 1, 2, ... cycling through `longest`. */
static void sample_make_documents(struct sample *sample, size_t count, size_t longest)
{
    size_t lengths[256];
    for (size_t d = 0; d < count; d++) lengths[d] = 1 + d % longest;
    sample_make(sample, lengths, count, false);
}

static void sample_make_stream(struct sample *sample, size_t length)
{
    sample_make(sample, &length, 1, true);
}

/* ---- what must hold ---- */

/* Reads the streams back through windows of T positions: inputs[b * length + i] and the targets. */
static void read_windows(const struct streams *streams, size_t window, uint32_t *inputs, uint32_t *targets)
{
    const size_t B = streams->batch;
    uint32_t x[MOST_TOKENS], y[MOST_TOKENS];
    size_t position = 0, T;
    while ((T = streams_window(streams, position, window, x, y)) > 0) {
        assert_true(T == window || position + T == streams->length);
        for (size_t t = 0; t < T; t++) {
            for (size_t b = 0; b < B; b++) {
                inputs[b * streams->length + position + t] = x[t * B + b];
                targets[b * streams->length + position + t] = y[t * B + b];
            }
        }
        position += T;
    }
    assert_int_equal(position, streams->length);
    assert_int_equal(streams_window(streams, position + 5, window, x, y), 0);
}

/* Tells whether (input, target) are neighbours in the documents, for any order of the documents. */
static bool is_real_pair(const struct dataset *dataset, uint32_t input, uint32_t target)
{
    if (input == 0) { /* <eos>: the first token of a document follows */
        for (size_t d = 0; d < dataset->document_count; d++) {
            if (tokens_get(&dataset->tokens, dataset->starts[d] + 1) == target) return true;
        }
        return false;
    }
    return tokens_get(&dataset->tokens, input + 1) == target; /* the token's value is its place */
}

/* Checks all that the header promises of one epoch. */
static void check_epoch(const struct streams *streams, size_t batch, size_t window)
{
    const struct dataset *dataset = streams->dataset;
    const size_t predictions = dataset->token_count - 1;
    uint32_t inputs[MOST_TOKENS], targets[MOST_TOKENS];
    unsigned char seen[MOST_TOKENS] = {0};
    assert_int_equal(streams->batch, batch < predictions ? batch : predictions);
    assert_int_equal(streams->length, predictions / streams->batch);
    const size_t used = streams->batch * streams->length;
    assert_true(predictions - used < streams->batch);
    read_windows(streams, window, inputs, targets);
    size_t resets = 0;
    for (size_t i = 0; i < used; i++) {
        assert_true(is_real_pair(dataset, inputs[i], targets[i]));
        if (i + 1 < used) assert_int_equal(targets[i], inputs[i + 1]); /* across the borders of streams too */
        assert_int_equal(inputs[i], tokens_get(streams->tokens, streams->first + i));
        resets += inputs[i] == 0;
        if (inputs[i] != 0) assert_int_equal(seen[inputs[i]]++, 0);
    }
    assert_int_equal(targets[used - 1], tokens_get(streams->tokens, streams->first + used));
    /* Each document starts once; only left-over positions may be missing. */
    assert_true(resets <= dataset->document_count);
    assert_true(resets + (predictions - used) >= dataset->document_count);
}

static void check_streams(const struct dataset *dataset, size_t batch, size_t window)
{
    struct streams streams;
    struct error err = {0};
    if (!streams_open(&streams, dataset, batch, 7, 0, &err)) fail_msg("%s", err.message);
    for (uint64_t epoch = 0; epoch < 5; epoch++) {
        streams_start_epoch(&streams, 7, epoch);
        check_epoch(&streams, batch, window);
    }
    streams_close(&streams);
}

/* ---- tests ---- */

static void test_streams_predict_every_token_once(void **state)
{
    (void)state;
    static struct sample sample;
    static const size_t batches[] = {1, 2, 3, 7, 64, 1000};
    for (size_t i = 0; i < sizeof batches / sizeof *batches; i++) {
        for (size_t window = 1; window <= 40; window += 13) {
            sample_make_documents(&sample, 100, 13);
            check_streams(&sample.dataset, batches[i], window);
            sample_make_stream(&sample, 501);
            check_streams(&sample.dataset, batches[i], window);
            sample_make_documents(&sample, 1, 3);
            check_streams(&sample.dataset, batches[i], window);
        }
    }
}

static void test_streams_of_a_stream_point_into_the_dataset(void **state)
{
    (void)state;
    static struct sample sample;
    struct streams streams;
    sample_make_stream(&sample, 100);
    assert_true(streams_open(&streams, &sample.dataset, 4, 1, 0, NULL));
    assert_ptr_equal(streams.tokens, &sample.dataset.tokens);
    assert_int_equal(streams.order.size, 0);
    streams_close(&streams);
}

static void copy_epoch(struct streams *streams, uint64_t seed, uint64_t epoch, uint32_t *out)
{
    streams_start_epoch(streams, seed, epoch);
    memcpy(out, (uint32_t *)streams->tokens->data + streams->first,
           (streams->batch * streams->length + 1) * sizeof *out);
}

static void test_streams_order_follows_seed_and_epoch_alone(void **state)
{
    (void)state;
    static struct sample sample;
    static uint32_t first[MOST_TOKENS], other[MOST_TOKENS];
    struct streams streams, again;
    sample_make_documents(&sample, 60, 9);
    assert_true(streams_open(&streams, &sample.dataset, 8, 1, 3, NULL));
    size_t bytes = (streams.batch * streams.length + 1) * sizeof *first;
    memcpy(first, streams.tokens->data, bytes);
    copy_epoch(&streams, 1, 4, other);
    assert_memory_not_equal(first, other, bytes);
    copy_epoch(&streams, 2, 3, other);
    assert_memory_not_equal(first, other, bytes);
    copy_epoch(&streams, 1, 3, other);
    assert_memory_equal(first, other, bytes);
    assert_true(streams_open(&again, &sample.dataset, 8, 1, 3, NULL));
    assert_memory_equal(first, again.tokens->data, bytes);
    streams_close(&again);
    streams_close(&streams);
}

/* After shuffling, every place of a document has about the same chance. */
static void test_streams_shuffle_puts_documents_everywhere(void **state)
{
    (void)state;
    static struct sample sample;
    struct streams streams;
    size_t firsts[6] = {0};
    sample_make_documents(&sample, 6, 1);
    assert_true(streams_open(&streams, &sample.dataset, 1, 1, 0, NULL));
    for (uint64_t epoch = 0; epoch < 6000; epoch++) {
        streams_start_epoch(&streams, 1, epoch);
        firsts[(tokens_get(streams.tokens, 1) - 1) / 2]++;
    }
    for (size_t d = 0; d < 6; d++) assert_in_range(firsts[d], 850, 1150);
    streams_close(&streams);
}

/* 10 targets in 4 streams leave 2 positions over. Which ones, changes from epoch to epoch. */
static void test_streams_left_over_positions_differ_by_epoch(void **state)
{
    (void)state;
    static struct sample sample;
    struct streams streams;
    sample_make_stream(&sample, 9);
    assert_true(streams_open(&streams, &sample.dataset, 4, 1, 0, NULL));
    assert_int_equal(streams.length, 2);
    for (uint64_t epoch = 0; epoch < 6; epoch++) {
        streams_start_epoch(&streams, 1, epoch);
        assert_ptr_equal(streams.tokens, &sample.dataset.tokens);
        assert_int_equal(streams.first, epoch % 3);
    }
    streams_close(&streams);
}

static void test_streams_window_is_time_major(void **state)
{
    (void)state;
    static struct sample sample;
    struct streams streams;
    uint32_t inputs[8], targets[8];
    sample_make_stream(&sample, 5); /* 0 1 2 3 4 5 0 */
    assert_true(streams_open(&streams, &sample.dataset, 2, 1, 0, NULL));
    assert_int_equal(streams.length, 3);
    assert_int_equal(streams_window(&streams, 0, 2, inputs, targets), 2);
    assert_memory_equal(inputs, ((const uint32_t[]){0, 3, 1, 4}), 16);
    assert_memory_equal(targets, ((const uint32_t[]){1, 4, 2, 5}), 16);
    assert_int_equal(streams_window(&streams, 2, 2, inputs, targets), 1);
    assert_memory_equal(inputs, ((const uint32_t[]){2, 5}), 8);
    assert_memory_equal(targets, ((const uint32_t[]){3, 0}), 8);
    streams_close(&streams);
}

static void test_streams_of_the_smallest_corpus(void **state)
{
    (void)state;
    static struct sample sample;
    struct streams streams;
    sample_make_stream(&sample, 2); /* two characters: three targets */
    assert_true(streams_open(&streams, &sample.dataset, 64, 1, 0, NULL));
    assert_int_equal(streams.batch, 3);
    assert_int_equal(streams.length, 1);
    streams_close(&streams);
    check_streams(&sample.dataset, 64, 64);
    sample_make_stream(&sample, 0);
    check_streams(&sample.dataset, 64, 64);
}

static void test_streams_refuse_no_text_and_no_batch(void **state)
{
    (void)state;
    static struct sample sample;
    struct streams streams;
    struct error err = {0};
    sample_make(&sample, NULL, 0, false);
    assert_false(streams_open(&streams, &sample.dataset, 4, 1, 0, &err));
    assert_int_equal(err.code, ERROR_INVALID);
    streams_close(&streams);
    sample_make_stream(&sample, 9);
    error_clear(&err);
    assert_false(streams_open(&streams, &sample.dataset, 0, 1, 0, &err));
    assert_int_equal(err.code, ERROR_INVALID);
    streams_close(&streams);
}

static bool open_and_close(void *context, struct error *err)
{
    struct streams streams;
    bool ok = streams_open(&streams, context, 4, 1, 0, err);
    streams_close(&streams);
    return ok;
}

static void test_streams_survive_every_failing_allocation(void **state)
{
    (void)state;
    static struct sample sample;
    sample_make_documents(&sample, 20, 5);
    assert_survives_failing_allocations(open_and_close, &sample.dataset);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_streams_predict_every_token_once),
        cmocka_unit_test(test_streams_of_a_stream_point_into_the_dataset),
        cmocka_unit_test(test_streams_order_follows_seed_and_epoch_alone),
        cmocka_unit_test(test_streams_shuffle_puts_documents_everywhere),
        cmocka_unit_test(test_streams_left_over_positions_differ_by_epoch),
        cmocka_unit_test(test_streams_window_is_time_major),
        cmocka_unit_test(test_streams_of_the_smallest_corpus),
        cmocka_unit_test(test_streams_refuse_no_text_and_no_batch),
        cmocka_unit_test(test_streams_survive_every_failing_allocation),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
