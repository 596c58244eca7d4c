/* A hidden state as text. For every cell, a read returns the written state. A cut, altered or made-up text gives a
 * refusal with a reason, or finite numbers. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/base64.h"
#include "model/generate/state_text.h"
#include "model/network/cells.h"
#include "model/text/vocabulary.h"
#include "tests/unit/network/reference.h"
#include "tests/unit/support.h"

#define V 7

struct fixture {
    struct network network;
    struct stepper stepper;
    struct state_owner owner;
    struct carried_state carried;
    char *text;
    size_t n;
};

/* An owner of two layers, of 5 and of 20 units, a state of random numbers, and its text. */
static void fixture_open(struct fixture *f, enum cell_kind cell, const char *name, uint64_t seed, bool has_rng)
{
    struct error err = {0};
    const struct architecture a = {
        .cell = cell, .layers = 2, .hidden_size = 20, .hidden_sizes = {5, 20}, .vocabulary_size = V};
    struct rng rng;
    memset(f, 0, sizeof *f);
    reference_random_network(&f->network, &a, seed, 0.1);
    if (!stepper_open(&f->stepper, &f->network, kernels_select("auto"), &err)) fail_msg("%s", err.message);
    f->owner = (struct state_owner){.model = name, .stepper = &f->stepper, .vocabulary_size = V};
    network_digest(&f->network, f->owner.weights);
    f->carried =
        (struct carried_state){.state = calloc(f->stepper.state_size, sizeof(float)), .pending = 3, .has_rng = has_rng};
    rng_seed(&rng, seed, 1);
    for (size_t k = 0; k < 2; k++) {
        for (int c = 0; c < 2; c++) {
            float *vector = state_vector(&f->stepper, f->carried.state, k, c == 1);
            for (size_t i = 0; vector && i < architecture_hidden(&f->stepper.architecture, k); i++)
                vector[i] = (float)rng_normal(&rng);
        }
    }
    f->carried.rng = rng;
    f->text = malloc(state_text_size(&f->owner) + 1);
    f->n = state_text_write(&f->owner, &f->carried, f->text, &err);
    assert_true(f->n > 0 && strlen(f->text) == f->n && f->n <= state_text_size(&f->owner));
}

static void fixture_close(struct fixture *f)
{
    free(f->text);
    free(f->carried.state);
    stepper_close(&f->stepper);
    network_close(&f->network);
}

static bool read_state(const struct fixture *f, const char *text, size_t n, struct carried_state *carried,
                       struct error *err)
{
    *carried = (struct carried_state){.state = malloc(f->stepper.state_size * sizeof(float))};
    return state_text_read(&f->owner, text, n, carried, err);
}

static void test_state_text_is_read_as_it_was_written(void **state)
{
    (void)state;
    for (int cell = 0; cell < CELL_COUNT; cell++) {
        for (int has_rng = 0; has_rng < 2; has_rng++) {
            struct fixture f;
            struct carried_state read;
            struct error err = {0};
            fixture_open(&f, (enum cell_kind)cell, "m\xC3\xA9", 4, has_rng);
            if (!read_state(&f, f.text, f.n, &read, &err)) fail_msg("%s", err.message);
            assert_memory_equal(read.state, f.carried.state, f.stepper.state_size * sizeof(float));
            assert_int_equal(read.pending, 3);
            assert_int_equal(read.has_rng, has_rng);
            if (has_rng) assert_memory_equal(&read.rng, &f.carried.rng, sizeof read.rng);
            free(read.state);
            fixture_close(&f);
        }
    }
}

static void test_state_text_of_another_model_is_a_conflict_that_names_both(void **state)
{
    (void)state;
    struct fixture ours, theirs;
    struct carried_state read;
    struct error err = {0};
    fixture_open(&ours, CELL_LSTM, "ours", 1, true);
    fixture_open(&theirs, CELL_GRU, "theirs", 2, true);
    assert_false(read_state(&ours, theirs.text, theirs.n, &read, &err));
    assert_int_equal(err.code, ERROR_CONFLICT);
    assert_non_null(strstr(err.message, "is of model \"theirs\" with weights"));
    assert_non_null(strstr(err.message, "this is \"ours\" with weights"));
    free(read.state);
    fixture_close(&ours);
    fixture_close(&theirs);
}

/* The text whose byte `at` (and the three behind it, where float is wanted) is another. */
static char *altered(const struct fixture *f, size_t at, const void *bytes, size_t n)
{
    size_t size;
    unsigned char *raw = malloc(f->n);
    char *text = malloc(f->n + 1);
    assert_true(base64_decode(f->text, f->n, raw, &size));
    assert_true(at + n <= size);
    memcpy(raw + at, bytes, n);
    base64_encode(raw, size, text);
    free(raw);
    return text;
}

