#include "model/text/corpus.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/utf8.h"
#include "tests/unit/support.h"

/* ---- helpers ---- */

static const struct corpus_options automatic = {.csv_header = -1};

/* Distinct characters (bytes) and labels of a corpus, counted the slow way. */
static uint32_t count_alphabet(const struct corpus *corpus, bool bytes)
{
    unsigned char *seen = calloc(1, 0x110000);
    uint32_t count = 0, c = 0;
    assert_non_null(seen);
    for (size_t i = 0; i < corpus->count; i++) {
        const struct document *d = &corpus->documents[i];
        for (size_t at = 0; at < d->n;) {
            c = (unsigned char)d->text[at];
            at += bytes ? 1 : utf8_decode(d->text + at, d->n - at, &c);
            count += !seen[c];
            seen[c] = 1;
        }
    }
    free(seen);
    return count;
}

static uint32_t count_labels(const struct corpus *corpus)
{
    uint32_t count = 0;
    for (size_t i = 0; i < corpus->count; i++) {
        const char *label = corpus->documents[i].label;
        size_t before = 0; /* equal labels are one pointer */
        while (before < i && corpus->documents[before].label != label) before++;
        count += label && before == i;
    }
    return count;
}

static bool summarise(struct corpus_summary *summary, const char *name, const char *text, size_t n,
                      const struct corpus_options *options, struct error *err)
{
    char *directory = temp_dir_new();
    const char *path = in_dir(directory, "data");
    write_file(path, text, n);
    const bool done = corpus_summarise(summary, name, path, options, err);
    temp_dir_remove(directory);
    return done;
}

/* What is kept and what is only looked at are the same. */
static void assert_summary(const struct corpus *corpus, const char *name, const char *text, size_t n,
                           const struct corpus_options *options)
{
    struct corpus_summary summary;
    struct error err = {0};
    if (!summarise(&summary, name, text, n, options, &err)) fail_msg("%s", err.message);
    assert_int_equal(summary.documents, corpus->count);
    assert_int_equal(summary.bytes, corpus->bytes);
    assert_int_equal(summary.characters, corpus->characters);
    assert_int_equal(summary.labels, count_labels(corpus));
    assert_int_equal(summary.alphabet, count_alphabet(corpus, options->bytes));
    corpus_summary_close(&summary);
}

static struct corpus load_bytes(const char *name, const char *text, size_t n, struct corpus_options options)
{
    struct corpus corpus;
    struct error err = {0};
    if (!corpus_load_memory(&corpus, name, text, n, &options, &err)) fail_msg("%s", err.message);
    assert_string_equal(err.message, "");
    assert_summary(&corpus, name, text, n, &options);
    return corpus;
}

static struct corpus load(const char *name, const char *text, struct corpus_options options)
{
    return load_bytes(name, text, strlen(text), options);
}

static void assert_document(const struct corpus *corpus, size_t i, const char *text, const char *label)
{
    assert_true(i < corpus->count);
    const struct document *document = &corpus->documents[i];
    assert_int_equal(document->n, strlen(text));
    assert_memory_equal(document->text, text, document->n);
    if (label)
        assert_string_equal(document->label, label);
    else
        assert_null(document->label);
}

/* Loads and compares the documents joined by "|"; labels stand before "=". */
static void assert_loads(const char *name, const char *text, struct corpus_options options, const char *expected)
{
    struct corpus corpus = load(name, text, options);
    char all[1024] = "";
    size_t used = 0;
    for (size_t i = 0; i < corpus.count; i++) {
        const struct document *d = &corpus.documents[i];
        used += (size_t)snprintf(all + used, sizeof all - used, "%s%s%s%.*s", i ? "|" : "", d->label ? d->label : "",
                                 d->label ? "=" : "", (int)d->n, d->text);
    }
    assert_string_equal(all, expected);
    corpus_close(&corpus);
}

