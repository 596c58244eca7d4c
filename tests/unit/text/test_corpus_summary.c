/* model/text/corpus_summary.c: counts a corpus without keeping it in memory. */
#include "tests/unit/text/corpus_support.h"

#include <stdlib.h>
#include <string.h>

#include "tests/unit/support.h"

static void test_corpus_summary_lists_the_alphabet(void **state)
{
    (void)state;
    struct corpus_summary summary;
    struct error err = {0};
    struct corpus_options options = corpus_automatic;
    char out[64];
    static const char text[] = "ba\xC3\xA9\xF0\x9F\x98\x80"
                               "b";
    assert_true(summarise_corpus(&summary, "a.txt", text, sizeof text - 1, &options, &err));
    assert_int_equal(summary.alphabet, 4);
    size_t n = corpus_summary_alphabet(&summary, 9, out);
    assert_int_equal(n, 8);
    assert_memory_equal(out, "ab\xC3\xA9\xF0\x9F\x98\x80", 8);
    assert_int_equal(corpus_summary_alphabet(&summary, 3, out), 4);
    corpus_summary_close(&summary);
    options.bytes = true; /* a byte is shown as the character with its value */
    assert_true(summarise_corpus(&summary, "a.txt", "\xE9z", 2, &options, &err));
    n = corpus_summary_alphabet(&summary, 9, out);
    assert_int_equal(n, 3);
    assert_memory_equal(out, "z\xC3\xA9", 3);
    corpus_summary_close(&summary);
}

/* The summary counts blocks of 4 MiB. A character across their border counts once. */
static void test_corpus_summary_counts_across_blocks(void **state)
{
    (void)state;
    const size_t block = (size_t)4 << 20, n = 2 * block + 7;
    char *text = malloc(n);
    assert_non_null(text);
    memset(text, 'a', n);
    memcpy(text + block - 1, "\xF0\x9F\x98\x80", 4);
    memcpy(text + n - 2, "\xC3\xA9", 2);
    struct corpus corpus = load_corpus_bytes("a.txt", text, n, corpus_automatic);
    assert_int_equal(corpus.characters, n - 4);
    corpus_close(&corpus);
    free(text);
}

static void test_corpus_summary_does_not_copy_huge_records(void **state)
{
    (void)state;
    struct corpus_summary summary;
    struct error err = {0};
    const size_t n = CORPUS_MAX_RECORD + 64;
    char *text = malloc(n + 1);
    assert_non_null(text);
    memset(text, 'a', n);
    assert_false(summarise_corpus(&summary, "a.jsonl", text, n, &corpus_automatic, &err));
    assert_non_null(strstr(err.message, "a.jsonl:1: the line has"));
    corpus_summary_close(&summary);
    memcpy(text, "x,\"a\"\"", 7);
    text[n - 1] = '"';
    const struct corpus_options options = {.format = CORPUS_CSV, .columns = "2", .csv_header = -1};
    error_clear(&err);
    assert_false(summarise_corpus(&summary, "a.csv", text, n, &options, &err));
    assert_int_equal(err.code, ERROR_INVALID);
    assert_non_null(strstr(err.message, "a.csv:1: a document has"));
    corpus_summary_close(&summary);
    free(text);
}

static bool summarise_source(void *context, struct error *err)
{
    static const struct corpus_options options = {
        .format = CORPUS_CSV, .columns = "2,3", .label_column = "1", .csv_header = 0};
    struct corpus_summary summary;
    const bool done = corpus_summarise(&summary, "a", context, &options, err);
    corpus_summary_close(&summary);
    return done;
}

static void test_corpus_summary_survives_every_failing_allocation(void **state)
{
    (void)state;
    char *directory = temp_dir_new();
    const char *path = in_dir(directory, "a.csv");
    write_text(path, "x,\"a\"\"b\",c\ny,d,e\nx,f,g\n");
    assert_survives_failing_allocations(summarise_source, (void *)(uintptr_t)path);
    temp_dir_remove(directory);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_corpus_summary_lists_the_alphabet),
        cmocka_unit_test(test_corpus_summary_counts_across_blocks),
        cmocka_unit_test(test_corpus_summary_does_not_copy_huge_records),
        cmocka_unit_test(test_corpus_summary_survives_every_failing_allocation),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
