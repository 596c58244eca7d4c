/* model/text/corpus.h: text and lines, files, labels, limits, messages. Other formats: test_corpus_*.c. */
#include "tests/unit/text/corpus_support.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/utf8.h"
#include "tests/unit/support.h"

/* ---- formats ---- */

static void test_corpus_formats_have_names(void **state)
{
    (void)state;
    static const char *const names[] = {"auto", "text", "lines", "csv", "jsonl", "tsv"};
    enum corpus_format format;
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        assert_true(corpus_format_parse(names[i], &format));
        assert_int_equal(format, i);
    }
    assert_false(corpus_format_parse("parquet", &format));
}

static void test_corpus_format_follows_the_ending(void **state)
{
    (void)state;
    assert_corpus_loads("a.CSV", "x,y\n", corpus_csv_options("2", NULL), "y");
    assert_corpus_loads("a.jsonl", "{\"text\": \"x\"}", corpus_automatic, "x");
    assert_corpus_loads("a.ndjson", "{\"text\": \"x\"}", corpus_automatic, "x");
    assert_corpus_loads("a.txt", "x\ny\n", corpus_automatic, "x\ny\n");
    assert_corpus_loads("csv", "x\ny\n", corpus_automatic, "x\ny\n");
}

static void test_corpus_text_is_one_stream_kept_as_it_is(void **state)
{
    (void)state;
    static const char text[] = "é one\r\n\ntwo\n";
    struct corpus corpus = load_corpus("a.txt", text, corpus_automatic);
    assert_true(corpus.one_stream);
    assert_int_equal(corpus.count, 1);
    assert_corpus_document(&corpus, 0, text, NULL);
    assert_ptr_equal(corpus.documents[0].text, text); /* borrowed, not copied */
    assert_int_equal(corpus.bytes, strlen(text));
    assert_int_equal(corpus.characters, strlen(text) - 1);
    corpus_close(&corpus);
}

static void test_corpus_lines_are_documents(void **state)
{
    (void)state;
    assert_corpus_loads("a.txt", "one\r\n\n\r\n two \nthree", corpus_lines_options(), "one| two |three");
    struct corpus corpus = load_corpus("a.txt", "é\nab\n", corpus_lines_options());
    assert_false(corpus.one_stream);
    assert_int_equal(corpus.bytes, 4);
    assert_int_equal(corpus.characters, 3);
    corpus_close(&corpus);
}

static void test_corpus_skips_a_byte_order_mark(void **state)
{
    (void)state;
    assert_corpus_loads("a.txt", "\xEF\xBB\xBFone\ntwo", corpus_lines_options(), "one|two");
    assert_corpus_loads("a.csv", "\xEF\xBB\xBFtitle\none", corpus_csv_options("title", NULL), "one");
    struct corpus_options options = corpus_lines_options();
    options.bytes = true;
    assert_corpus_loads("a.txt", "\xEF\xBB\xBFone", options, "\xEF\xBB\xBFone");
}

static void test_corpus_nul_characters_are_refused_with_advice(void **state)
{
    (void)state;
    assert_corpus_bytes_refused(
        "a.txt", "a\nb\0c\n", 6, corpus_lines_options(),
        "a.txt:2: a NUL character at byte offset 3: text has none: tr -d '\\000' takes them out; --bytes reads "
        "it as bytes");
    assert_corpus_bytes_refused(
        "a.txt", "a\0b\0c\0\n\0", 8, corpus_automatic,
        "a.txt:1: a NUL character at byte offset 1: the file looks like UTF-16: iconv -f UTF-16LE -t UTF-8 "
        "converts it; --bytes reads it as bytes");
    assert_corpus_bytes_refused(
        "a.txt", "\0a\0b\0\n\0c", 8, corpus_automatic,
        "a.txt:1: a NUL character at byte offset 0: the file looks like UTF-16: iconv -f UTF-16BE -t UTF-8 "
        "converts it; --bytes reads it as bytes");
    struct corpus_options bytes = corpus_automatic;
    bytes.bytes = true;
    struct corpus corpus = load_corpus_bytes("a.txt", "a\0b", 3, bytes);
    assert_int_equal(corpus.bytes, 3);
    corpus_close(&corpus);
    corpus = load_corpus("a.jsonl", "{\"text\":\"a\\u0000b\"}", corpus_automatic);
    assert_int_equal(corpus.documents[0].n, 3);
    assert_memory_equal(corpus.documents[0].text, "a\0b", 3);
    corpus_close(&corpus);
}