static void assert_refused(const char *name, const char *text, size_t n, struct corpus_options options,
                           const char *expected)
{
    struct corpus corpus;
    struct error err = {0};
    assert_false(corpus_load_memory(&corpus, name, text, n, &options, &err));
    assert_int_equal(err.code, ERROR_INVALID);
    assert_string_equal(err.message, expected);
    corpus_close(&corpus);
    if (!options.bytes && (utf8_valid_prefix(text, n) < n || memchr(text, 0, n)))
        return; /* whoever summarises has looked */
    struct corpus_summary summary;
    error_clear(&err);
    assert_false(summarise(&summary, name, text, n, &options, &err));
    assert_string_equal(err.message, expected);
    corpus_summary_close(&summary);
}

static struct corpus_options lines(void)
{
    struct corpus_options options = automatic;
    options.format = CORPUS_LINES;
    return options;
}

static struct corpus_options csv(const char *columns, const char *label)
{
    struct corpus_options options = automatic;
    options.columns = columns;
    options.label_column = label;
    return options;
}

static struct corpus_options jsonl(const char *field, const char *label)
{
    struct corpus_options options = automatic;
    options.field = field;
    options.label_column = label;
    return options;
}

/* ---- formats ---- */

static void test_corpus_formats_have_names(void **state)
{
    (void)state;
    static const char *const names[] = {"auto", "text", "lines", "csv", "jsonl", "tsv"};
    enum corpus_format format;
    for (size_t i = 0; i < 5; i++) {
        assert_true(corpus_format_parse(names[i], &format));
        assert_int_equal(format, i);
    }
    assert_false(corpus_format_parse("parquet", &format));
}

static void test_corpus_format_follows_the_ending(void **state)
{
    (void)state;
    assert_loads("a.CSV", "x,y\n", csv("2", NULL), "y");
    assert_loads("a.jsonl", "{\"text\": \"x\"}", automatic, "x");
    assert_loads("a.ndjson", "{\"text\": \"x\"}", automatic, "x");
    assert_loads("a.txt", "x\ny\n", automatic, "x\ny\n");
    assert_loads("csv", "x\ny\n", automatic, "x\ny\n");
}

static void test_corpus_text_is_one_stream_kept_as_it_is(void **state)
{
    (void)state;
    static const char text[] = "é one\r\n\ntwo\n";
    struct corpus corpus = load("a.txt", text, automatic);
    assert_true(corpus.one_stream);
    assert_int_equal(corpus.count, 1);
    assert_document(&corpus, 0, text, NULL);
    assert_ptr_equal(corpus.documents[0].text, text); /* borrowed, not copied */
    assert_int_equal(corpus.bytes, strlen(text));
    assert_int_equal(corpus.characters, strlen(text) - 1);
    corpus_close(&corpus);
}

static void test_corpus_lines_are_documents(void **state)
{
    (void)state;
    assert_loads("a.txt", "one\r\n\n\r\n two \nthree", lines(), "one| two |three");
    struct corpus corpus = load("a.txt", "é\nab\n", lines());
    assert_false(corpus.one_stream);
    assert_int_equal(corpus.bytes, 4);
    assert_int_equal(corpus.characters, 3);
    corpus_close(&corpus);
}

static void test_corpus_skips_a_byte_order_mark(void **state)
{
    (void)state;
    assert_loads("a.txt", "\xEF\xBB\xBFone\ntwo", lines(), "one|two");
    assert_loads("a.csv", "\xEF\xBB\xBFtitle\none", csv("title", NULL), "one");
    struct corpus_options options = lines();
    options.bytes = true;
    assert_loads("a.txt", "\xEF\xBB\xBFone", options, "\xEF\xBB\xBFone");
}

