/* Loading a corpus: decode the file, check its text, choose the format, and call that format's reader. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/utf8.h"
#include "model/text/corpus_decode.h"
#include "model/text/corpus_internal.h"

/* ---- checking UTF-8 ---- */

static bool report_invalid_utf8(const char *name, const char *text, size_t n, size_t offset, struct error *err)
{
    size_t line = 1;
    for (size_t i = 0; i < offset; i++) line += text[i] == '\n';
    char bytes[4 * 3 + 1] = "";
    for (size_t i = 0; i < 4 && offset + i < n; i++)
        snprintf(bytes + 3 * i, 4, " %02x", (unsigned)(unsigned char)text[offset + i]);
    return error_set(err, ERROR_INVALID,
                     "%s:%zu: not UTF-8 at byte offset %zu (bytes%s): " CORPUS_CONVERT
                     ", or read it as bytes (--bytes)",
                     name, line, offset, bytes);
}

static bool report_nul(const struct corpus_loader *loader, size_t begin, size_t n, struct error *err)
{
    const char *text = loader->text + begin;
    const size_t offset = begin + (size_t)((const char *)memchr(text, '\0', n) - text);
    size_t line = 1;
    for (size_t i = 0; i < offset; i++) line += loader->text[i] == '\n';
    return error_set(err, ERROR_INVALID, "%s:%zu: a NUL character at byte offset %zu: %s; --bytes reads it as bytes",
                     loader->name, line, offset, corpus_nul_advice(text, n, begin));
}

static bool check_utf8(const struct corpus_loader *loader, struct error *err)
{
    for (size_t at = 0, size; at < loader->n; at += size) {
        const char *text = loader->text + at;
        size = loader->n - at;
        if (size > CORPUS_PIECE) size = utf8_complete_prefix(text, CORPUS_PIECE);
        const size_t valid = utf8_valid_prefix(text, size);
        if (valid < size) return report_invalid_utf8(loader->name, loader->text, loader->n, at + valid, err);
        if (memchr(text, '\0', size)) return report_nul(loader, at, size, err);
        if (!corpus_go_on(loader->corpus, err)) return false;
    }
    return true;
}

/* ---- the format ---- */

static enum corpus_format choose_format(const struct corpus_loader *loader)
{
    enum corpus_format format = loader->options->format;
    if (format == CORPUS_AUTO) format = corpus_format_guess(loader->name);
    if (format != CORPUS_AUTO) return format;
    return corpus_looks_like_json(loader->text, loader->n) ? CORPUS_JSONL : CORPUS_TEXT;
}

static bool check_options(const struct corpus_loader *loader, struct error *err)
{
    const char *needs, *key = corpus_options_misfit(loader->options, loader->corpus->format, &needs);
    return !key || error_set(err, ERROR_INVALID, "%s: %s needs format %s, and this file is read as %s", loader->name,
                             key, needs, corpus_format_name(loader->corpus->format));
}

static bool read_format(struct corpus_loader *loader, struct error *err)
{
    switch (loader->corpus->format) {
    case CORPUS_LINES:
        return corpus_read_lines(loader, err);
    case CORPUS_CSV:
    case CORPUS_TSV:
        return corpus_read_csv(loader, err);
    case CORPUS_JSONL:
        return corpus_read_jsonl(loader, err);
    default:
        loader->corpus->one_stream = true;
        loader->at = loader->text;
        return corpus_add(loader, loader->text, loader->n, NULL, err);
    }
}

/* Reads loader->text by its format. */
static bool read_corpus(struct corpus_loader *loader, struct error *err)
{
    static const char mark[] = "\xEF\xBB\xBF";
    if (!loader->options->bytes && loader->n >= 3 && memcmp(loader->text, mark, 3) == 0) {
        loader->text += 3;
        loader->n -= 3;
    }
    loader->corpus->format = choose_format(loader);
    loader->newline = loader->corpus->format == CORPUS_TEXT ? '\n' : corpus_newline(loader->text, loader->n);
    bool ok = check_options(loader, err) && read_format(loader, err);
    if (ok && corpus_count_added(loader) == 0)
        ok = error_set(err, ERROR_INVALID, "%s: the corpus has no text", loader->name);
    if (loader->summary) corpus_summary_finish(loader);
    string_table_free(&loader->label_names);
    free(loader->labels);
    return ok;
}

