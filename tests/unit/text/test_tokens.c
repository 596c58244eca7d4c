#include <stdlib.h>
#include <string.h>

#include "model/text/dataset.h"
#include "model/text/tokens.h"
#include "tests/unit/support.h"

static void test_tokens_take_the_bytes_that_the_vocabulary_needs(void **state)
{
    (void)state;
    static const struct {
        uint32_t vocabulary;
        unsigned shift;
    } cases[] = {{2, 0}, {256, 0}, {257, 1}, {65536, 1}, {65537, 2}, {1000000, 2}};
    for (size_t c = 0; c < sizeof cases / sizeof *cases; c++) {
        struct tokens tokens, copy;
        const uint32_t last = cases[c].vocabulary - 1;
        assert_true(tokens_open(&tokens, cases[c].vocabulary, 2, NULL, NULL));
        assert_int_equal(tokens.shift, cases[c].shift);
        tokens_set(&tokens, 0, 1);
        tokens_set(&tokens, 1, last);
        assert_true(tokens_grow(&tokens, 1000, NULL));
        tokens_set(&tokens, 999, last);
        assert_int_equal(tokens_get(&tokens, 0), 1);
        assert_int_equal(tokens_get(&tokens, 1), last);
        assert_true(tokens_open(&copy, cases[c].vocabulary, 3, NULL, NULL));
        tokens_copy(&copy, 1, &tokens, 0, 2);
        assert_int_equal(tokens_get(&copy, 1), 1);
        assert_int_equal(tokens_get(&copy, 2), last);
        tokens_close(&copy);
        tokens_close(&tokens);
    }
}

static void test_tokens_that_are_many_lie_in_a_file_without_a_name(void **state)
{
    (void)state;
    char *directory = temp_dir_new();
    struct tokens tokens;
    struct error err = {0};
    if (!tokens_open(&tokens, 300, SCRATCH_IN_MEMORY, directory, &err)) fail_msg("%s", err.message);
    assert_true(tokens.scratch.mapped);
    assert_int_equal(count_entries(directory), 0);
    tokens_set(&tokens, SCRATCH_IN_MEMORY - 1, 299);
    scratch_let_go(&tokens.scratch);
    assert_int_equal(tokens_get(&tokens, SCRATCH_IN_MEMORY - 1), 299);
    tokens_close(&tokens);
    assert_false(tokens_open(&tokens, 2, SCRATCH_IN_MEMORY + 1, in_dir(directory, "none"), &err));
    assert_int_equal(err.code, ERROR_NOT_FOUND);
    err = (struct error){0};
    assert_false(tokens_open(&tokens, 2, (size_t)1 << 60, directory, &err)); /* no disk has that */
    assert_true(err.code == ERROR_NO_SPACE || err.code == ERROR_IO);
    assert_false(tokens_open(&tokens, 70000, SIZE_MAX / 2, NULL, NULL));
    temp_dir_remove(directory);
}

/* Tokens grow from memory to the disk, and on the disk. Written tokens do not change. */
static void test_tokens_move_to_a_file_as_they_become_many(void **state)
{
    (void)state;
    char *directory = temp_dir_new();
    struct tokens tokens;
    struct error err = {0};
    assert_true(tokens_open(&tokens, 300, 10, directory, NULL));
    assert_false(tokens.scratch.mapped);
    for (size_t i = 0; i < 10; i++) tokens_set(&tokens, i, (uint32_t)i);
    for (size_t capacity = SCRATCH_IN_MEMORY / 2 + 1; capacity <= SCRATCH_IN_MEMORY + 2; capacity *= 2) {
        assert_true(tokens_grow(&tokens, capacity, NULL));
        assert_true(tokens.scratch.mapped);
        tokens_set(&tokens, capacity - 1, 7);
        scratch_let_go(&tokens.scratch);
        for (size_t i = 0; i < 10; i++) assert_int_equal(tokens_get(&tokens, i), i);
        assert_int_equal(tokens_get(&tokens, SCRATCH_IN_MEMORY / 2), 7);
    }
    assert_false(tokens_grow(&tokens, (size_t)1 << 60, &err));
    assert_true(err.code == ERROR_NO_SPACE || err.code == ERROR_IO);
    assert_int_equal(tokens_get(&tokens, 9), 9);
    tokens_close(&tokens);
    assert_true(tokens_open(&tokens, 2, SCRATCH_IN_MEMORY + 1, NULL, NULL)); /* no directory: memory */
    assert_false(tokens.scratch.mapped);
    tokens_close(&tokens);
    temp_dir_remove(directory);
}

/* A text of several pieces gives the same tokens as the whole text. */
static void assert_same_in_pieces(enum token_level level, const char *unit, size_t count)
{
    const struct corpus_options format = {.format = CORPUS_TEXT};
    const struct vocabulary_options options = {.level = level};
    const size_t unit_size = strlen(unit), n = unit_size * count;
    char *text = malloc(n + 1);
    for (size_t i = 0; i < count; i++) memcpy(text + i * unit_size, unit, unit_size + 1);
    struct corpus corpus;
    struct dataset dataset;
    struct token_list ids = {0};
    assert_true(corpus_load_memory(&corpus, "text", text, n, &format, NULL));
    struct vocabulary *vocabulary = vocabulary_build(&corpus, &options, NULL);
    assert_non_null(vocabulary);
    assert_true(dataset_encode(&dataset, &corpus, vocabulary, NULL, NULL, NULL));
    assert_true(vocabulary_encode(vocabulary, text, n, &ids, NULL, NULL));
    assert_int_equal(dataset.token_count, ids.count + 2);
    for (size_t i = 0; i < ids.count; i++)
        if (tokens_get(&dataset.tokens, i + 1) != ids.ids[i]) fail_msg("token %zu differs", i);
    token_list_free(&ids);
    dataset_close(&dataset);
    vocabulary_free(vocabulary);
    corpus_close(&corpus);
    free(text);
}

static void test_tokens_of_a_long_text_do_not_depend_on_its_pieces(void **state)
{
    (void)state;
    assert_same_in_pieces(TOKEN_LEVEL_CHAR, "a\u20ac\u00e9b\U0001F600", 250000); /* 11 bytes: every border comes up */
    assert_same_in_pieces(TOKEN_LEVEL_WORD, "one two\nthree ", 250000);
    assert_same_in_pieces(TOKEN_LEVEL_WORD, "one\ntwo,", 400000); /* no space to cut at */
    assert_same_in_pieces(TOKEN_LEVEL_BYTE, "abc", 1000000);
}

static bool grow(void *context, struct error *err)
{
    (void)context;
    struct tokens tokens = {0};
    bool ok = tokens_open(&tokens, 5, 10, NULL, err) && tokens_grow(&tokens, 100, err);
    tokens_close(&tokens);
    return ok;
}

static void test_tokens_survive_failing_allocations(void **state)
{
    (void)state;
    assert_survives_failing_allocations(grow, NULL);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_tokens_take_the_bytes_that_the_vocabulary_needs),
        cmocka_unit_test(test_tokens_that_are_many_lie_in_a_file_without_a_name),
        cmocka_unit_test(test_tokens_move_to_a_file_as_they_become_many),
        cmocka_unit_test(test_tokens_of_a_long_text_do_not_depend_on_its_pieces),
        cmocka_unit_test(test_tokens_survive_failing_allocations),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