static void test_corpus_nul_characters_are_refused_with_advice(void **state)
{
    (void)state;
    assert_refused(
        "a.txt", "a\nb\0c\n", 6, lines(),
        "a.txt:2: a NUL character at byte offset 3: text has none: tr -d '\\000' takes them out; --bytes reads "
        "it as bytes");
    assert_refused("a.txt", "a\0b\0c\0\n\0", 8, automatic,
                   "a.txt:1: a NUL character at byte offset 1: the file looks like UTF-16: iconv -f UTF-16LE -t UTF-8 "
                   "converts it; --bytes reads it as bytes");
    assert_refused("a.txt", "\0a\0b\0\n\0c", 8, automatic,
                   "a.txt:1: a NUL character at byte offset 0: the file looks like UTF-16: iconv -f UTF-16BE -t UTF-8 "
                   "converts it; --bytes reads it as bytes");
    struct corpus_options bytes = automatic;
    bytes.bytes = true;
    struct corpus corpus = load_bytes("a.txt", "a\0b", 3, bytes);
    assert_int_equal(corpus.bytes, 3);
    corpus_close(&corpus);
    corpus = load("a.jsonl", "{\"text\":\"a\\u0000b\"}", automatic);
    assert_int_equal(corpus.documents[0].n, 3);
    assert_memory_equal(corpus.documents[0].text, "a\0b", 3);
    corpus_close(&corpus);
}

static void test_corpus_empty_is_refused(void **state)
{
    (void)state;
    assert_refused("a.txt", "", 0, automatic, "a.txt: the corpus has no text");
    assert_refused("a.txt", "\xEF\xBB\xBF", 3, automatic, "a.txt: the corpus has no text");
    assert_refused("a.txt", "\n\r\n", 3, lines(), "a.txt: the corpus has no text");
    assert_refused("a.csv", "", 0, csv("1", NULL), "a.csv: the corpus has no text");
    assert_refused("a.csv", "title\n", 6, csv("title", NULL), "a.csv: the corpus has no text");
    assert_refused("a.jsonl", "\n \n", 3, jsonl(NULL, "label"), "a.jsonl: the corpus has no text");
    struct corpus corpus;
    struct error err = {0};
    assert_false(corpus_load_memory(&corpus, "a.txt", NULL, 0, &automatic, &err));
    corpus_close(&corpus);
}

static void test_corpus_invalid_utf8_names_line_offset_and_bytes(void **state)
{
    (void)state;
    static const char latin[] = "caf\xc3\xa9\ncaf\xe9 x\n";
    assert_refused("a.txt", latin, sizeof latin - 1, lines(),
                   "a.txt:2: not UTF-8 at byte offset 9 (bytes e9 20 78 0a): convert the file (iconv -f CP1252 -t "
                   "UTF-8, if it comes from Windows), or read it as bytes "
                   "(--bytes)");
    static const char marked[] = "\xEF\xBB\xBF\n\xff";
    assert_refused("a.csv", marked, sizeof marked - 1, csv("1", NULL),
                   "a.csv:2: not UTF-8 at byte offset 4 (bytes ff): convert the file (iconv -f CP1252 -t UTF-8, if it "
                   "comes from Windows), or read it as bytes (--bytes)");
    assert_refused("a.txt", "ab\xe4\xb8", 4, automatic,
                   "a.txt:1: not UTF-8 at byte offset 2 (bytes e4 b8): convert the file (iconv -f CP1252 -t UTF-8, if "
                   "it comes from Windows), or read it as bytes "
                   "(--bytes)");
}

static void test_corpus_byte_mode_takes_anything(void **state)
{
    (void)state;
    struct corpus_options options = lines();
    options.bytes = true;
    struct corpus corpus = load("a.txt", "\xff\xe9\nb", options);
    assert_int_equal(corpus.count, 2);
    assert_int_equal(corpus.characters, 3);
    assert_document(&corpus, 0, "\xff\xe9", NULL);
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
        struct corpus_options options = cases[i].format == CORPUS_CSV ? csv("1", NULL) : automatic;
        options.format = cases[i].format;
        struct corpus corpus = load_bytes(cases[i].name, text, total, options);
        assert_int_equal(corpus.count, 2);
        assert_int_equal(corpus.documents[0].n, n);
        assert_int_equal(corpus.documents[0].text[n - 1], 'a' + (n - 1) % 26);
        assert_document(&corpus, 1, "end", NULL);
        corpus_close(&corpus);
        free(text);
    }
}