static void test_corpus_empty_is_refused(void **state)
{
    (void)state;
    assert_corpus_refused("a.txt", "", corpus_automatic, "a.txt: the corpus has no text");
    assert_corpus_refused("a.txt", "\xEF\xBB\xBF", corpus_automatic, "a.txt: the corpus has no text");
    assert_corpus_refused("a.txt", "\n\r\n", corpus_lines_options(), "a.txt: the corpus has no text");
    assert_corpus_refused("a.csv", "", corpus_csv_options("1", NULL), "a.csv: the corpus has no text");
    assert_corpus_refused("a.csv", "title\n", corpus_csv_options("title", NULL), "a.csv: the corpus has no text");
    assert_corpus_refused("a.jsonl", "\n \n", corpus_jsonl_options(NULL, "label"), "a.jsonl: the corpus has no text");
    struct corpus corpus;
    struct error err = {0};
    assert_false(corpus_load_memory(&corpus, "a.txt", NULL, 0, &corpus_automatic, &err));
    corpus_close(&corpus);
}

static void test_corpus_invalid_utf8_names_line_offset_and_bytes(void **state)
{
    (void)state;
    static const char latin[] = "caf\xc3\xa9\ncaf\xe9 x\n";
    assert_corpus_refused(
        "a.txt", latin, corpus_lines_options(),
        "a.txt:2: not UTF-8 at byte offset 9 (bytes e9 20 78 0a): convert the file (iconv -f CP1252 -t "
        "UTF-8, if it comes from Windows), or read it as bytes "
        "(--bytes)");
    static const char marked[] = "\xEF\xBB\xBF\n\xff";
    assert_corpus_refused(
        "a.csv", marked, corpus_csv_options("1", NULL),
        "a.csv:2: not UTF-8 at byte offset 4 (bytes ff): convert the file (iconv -f CP1252 -t UTF-8, if it "
        "comes from Windows), or read it as bytes (--bytes)");
    assert_corpus_refused(
        "a.txt", "ab\xe4\xb8", corpus_automatic,
        "a.txt:1: not UTF-8 at byte offset 2 (bytes e4 b8): convert the file (iconv -f CP1252 -t UTF-8, if "
        "it comes from Windows), or read it as bytes "
        "(--bytes)");
}

static void test_corpus_byte_mode_takes_anything(void **state)
{
    (void)state;
    struct corpus_options options = corpus_lines_options();
    options.bytes = true;
    struct corpus corpus = load_corpus("a.txt", "\xff\xe9\nb", options);
    assert_int_equal(corpus.count, 2);
    assert_int_equal(corpus.characters, 3);
    assert_corpus_document(&corpus, 0, "\xff\xe9", NULL);
    corpus_close(&corpus);
}

static char *long_text(const char *before, size_t n, const char *after, size_t *total)
{
    size_t a = strlen(before), b = strlen(after);
    char *text = malloc(a + n + b + 1);
    memcpy(text, before, a);
    for (size_t i = 0; i < n; i++) text[a + i] = (char)('a' + i % 26);
    memcpy(text + a + n, after, b + 1);
    *total = a + n + b;
    return text;
}