static void test_state_text_that_was_made_up_is_refused_with_its_reason(void **state)
{
    (void)state;
    struct fixture f;
    fixture_open(&f, CELL_LSTM, "m", 1, true);
    const float nan_value = NAN, infinite = -INFINITY, huge = 1e30f, largest = 1e9f;
    const uint32_t pending = V;
    const uint64_t zeros[4] = {0};
    const size_t head = 4 + NETWORK_DIGEST_SIZE, sizes = head + 2, last = sizes + 8, rng = last + 4, numbers = rng + 32;
    const struct {
        size_t at;
        const void *bytes;
        size_t n;
        const char *reason;
    } cases[] = {
        {0, "x", 1, "not a state that this program gave"},
        {2, "\2", 1, "version 2"},
        {3, "\2", 1, "byte 3 is 2"},
        {3, "\0", 1, ""}, /* the generator is taken for numbers: one that is not finite, or too many */
        {head, "\1", 1, "cell, layers or sizes"},
        {sizes, "\6", 1, "cell, layers or sizes"},
        {last, &pending, 4, "its last token is 7, the vocabulary has 7"},
        {rng, zeros, 32, "random generator is all zero"},
        {numbers, &nan_value, 4, "h[0] of layer 0 is not finite"},
        {numbers, &huge, 4, "h[0] of layer 0 is beyond 1e9"},
        {numbers + 4 * 6, &infinite, 4, "c[1] of layer 0 is not finite"},
        {numbers + 4 * 10, &infinite, 4, "h[0] of layer 1 is not finite"},
        {numbers + 4 * 50, "\5", 1, "length is wrong"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct carried_state read;
        struct error err = {0};
        char *text = altered(&f, cases[i].at, cases[i].bytes, cases[i].n);
        if (read_state(&f, text, f.n, &read, &err)) fail_msg("%zu: taken", i);
        if (err.code != ERROR_INVALID || !strstr(err.message, cases[i].reason)) fail_msg("%zu: %s", i, err.message);
        free(text);
        free(read.state);
    }
    struct carried_state read;
    char *text = altered(&f, numbers, &largest, 4);
    assert_true(read_state(&f, text, f.n, &read, NULL));
    assert_true(read.state[0] == largest);
    free(text);
    free(read.state);
    fixture_close(&f);
}

static void test_state_text_cut_anywhere_is_refused(void **state)
{
    (void)state;
    struct fixture f;
    fixture_open(&f, CELL_GRU, "model", 1, true);
    for (size_t n = 0; n < f.n; n++) {
        struct carried_state read;
        struct error err = {0};
        if (read_state(&f, f.text, n, &read, &err)) fail_msg("%zu of %zu characters were taken", n, f.n);
        assert_true(err.message[0] != '\0');
        free(read.state);
    }
    fixture_close(&f);
}

static void test_base64_takes_exactly_what_it_gives(void **state)
{
    (void)state;
    static const struct {
        const char *bytes, *text;
        size_t n;
    } vectors[] = {{"", "", 0},        {"f", "Zg", 1},        {"fo", "Zm8", 2},
                   {"foo", "Zm9v", 3}, {"foob", "Zm9vYg", 4}, {"\xFB\xFF\xFE", "-__-", 3}};
    for (size_t i = 0; i < sizeof vectors / sizeof *vectors; i++) {
        char text[16], bytes[16];
        size_t n;
        base64_encode(vectors[i].bytes, vectors[i].n, text);
        assert_string_equal(text, vectors[i].text);
        assert_true(base64_decode(text, strlen(text), bytes, &n));
        assert_int_equal(n, vectors[i].n);
        assert_memory_equal(bytes, vectors[i].bytes, n);
    }
    static const char *const wrong[] = {"Z",      "Zg==", "Zm8=", "Zm+v",  "Zm/v",     "Z m9v",
                                        "Zm9v\n", "Zh",   "Zm9",  "Zm9v!", "\xC3\xA9g"};
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++) {
        char bytes[16];
        size_t n;
        if (base64_decode(wrong[i], strlen(wrong[i]), bytes, &n)) fail_msg("\"%s\" is taken", wrong[i]);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_state_text_is_read_as_it_was_written),
        cmocka_unit_test(test_state_text_of_another_model_is_a_conflict_that_names_both),
        cmocka_unit_test(test_state_text_that_was_made_up_is_refused_with_its_reason),
        cmocka_unit_test(test_state_text_cut_anywhere_is_refused),
        cmocka_unit_test(test_base64_takes_exactly_what_it_gives),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