/* ---- csv ---- */

static const char table[] = "label,title,description\n"
                            "1,Cats,\"They say \"\"meow\"\"\"\n"
                            "2,\"Dogs, big\",\"Woof\nwoof\"\n"
                            ",Birds,\n"
                            "2,,\n";

static void test_corpus_csv_chooses_columns_by_name(void **state)
{
    (void)state;
    assert_loads("a.csv", table, csv("title", NULL), "Cats|Dogs, big|Birds");
    assert_loads("a.csv", table, csv("description", "label"), "1=They say \"meow\"|2=Woof\nwoof");
    assert_loads("a.csv", table, csv("title,description", "label"),
                 "1=Cats\nThey say \"meow\"|2=Dogs, big\nWoof\nwoof|Birds\n");
    assert_loads("a.csv", table, csv(" description , title", NULL),
                 "They say \"meow\"\nCats|Woof\nwoof\nDogs, big|\nBirds");
}

static void test_corpus_csv_chooses_columns_by_number(void **state)
{
    (void)state;
    assert_loads("a.csv", "1,Cats,Meow\n2,Dogs,Woof\n", csv("2", "1"), "1=Cats|2=Dogs");
    assert_loads("a.csv", "1,Cats,Meow\n2,Dogs,Woof\n", csv("3,2", NULL), "Meow\nCats|Woof\nDogs");
}

static void test_corpus_csv_header_can_be_forced(void **state)
{
    (void)state;
    struct corpus_options options = csv("2", NULL);
    options.csv_header = 1;
    assert_loads("a.csv", "a,b\nc,d\n", options, "d");
    options = csv("title", NULL);
    options.csv_header = 0;
    assert_refused("a.csv", "title\nx\n", 8, options, "a.csv: without a header, columns are chosen by number");
}

static void test_corpus_csv_mixes_names_and_numbers(void **state)
{
    (void)state;
    assert_loads("a.csv", table, csv("title", "1"), "1=Cats|2=Dogs, big|Birds");
}

static void test_corpus_csv_keeps_each_label_once(void **state)
{
    (void)state;
    struct corpus corpus = load("a.csv", "x,\"l\"\ny,l\nz,\"m\"\"\"\n", csv("1", "2"));
    assert_ptr_equal(corpus.documents[0].label, corpus.documents[1].label);
    assert_string_equal(corpus.documents[2].label, "m\"");
    corpus_close(&corpus);
}

static void test_corpus_csv_lists_the_columns_there_are(void **state)
{
    (void)state;
    assert_refused("a.csv", table, sizeof table - 1, csv("headline", NULL),
                   "a.csv:1: no column is named \"headline\"; the columns are \"label\", \"title\", \"description\"");
    assert_refused("a.csv", table, sizeof table - 1, csv("title", "class"),
                   "a.csv:1: no column is named \"class\"; the columns are \"label\", \"title\", \"description\"");
    assert_refused("a.csv", table, sizeof table - 1, automatic,
                   "a.csv: choose the columns of the text by name or number; the first row is \"label\", \"title\", "
                   "\"description\"");
}

static void test_corpus_csv_short_row_names_line_and_columns(void **state)
{
    (void)state;
    assert_refused("a.csv", "a,b,c\n\"x\ny\",z,1\nd,e\n", 20, csv("3", NULL),
                   "a.csv:4: the row has 2 columns, and column 3 is wanted");
    assert_refused("a.csv", "a\n", 2, csv("1", "2"), "a.csv:1: the row has 1 column, and column 2 is wanted");
}