static void test_corpus_takes_a_line_of_ten_megabytes(void **state)
{
    (void)state;
    static const struct {
        const char *name, *before, *after;
        enum corpus_format format;
    } cases[] = {
        {"a.txt", "", "\nend\n", CORPUS_LINES},
        {"a.csv", "\"", "\"\nend\n", CORPUS_CSV},
        {"a.csv", "", "\nend\n", CORPUS_CSV},
        {"a.jsonl", "{\"text\": \"", "\"}\n{\"text\":\"end\"}\n", CORPUS_JSONL},
    };
    size_t n = 10u << 20;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        size_t total;
        char *text = long_text(cases[i].before, n, cases[i].after, &total);
        struct corpus_options options =
            cases[i].format == CORPUS_CSV ? corpus_csv_options("1", NULL) : corpus_automatic;
        options.format = cases[i].format;
        struct corpus corpus = load_corpus_bytes(cases[i].name, text, total, options);
        assert_int_equal(corpus.count, 2);
        assert_int_equal(corpus.documents[0].n, n);
        assert_int_equal(corpus.documents[0].text[n - 1], 'a' + (n - 1) % 26);
        assert_corpus_document(&corpus, 1, "end", NULL);
        corpus_close(&corpus);
        free(text);
    }
}

/* ---- csv ---- */

static void test_corpus_labels_are_utf8_without_nul(void **state)
{
    (void)state;
    const char *text = "{\"text\":\"x\",\"l\":\"a\\u0000\"}";
    assert_corpus_refused("a.jsonl", text, corpus_jsonl_options(NULL, "l"), "a.jsonl:1: a label contains U+0000");
    struct corpus_options bytes = corpus_csv_options("1", "2");
    bytes.bytes = true;
    assert_corpus_bytes_refused("a.csv", "x,y\nx,a\0b\n", 10, bytes, "a.csv:2: a label contains U+0000");
    assert_corpus_refused("a.csv", "\xff,\xff\n", bytes, "a.csv:1: a label is not UTF-8");
}

/* ---- files ---- */

static void test_corpus_loads_a_file(void **state)
{
    (void)state;
    char *directory = temp_dir_new();
    const char *path = in_dir(directory, "corpus.txt");
    struct corpus corpus;
    struct corpus_options options = corpus_lines_options();
    write_text(path, "one\ntwo\n");
    assert_true(corpus_load(&corpus, path, &options, NULL));
    assert_corpus_document(&corpus, 1, "two", NULL);
    corpus_close(&corpus);
    temp_dir_remove(directory);
}

static void assert_file_refused(const char *path, enum error_code code)
{
    struct corpus corpus;
    struct error err = {0};
    assert_false(corpus_load(&corpus, path, &corpus_automatic, &err));
    assert_int_equal(err.code, code);
    assert_memory_equal(err.message, path, strlen(path));
    corpus_close(&corpus);
}

static void test_corpus_refuses_a_missing_and_an_empty_file(void **state)
{
    (void)state;
    char *directory = temp_dir_new();
    const char *path = in_dir(directory, "corpus.txt");
    assert_file_refused(path, ERROR_NOT_FOUND);
    write_text(path, "");
    assert_file_refused(path, ERROR_INVALID);
    assert_file_refused(directory, ERROR_INVALID);
    temp_dir_remove(directory);
}

struct source {
    const char *name, *text;
    struct corpus_options options;
};

static bool load_source(void *context, struct error *err)
{
    const struct source *source = context;
    struct corpus corpus;
    bool ok = corpus_load_memory(&corpus, source->name, source->text, strlen(source->text), &source->options, err);
    corpus_close(&corpus);
    return ok;
}

static void test_corpus_survives_every_failing_allocation(void **state)
{
    (void)state;
    struct source sources[] = {
        {"a.txt", "one\ntwo\n", corpus_automatic},
        {"a.txt", "1\n2\n3\n4\n5\n6\n7\n8\n9\na\nb\nc\nd\ne\nf\ng\nh\ni\nj\n", corpus_lines_options()},
        {"a.csv", corpus_table, corpus_csv_options("title,description", "label")},
        {"a.jsonl", "{\"text\":\"x\",\"l\":\"a\"}\n{\"text\":\"y\",\"l\":1}\n", corpus_jsonl_options(NULL, "l")},
    };
    for (size_t i = 0; i < sizeof sources / sizeof *sources; i++)
        assert_survives_failing_allocations(load_source, &sources[i]);
}

