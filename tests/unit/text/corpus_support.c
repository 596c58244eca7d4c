#include "tests/unit/text/corpus_support.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/utf8.h"
#include "tests/unit/support.h"

const struct corpus_options corpus_automatic = {.csv_header = -1};

/* Counts distinct characters (bytes) and labels the slow way. */
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

bool summarise_corpus(struct corpus_summary *summary, const char *name, const char *text, size_t n,
                      const struct corpus_options *options, struct error *err)
{
    char *directory = temp_dir_new();
    const char *path = in_dir(directory, "data");
    write_file(path, text, n);
    const bool done = corpus_summarise(summary, name, path, options, err);
    temp_dir_remove(directory);
    return done;
}

/* Summarising a text says the same as loading it. */
static void assert_corpus_summary(const struct corpus *corpus, const char *name, const char *text, size_t n,
                                  const struct corpus_options *options)
{
    struct corpus_summary summary;
    struct error err = {0};
    if (!summarise_corpus(&summary, name, text, n, options, &err)) fail_msg("%s", err.message);
    assert_int_equal(summary.documents, corpus->count);
    assert_int_equal(summary.bytes, corpus->bytes);
    assert_int_equal(summary.characters, corpus->characters);
    assert_int_equal(summary.labels, count_labels(corpus));
    assert_int_equal(summary.alphabet, count_alphabet(corpus, options->bytes));
    corpus_summary_close(&summary);
}

struct corpus load_corpus_bytes(const char *name, const char *text, size_t n, struct corpus_options options)
{
    struct corpus corpus;
    struct error err = {0};
    if (!corpus_load_memory(&corpus, name, text, n, &options, &err)) fail_msg("%s", err.message);
    assert_string_equal(err.message, "");
    assert_corpus_summary(&corpus, name, text, n, &options);
    return corpus;
}

struct corpus load_corpus(const char *name, const char *text, struct corpus_options options)
{
    return load_corpus_bytes(name, text, strlen(text), options);
}

void assert_corpus_document(const struct corpus *corpus, size_t i, const char *text, const char *label)
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
void assert_corpus_loads(const char *name, const char *text, struct corpus_options options, const char *expected)
{
    struct corpus corpus = load_corpus(name, text, options);
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

void assert_corpus_bytes_refused(const char *name, const char *text, size_t n, struct corpus_options options,
                                 const char *expected)
{
    struct corpus corpus;
    struct error err = {0};
    assert_false(corpus_load_memory(&corpus, name, text, n, &options, &err));
    assert_int_equal(err.code, ERROR_INVALID);
    assert_string_equal(err.message, expected);
    corpus_close(&corpus);
    if (!options.bytes && (utf8_valid_prefix(text, n) < n || memchr(text, 0, n)))
        return; /* corpus_summarise() gets checked text only */
    struct corpus_summary summary;
    error_clear(&err);
    assert_false(summarise_corpus(&summary, name, text, n, &options, &err));
    assert_string_equal(err.message, expected);
    corpus_summary_close(&summary);
}

void assert_corpus_refused(const char *name, const char *text, struct corpus_options options, const char *expected)
{
    assert_corpus_bytes_refused(name, text, strlen(text), options, expected);
}

struct corpus_options corpus_lines_options(void)
{
    struct corpus_options options = corpus_automatic;
    options.format = CORPUS_LINES;
    return options;
}

struct corpus_options corpus_csv_options(const char *columns, const char *label)
{
    struct corpus_options options = corpus_automatic;
    options.columns = columns;
    options.label_column = label;
    return options;
}

struct corpus_options corpus_jsonl_options(const char *field, const char *label)
{
    struct corpus_options options = corpus_automatic;
    options.field = field;
    options.label_column = label;
    return options;
}

const char corpus_table[] = "label,title,description\n"
                            "1,Cats,\"They say \"\"meow\"\"\"\n"
                            "2,\"Dogs, big\",\"Woof\nwoof\"\n"
                            ",Birds,\n"
                            "2,,\n";