static void test_corpus_csv_refuses_senseless_columns(void **state)
{
    (void)state;
    assert_refused("a.csv", "a,b\n", 4, csv("1,1", NULL), "a.csv: column \"1\" is chosen twice");
    assert_refused("a.csv", "a,b\nc,d", 7, csv("a", "1"), "a.csv: column \"1\" is chosen twice");
    assert_refused("a.csv", "a,b\n", 4, csv("1,,2", NULL), "a column has no name");
    assert_refused("a.csv", "a,b\n", 4, csv("", NULL), "a column has no name");
    assert_refused("a.csv", "a,b\n", 4, csv("0", NULL),
                   "a.csv:1: no column is named \"0\"; the columns are \"a\", \"b\"");
    const char *many = "1,2,3,4,5,6,7,8,9,10,11,12,13,14,15,16,17";
    assert_refused("a.csv", "a,b\n", 4, csv(many, NULL),
                   "more than 16 columns: 1,2,3,4,5,6,7,8,9,10,11,12,13,14,15,16,17");
}

static void test_corpus_csv_unclosed_quote_names_its_line(void **state)
{
    (void)state;
    static const char text[] = "1,\"fine\"\n2,\"not closed\n3,x\n";
    assert_refused("a.csv", text, sizeof text - 1, csv("2", NULL),
                   "a.csv:2: the quote that opens field 2 is never closed");
}

static void test_corpus_labels_are_utf8_without_nul(void **state)
{
    (void)state;
    const char *text = "{\"text\":\"x\",\"l\":\"a\\u0000\"}";
    assert_refused("a.jsonl", text, strlen(text), jsonl(NULL, "l"), "a.jsonl:1: a label contains U+0000");
    struct corpus_options bytes = csv("1", "2");
    bytes.bytes = true;
    assert_refused("a.csv", "x,y\nx,a\0b\n", 10, bytes, "a.csv:2: a label contains U+0000");
    assert_refused("a.csv", "\xff,\xff\n", 4, bytes, "a.csv:1: a label is not UTF-8");
}

/* ---- jsonl ---- */

static void test_corpus_jsonl_reads_a_field_and_a_label(void **state)
{
    (void)state;
    assert_loads("a.jsonl", "{\"text\": \"a\\nb\", \"n\": [1]}\r\n\n  \n{\"text\": \"\"}\n{\"text\": \"\\u00e9\"}",
                 automatic, "a\nb|é");
    assert_loads("a.jsonl",
                 "{\"t\":\"x\",\"l\":\"one\"}\n{\"t\":\"y\",\"l\":-7}\n{\"t\":\"z\"}\n{\"t\":\"w\",\"l\":null}",
                 jsonl("t", "l"), "one=x|-7=y|z|w");
}

static void test_corpus_jsonl_errors_name_the_line(void **state)
{
    (void)state;
    static const struct {
        const char *text, *says;
    } cases[] = {
        {"{\"text\":\"x\"}\n{\"text\":}", "a.jsonl:2: not JSON: unexpected token near '}' (column 9)"},
        {"{\"text\":\"x\"} x", "a.jsonl:1: not JSON: end of file expected near 'x' (column 14)"},
        {"{\"text\":\"x\"", "a.jsonl:1: not JSON: '}' expected near end of file (column 11)"},
        {"{\"text\":\"x\"}\n[]", "a.jsonl:2: not a JSON object"},
        {"7", "a.jsonl:1: not a JSON object"},
        {"{\"body\":\"x\",\"id\":1}", "a.jsonl:1: no field \"text\"; the fields are \"body\", \"id\""},
        {"{}", "a.jsonl:1: no field \"text\"; the fields are none"},
        {"{\"text\":5}", "a.jsonl:1: field \"text\" is not a string"},
        {"{\"text\":null}", "a.jsonl:1: field \"text\" is not a string"},
        {"{\"text\":\"x\",\"l\":1.5}", "a.jsonl:1: field \"l\" is not a label: a string or an integer"},
        {"{\"text\":\"x\"}", "a.jsonl: no line has a label in a field \"l\""},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++)
        assert_refused("a.jsonl", cases[i].text, strlen(cases[i].text), jsonl(NULL, "l"), cases[i].says);
}

/* ---- files ---- */