/* Returns the path of a shared data file. If it is absent, returns NULL and writes a note to stderr. */
static const char *shared_file(const char *name, char *path, size_t size)
{
    const char *shared = getenv("LSTMD_SHARED");
    snprintf(path, size, "%s/data/%s", shared ? shared : "../shared", name);
    if (access(path, R_OK) == 0) return path;
    fprintf(stderr, "SKIPPED: %s is not there (set LSTMD_SHARED)\n", path);
    return NULL;
}

static void test_corpus_reads_ag_news(void **state)
{
    (void)state;
    char path[512];
    if (!shared_file("ag_news/ag_news.csv", path, sizeof path)) skip();
    struct corpus corpus;
    struct error err = {0};
    struct corpus_options options = corpus_csv_options("2", "1");
    if (!corpus_load(&corpus, path, &options, &err)) fail_msg("%s", err.message);
    assert_int_equal(corpus.count, 7600);
    assert_corpus_document(&corpus, 0, "Fears for T N pension after talks", "3");
    size_t titles = corpus.bytes, labels[5] = {0};
    for (size_t i = 0; i < corpus.count; i++) labels[corpus.documents[i].label[0] - '0']++;
    for (size_t i = 1; i <= 4; i++) assert_int_equal(labels[i], 1900);
    corpus_close(&corpus);
    options = corpus_csv_options("2,3", NULL);
    if (!corpus_load(&corpus, path, &options, &err)) fail_msg("%s", err.message);
    assert_int_equal(corpus.count, 7600);
    assert_true(corpus.bytes > 3 * titles);
    assert_memory_equal(corpus.documents[0].text, "Fears for T N pension after talks\nUnions representing", 53);
    assert_null(corpus.documents[0].label);
    corpus_close(&corpus);
}

static void test_corpus_there_are_limits_to_labels(void **state)
{
    (void)state;
    struct corpus corpus;
    struct error err = {0};
    const struct corpus_options options = {.format = CORPUS_CSV, .columns = "1", .label_column = "2", .csv_header = 0};
    char *text = malloc(2000000), *end = text;
    for (unsigned i = 0; i < 100001; i++) end += sprintf(end, "x,%u\n", i);
    assert_false(corpus_load_memory(&corpus, "a.csv", text, (size_t)(end - text), &options, &err));
    assert_string_equal(err.message, "a.csv:100001: there are more than 100000 labels");
    corpus_close(&corpus);
    memset(text, 'l', 5000);
    memcpy(text, "x,", 2);
    error_clear(&err);
    assert_true(corpus_load_memory(&corpus, "a.csv", text, 2 + 4096, &options, &err));
    corpus_close(&corpus);
    assert_false(corpus_load_memory(&corpus, "a.csv", text, 2 + 4097, &options, &err));
    assert_string_equal(err.message, "a.csv:1: a label has more than 4096 bytes");
    corpus_close(&corpus);
    free(text);
}

/* ---- other forms of the same ---- */

static void test_corpus_lines_may_end_in_carriage_returns(void **state)
{
    (void)state;
    assert_corpus_loads("a.csv", "id,title\r1,one\r\r2,\"two\rlines\"\r", corpus_csv_options("title", NULL),
                        "one|two\rlines");
    assert_corpus_loads("a.tsv", "1\tone\r2\ttwo", corpus_csv_options("2", NULL), "one|two");
    assert_corpus_loads("a.txt", "one\r\rtwo\r", corpus_lines_options(), "one|two");
    assert_corpus_loads("a.jsonl", "{\"text\":\"a\"}\r{\"text\":\"b\"}\r", corpus_automatic, "a|b");
    assert_corpus_loads("a.txt", "one\rtwo\nthree", corpus_lines_options(), "one\rtwo|three");
    assert_corpus_loads("a.txt", "one\rtwo", corpus_automatic, "one\rtwo"); /* a running text stays as it is */
}