/* ---- loading ---- */

/* Reserves one place on the disk for all copies of texts. No copy is longer than its original. */
static bool open_copies(struct corpus_loader *loader, struct error *err)
{
    struct corpus *corpus = loader->corpus;
    const enum corpus_format format = choose_format(loader);
    if (!corpus->directory || loader->n <= SCRATCH_IN_MEMORY || format == CORPUS_TEXT || format == CORPUS_LINES)
        return true;
    if (!scratch_reserve(&corpus->copies, loader->n, corpus->directory, "the text of a corpus", err)) return false;
    loader->room = corpus->copies.data;
    loader->room_left = corpus->copies.size;
    return true;
}

#define DECODE_LEAST ((size_t)1 << 20) /* bytes */

struct decoding {
    struct corpus *corpus;
    const char *directory;
    size_t n;
};

static bool keep_decoded(void *context, const char *data, size_t n, struct error *err)
{
    struct decoding *decoding = context;
    struct scratch *decoded = &decoding->corpus->decoded;
    const size_t needed = decoding->n + n, wanted = needed + needed / 2 + DECODE_LEAST;
    if (needed > decoded->size && !scratch_reserve(decoded, wanted, decoding->directory, "a decoded file", err))
        return false;
    memcpy((char *)decoded->data + decoding->n, data, n);
    decoding->n = needed;
    return corpus_go_on(decoding->corpus, err);
}

/* *text and *n: the bytes of the file before, the decoded text after. */
static bool decode_file(struct corpus *corpus, const char *name, const struct corpus_options *options,
                        const char **text, size_t *n, struct error *err)
{
    struct decoding decoding = {.corpus = corpus, .directory = options->directory};
    const struct corpus_decoder_options how = {.name = name,
                                               .most = options->most_unpacked ? options->most_unpacked
                                                                              : CORPUS_MAX_UNPACKED,
                                               .write = keep_decoded,
                                               .context = &decoding};
    struct corpus_decoder *decoder = corpus_decoder_new(&how, err);
    const bool done = decoder && corpus_decoder_write(decoder, *text, *n, err) && corpus_decoder_end(decoder, err);
    corpus_decoder_free(decoder);
    *text = corpus->decoded.data ? corpus->decoded.data : "";
    *n = decoding.n;
    return done;
}

/* text: the bytes of the file. */
static bool load_text(struct corpus *corpus, const char *name, const char *text, size_t n,
                      const struct corpus_options *options, struct error *err)
{
    corpus->stop = options->stop;
    corpus->directory = options->directory;
    if (!options->bytes) {
        const unsigned char *head = (const unsigned char *)text;
        if (!corpus_refuse_foreign(name, head, n, err)) return false;
        if (corpus_decode_wanted(head, n) && !decode_file(corpus, name, options, &text, &n, err)) return false;
    }
    struct corpus_loader loader = {.corpus = corpus, .options = options, .name = name, .text = text, .n = n};
    return (options->bytes || check_utf8(&loader, err)) && open_copies(&loader, err) && read_corpus(&loader, err);
}

bool corpus_load_memory(struct corpus *corpus, const char *name, const char *text, size_t n,
                        const struct corpus_options *options, struct error *err)
{
    *corpus = (struct corpus){0};
    return load_text(corpus, name, n ? text : "", n, options, err);
}

bool corpus_load(struct corpus *corpus, const char *path, const struct corpus_options *options, struct error *err)
{
    *corpus = (struct corpus){0};
    if (!file_map_open(&corpus->map, path, err)) return false;
    const char *text = corpus->map.data ? (const char *)corpus->map.data : "";
    return load_text(corpus, options->name ? options->name : path, text, corpus->map.size, options, err);
}

/* ---- counting without keeping ---- */

bool corpus_summarise(struct corpus_summary *summary, const char *name, const char *path,
                      const struct corpus_options *options, struct error *err)
{
    struct corpus corpus = {0};
    if (!corpus_summary_open(summary, err)) return false;
    bool done = file_map_open(&corpus.map, path, err);
    if (done) {
        struct corpus_loader loader = {.corpus = &corpus, .options = options, .name = name, .summary = summary};
        loader.text = corpus.map.data ? (const char *)corpus.map.data : "";
        loader.n = corpus.map.size;
        done = read_corpus(&loader, err);
    }
    corpus_close(&corpus);
    return done;
}