static void test_corpus_loads_a_file(void **state)
{
    (void)state;
    char *directory = temp_dir_new();
    const char *path = in_dir(directory, "corpus.txt");
    struct corpus corpus;
    struct corpus_options options = lines();
    write_text(path, "one\ntwo\n");
    assert_true(corpus_load(&corpus, path, &options, NULL));
    assert_document(&corpus, 1, "two", NULL);
    corpus_close(&corpus);
    temp_dir_remove(directory);
}

static void assert_file_refused(const char *path, enum error_code code)
{
    struct corpus corpus;
    struct error err = {0};
    assert_false(corpus_load(&corpus, path, &automatic, &err));
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
        {"a.txt", "one\ntwo\n", automatic},
        {"a.txt", "1\n2\n3\n4\n5\n6\n7\n8\n9\na\nb\nc\nd\ne\nf\ng\nh\ni\nj\n", lines()},
        {"a.csv", table, csv("title,description", "label")},
        {"a.jsonl", "{\"text\":\"x\",\"l\":\"a\"}\n{\"text\":\"y\",\"l\":1}\n", jsonl(NULL, "l")},
    };
    for (size_t i = 0; i < sizeof sources / sizeof *sources; i++)
        assert_survives_failing_allocations(load_source, &sources[i]);
}

/* The path of a shared data file, or NULL (said aloud) where it is not there. */
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
    struct corpus_options options = csv("2", "1");
    if (!corpus_load(&corpus, path, &options, &err)) fail_msg("%s", err.message);
    assert_int_equal(corpus.count, 7600);
    assert_document(&corpus, 0, "Fears for T N pension after talks", "3");
    size_t titles = corpus.bytes, labels[5] = {0};
    for (size_t i = 0; i < corpus.count; i++) labels[corpus.documents[i].label[0] - '0']++;
    for (size_t i = 1; i <= 4; i++) assert_int_equal(labels[i], 1900);
    corpus_close(&corpus);
    options = csv("2,3", NULL);
    if (!corpus_load(&corpus, path, &options, &err)) fail_msg("%s", err.message);
    assert_int_equal(corpus.count, 7600);
    assert_true(corpus.bytes > 3 * titles);
    assert_memory_equal(corpus.documents[0].text, "Fears for T N pension after talks\nUnions representing", 53);
    assert_null(corpus.documents[0].label);
    corpus_close(&corpus);
}

static void test_corpus_summary_lists_the_alphabet(void **state)
{
    (void)state;
    struct corpus_summary summary;
    struct error err = {0};
    struct corpus_options options = automatic;
    char out[64];
    static const char text[] = "ba\xC3\xA9\xF0\x9F\x98\x80"
                               "b";
    assert_true(summarise(&summary, "a.txt", text, sizeof text - 1, &options, &err));
    assert_int_equal(summary.alphabet, 4);
    size_t n = corpus_summary_alphabet(&summary, 9, out);
    assert_int_equal(n, 8);
    assert_memory_equal(out, "ab\xC3\xA9\xF0\x9F\x98\x80", 8);
    assert_int_equal(corpus_summary_alphabet(&summary, 3, out), 4);
    corpus_summary_close(&summary);
    options.bytes = true; /* a byte is shown as the character with its value */
    assert_true(summarise(&summary, "a.txt", "\xE9z", 2, &options, &err));
    n = corpus_summary_alphabet(&summary, 9, out);
    assert_int_equal(n, 3);
    assert_memory_equal(out, "z\xC3\xA9", 3);
    corpus_summary_close(&summary);
}