static void test_corpus_format_is_seen_where_the_name_does_not_tell(void **state)
{
    (void)state;
    assert_corpus_loads("a", "{\"text\":\"x\"}\n{\"text\":\"y\"}", corpus_automatic, "x|y");
    assert_corpus_loads("dir.d/a", "[\"x\", \"y\"]", corpus_automatic, "x|y");
    assert_corpus_loads("a.txt", "[\"x\", \"y\"]", corpus_automatic, "[\"x\", \"y\"]");
    assert_corpus_loads("a", "[Chorus]\nla la", corpus_automatic, "[Chorus]\nla la");
    assert_corpus_loads("a", "{not json}\n", corpus_automatic, "{not json}\n");
    assert_corpus_loads("a", "[\"not json\n", corpus_automatic, "[\"not json\n");
    assert_corpus_refused("a", "x y", corpus_jsonl_options("t", NULL),
                          "a: field needs format jsonl, and this file is read as text");
    assert_corpus_refused("a", "x y", corpus_csv_options("t", NULL),
                          "a: columns needs format csv or tsv, and this file is read as text");
    assert_corpus_refused("a.txt", "x y", corpus_jsonl_options(NULL, "l"),
                          "a.txt: label_column needs format csv, tsv or jsonl, and this file is read as text");
}

static void test_corpus_messages_list_no_more_than_a_few_names(void **state)
{
    (void)state;
    char header[4000] = "caf\u00e9\u00e9\u00e9\u00e9\u00e9\u00e9\u00e9\u00e9\u00e9\u00e9\u00e9\u00e9\u00e9\u00e9\u00e9"
                        "\u00e9\u00e9\u00e9\u00e9\u00e9\u00e9,a\x01"
                        "b";
    struct error err = {0};
    struct corpus corpus;
    for (size_t i = strlen(header); i + 6 < sizeof header; i += 5) memcpy(header + i, ",name", 6);
    const struct corpus_options options = corpus_csv_options("none", NULL);
    assert_false(corpus_load_memory(&corpus, "a.csv", header, strlen(header), &options, &err));
    assert_true(strlen(err.message) < 450);
    assert_int_equal(utf8_valid_prefix(err.message, strlen(err.message)), strlen(err.message));
    assert_non_null(strstr(err.message, "\"...,"));
    assert_non_null(strstr(err.message, "\"a b\""));
    assert_non_null(strstr(err.message, " more"));
    corpus_close(&corpus);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_corpus_formats_have_names),
        cmocka_unit_test(test_corpus_format_follows_the_ending),
        cmocka_unit_test(test_corpus_text_is_one_stream_kept_as_it_is),
        cmocka_unit_test(test_corpus_lines_are_documents),
        cmocka_unit_test(test_corpus_skips_a_byte_order_mark),
        cmocka_unit_test(test_corpus_nul_characters_are_refused_with_advice),
        cmocka_unit_test(test_corpus_empty_is_refused),
        cmocka_unit_test(test_corpus_invalid_utf8_names_line_offset_and_bytes),
        cmocka_unit_test(test_corpus_byte_mode_takes_anything),
        cmocka_unit_test(test_corpus_takes_a_line_of_ten_megabytes),
        cmocka_unit_test(test_corpus_labels_are_utf8_without_nul),
        cmocka_unit_test(test_corpus_lines_may_end_in_carriage_returns),
        cmocka_unit_test(test_corpus_format_is_seen_where_the_name_does_not_tell),
        cmocka_unit_test(test_corpus_messages_list_no_more_than_a_few_names),
        cmocka_unit_test(test_corpus_loads_a_file),
        cmocka_unit_test(test_corpus_refuses_a_missing_and_an_empty_file),
        cmocka_unit_test(test_corpus_survives_every_failing_allocation),
        cmocka_unit_test(test_corpus_reads_ag_news),
        cmocka_unit_test(test_corpus_there_are_limits_to_labels),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