/* Blocks of 4 MiB are counted at a time: a character across their border is one. */
static void test_corpus_summary_counts_across_blocks(void **state)
{
    (void)state;
    const size_t block = (size_t)4 << 20, n = 2 * block + 7;
    char *text = malloc(n);
    assert_non_null(text);
    memset(text, 'a', n);
    memcpy(text + block - 1, "\xF0\x9F\x98\x80", 4);
    memcpy(text + n - 2, "\xC3\xA9", 2);
    struct corpus corpus = load_bytes("a.txt", text, n, automatic);
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
    assert_false(summarise(&summary, "a.jsonl", text, n, &automatic, &err));
    assert_non_null(strstr(err.message, "a.jsonl:1: the line has"));
    corpus_summary_close(&summary);
    memcpy(text, "x,\"a\"\"", 7);
    text[n - 1] = '"';
    const struct corpus_options options = {.format = CORPUS_CSV, .columns = "2", .csv_header = -1};
    error_clear(&err);
    assert_false(summarise(&summary, "a.csv", text, n, &options, &err));
    assert_int_equal(err.code, ERROR_INVALID);
    assert_non_null(strstr(err.message, "a.csv:1: a document has"));
    corpus_summary_close(&summary);
    free(text);
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

/* ---- other forms of the same ---- */

static void assert_says(const char *name, const char *text, struct corpus_options options, const char *expected)
{
    assert_refused(name, text, strlen(text), options, expected);
}

static void test_corpus_tables_may_be_separated_by_tabs(void **state)
{
    (void)state;
    const char *tabs = "id\ttitle\n1\tone, \"two\"\n2\t\"a \"\"b\"\"\tc\"\n";
    assert_loads("a.tsv", tabs, csv("title", NULL), "one, \"two\"|a \"b\"\tc");
    assert_loads("a.TAB.gz", tabs, csv("title", "id"), "1=one, \"two\"|2=a \"b\"\tc");
    assert_loads("a.csv", tabs, csv("title", NULL), "one, \"two\"|a \"b\"\tc");
    assert_loads("a.csv", "a\tb,c\nd,e\n", csv("2", NULL), "c|e"); /* a comma in the first row */
    assert_loads("a.tsv", "a\tb,c\nd\te\n", csv("2", NULL), "b,c|e");
}

static void test_corpus_lines_may_end_in_carriage_returns(void **state)
{
    (void)state;
    assert_loads("a.csv", "id,title\r1,one\r\r2,\"two\rlines\"\r", csv("title", NULL), "one|two\rlines");
    assert_loads("a.tsv", "1\tone\r2\ttwo", csv("2", NULL), "one|two");
    assert_loads("a.txt", "one\r\rtwo\r", lines(), "one|two");
    assert_loads("a.jsonl", "{\"text\":\"a\"}\r{\"text\":\"b\"}\r", automatic, "a|b");
    assert_loads("a.txt", "one\rtwo\nthree", lines(), "one\rtwo|three");
    assert_loads("a.txt", "one\rtwo", automatic, "one\rtwo"); /* a running text is as it is */
}

static void test_corpus_jsonl_reads_an_array(void **state)
{
    (void)state;
    assert_loads("a.json", " [ {\"text\": \"a]\"} ,\n{\"text\":\"b\",\"l\":\"x\"}\n]\n ", jsonl(NULL, "l"), "a]|x=b");
    assert_loads("a.jsonl", "[\"a\",\"\\u00e9, b\", \"\"]", automatic, "a|é, b");
    assert_says("a.json", "[]", automatic, "a.json: the corpus has no text");
    assert_says("a.json", "[\"a\"", automatic, "a.json:1: the JSON array is never closed");
    assert_says("a.json", "[", automatic, "a.json:1: the JSON array is never closed");
    assert_says("a.json", "[\"a\"\n\"b\"]", automatic, "a.json:2: the JSON array lacks a comma");
    assert_says("a.json", "[\"a\"]\n\n x", automatic, "a.json:3: the JSON array is followed by more text");
    assert_says("a.json", "[\"a\",\n7]", automatic, "a.json:2: the JSON array holds what is no object");
    assert_says("a.json", "[\"a\"]", jsonl("t", NULL), "a.json:1: the JSON array holds what is no object");
    assert_says("a.json", "[{\"b\":1}]", automatic, "a.json:1: no field \"text\"; the fields are \"b\"");
}

static void test_corpus_jsonl_joins_fields(void **state)
{
    (void)state;
    const char *text = "{\"p\":\"q\",\"c\":\"a\",\"p,c\":\"both\"}\n{\"p\":\"\",\"c\":\"\"}\n{\"c\":\"\",\"p\":\"x\"}";
    assert_loads("a.jsonl", text, jsonl("c,p", NULL), "a\nq|\nx");
    assert_loads("a.jsonl", "{\"p,c\":\"both\"}", jsonl("p,c", NULL), "both"); /* a field of that name */
    assert_says("a.jsonl", "{\"p\":\"\"}", jsonl("p,c", NULL), "a.jsonl:1: no field \"c\"; the fields are \"p\"");
    assert_says("a.jsonl", "{\"p\":1}", jsonl("p,c", NULL), "a.jsonl:1: field \"p\" is not a string");
}

static void test_corpus_format_is_seen_where_the_name_does_not_tell(void **state)
{
    (void)state;
    assert_loads("a", "{\"text\":\"x\"}\n{\"text\":\"y\"}", automatic, "x|y");
    assert_loads("dir.d/a", "[\"x\", \"y\"]", automatic, "x|y");
    assert_loads("a.txt", "[\"x\", \"y\"]", automatic, "[\"x\", \"y\"]");
    assert_loads("a", "[Chorus]\nla la", automatic, "[Chorus]\nla la");
    assert_loads("a", "{not json}\n", automatic, "{not json}\n");
    assert_loads("a", "[\"not json\n", automatic, "[\"not json\n");
    assert_says("a", "x y", jsonl("t", NULL), "a: field needs format jsonl, and this file is read as text");
    assert_says("a", "x y", csv("t", NULL), "a: columns needs format csv or tsv, and this file is read as text");
    assert_says("a.txt", "x y", jsonl(NULL, "l"),
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
    const struct corpus_options options = csv("none", NULL);
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
        cmocka_unit_test(test_corpus_csv_chooses_columns_by_name),
        cmocka_unit_test(test_corpus_csv_chooses_columns_by_number),
        cmocka_unit_test(test_corpus_csv_header_can_be_forced),
        cmocka_unit_test(test_corpus_csv_mixes_names_and_numbers),
        cmocka_unit_test(test_corpus_csv_keeps_each_label_once),
        cmocka_unit_test(test_corpus_csv_lists_the_columns_there_are),
        cmocka_unit_test(test_corpus_csv_short_row_names_line_and_columns),
        cmocka_unit_test(test_corpus_csv_refuses_senseless_columns),
        cmocka_unit_test(test_corpus_csv_unclosed_quote_names_its_line),
        cmocka_unit_test(test_corpus_labels_are_utf8_without_nul),
        cmocka_unit_test(test_corpus_jsonl_reads_a_field_and_a_label),
        cmocka_unit_test(test_corpus_jsonl_errors_name_the_line),
        cmocka_unit_test(test_corpus_tables_may_be_separated_by_tabs),
        cmocka_unit_test(test_corpus_lines_may_end_in_carriage_returns),
        cmocka_unit_test(test_corpus_jsonl_reads_an_array),
        cmocka_unit_test(test_corpus_jsonl_joins_fields),
        cmocka_unit_test(test_corpus_format_is_seen_where_the_name_does_not_tell),
        cmocka_unit_test(test_corpus_messages_list_no_more_than_a_few_names),
        cmocka_unit_test(test_corpus_loads_a_file),
        cmocka_unit_test(test_corpus_refuses_a_missing_and_an_empty_file),
        cmocka_unit_test(test_corpus_survives_every_failing_allocation),
        cmocka_unit_test(test_corpus_reads_ag_news),
        cmocka_unit_test(test_corpus_summary_lists_the_alphabet),
        cmocka_unit_test(test_corpus_summary_counts_across_blocks),
        cmocka_unit_test(test_corpus_summary_does_not_copy_huge_records),
        cmocka_unit_test(test_corpus_there_are_limits_to_labels),
        cmocka_unit_test(test_corpus_summary_survives_every_failing_allocation),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
