#include "model/corpus.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "base/utf8.h"
#include "model/corpus_internal.h"

#define ROOM_BLOCK ((size_t)1 << 20) /* bytes of copied text per block of the arena */
#define MAX_LABELS 100000
#define MAX_LABEL  4096 /* bytes */

static const char *const format_names[] = {
    [CORPUS_AUTO] = "auto", [CORPUS_TEXT] = "text",   [CORPUS_LINES] = "lines",
    [CORPUS_CSV] = "csv",   [CORPUS_JSONL] = "jsonl",
};

const char *corpus_format_name(enum corpus_format format)
{
    return format_names[format];
}

bool corpus_format_parse(const char *name, enum corpus_format *format)
{
    for (size_t i = 0; i < sizeof format_names / sizeof *format_names; i++) {
        if (strcmp(name, format_names[i]) != 0) continue;
        *format = (enum corpus_format)i;
        return true;
    }
    return false;
}

bool corpus_go_on(const struct corpus *corpus, struct error *err)
{
    return !corpus->stop || !atomic_load(corpus->stop) ||
           error_set(err, ERROR_CANCELLED, "reading the corpus was stopped");
}

/* ---- what the formats share ---- */

char *corpus_room(struct corpus_loader *loader, size_t n, struct error *err)
{
    if (!loader->room || n > loader->room_left) {
        if (loader->summary && n > CORPUS_MAX_RECORD) {
            error_set(err, ERROR_INVALID, "a document has %zu bytes, at most %zu are allowed", n, CORPUS_MAX_RECORD);
            return NULL;
        }
        size_t size = n > ROOM_BLOCK ? n : ROOM_BLOCK;
        if (loader->summary && size < 2 * loader->block_size) size = 2 * loader->block_size; /* few blocks in all */
        loader->room_left = 0;
        loader->room = arena_alloc(&loader->corpus->arena, size, 1, "the text of a corpus", err);
        if (!loader->room) return NULL;
        loader->block = loader->room;
        loader->room_left = loader->block_size = size;
    }
    char *room = loader->room;
    loader->room += n;
    loader->room_left -= n;
    return room;
}

static bool keep_label(struct corpus_loader *loader, uint32_t index, const char *text, size_t n, struct error *err)
{
    if (index >= loader->label_capacity) {
        size_t capacity = 2 * loader->label_capacity + 16;
        const char **labels = realloc(loader->labels, capacity * sizeof *labels);
        if (!labels) return error_set_no_memory(err, capacity * sizeof *labels, "labels");
        loader->labels = labels;
        loader->label_capacity = capacity;
    }
    char *copy = arena_copy_text(&loader->corpus->arena, text, n, err);
    if (!copy) return false;
    loader->labels[index] = copy;
    return true;
}

bool corpus_label(struct corpus_loader *loader, const char *text, size_t n, const char **label, struct error *err)
{
    uint32_t index;
    bool added;
    *label = NULL;
    if (n == 0) return true;
    if (memchr(text, '\0', n)) return error_set(err, ERROR_INVALID, "a label contains U+0000");
    if (utf8_valid_prefix(text, n) < n) /* in byte mode too: it is a name, in vocabulary.json and in requests */
        return error_set(err, ERROR_INVALID, "a label is not UTF-8");
    if (n > MAX_LABEL) return error_set(err, ERROR_INVALID, "a label has more than %d bytes", MAX_LABEL);
    if (!string_table_insert(&loader->label_names, text, n, &index, &added, err)) return false;
    if (index >= MAX_LABELS) return error_set(err, ERROR_INVALID, "there are more than %d labels", MAX_LABELS);
    if (added && !keep_label(loader, index, text, n, err)) return false;
    *label = loader->labels[index];
    return true;
}

bool corpus_reserve(struct corpus *corpus, size_t count, struct error *err)
{
    const bool done = scratch_reserve_array(&corpus->list, count, sizeof *corpus->documents, corpus->directory,
                                            "the documents of a corpus", err);
    corpus->documents = corpus->list.data;
    return done;
}

static bool make_room(struct corpus *corpus, struct error *err)
{
    if (corpus->count < corpus->list.size / sizeof *corpus->documents) return true;
    return corpus_reserve(corpus, corpus->count + corpus->count / 2 + 16, err);
}

/* Of a document, whose pieces may end within a character: each is counted by its first byte. */
static bool count_characters(struct corpus *corpus, const char *text, size_t n, struct error *err)
{
    for (size_t size; n > 0; text += size, n -= size) {
        size = n < CORPUS_PIECE ? n : CORPUS_PIECE;
        corpus->characters += utf8_count(text, size);
        if (!corpus_go_on(corpus, err)) return false;
    }
    return true;
}

bool corpus_add(struct corpus_loader *loader, const char *text, size_t n, const char *label, struct error *err)
{
    struct corpus *corpus = loader->corpus;
    if (n == 0) return true;
    if (loader->summary) return corpus_summary_add(loader, text, n);
    if (!make_room(corpus, err)) return false;
    corpus->documents[corpus->count++] = (struct document){.text = text, .n = n, .label = label};
    corpus->bytes += n;
    if (!loader->options->bytes) return count_characters(corpus, text, n, err);
    corpus->characters += n;
    return true;
}

/* ---- text and lines ---- */

static bool read_lines(struct corpus_loader *loader, struct error *err)
{
    const char *at = loader->text, *end = at + loader->n;
    while (at < end) {
        loader->at = at;
        const char *newline = memchr(at, '\n', (size_t)(end - at));
        const char *stop = newline ? newline : end;
        size_t n = (size_t)(stop - at);
        if (n && at[n - 1] == '\r') n--;
        if (!corpus_add(loader, at, n, NULL, err)) return false;
        at = newline ? newline + 1 : end;
    }
    return true;
}

/* ---- loading ---- */

static bool has_ending(const char *name, const char *ending)
{
    size_t n = strlen(name), m = strlen(ending);
    return n >= m && strcasecmp(name + n - m, ending) == 0;
}

enum corpus_format corpus_format_guess(const char *name)
{
    if (has_ending(name, ".csv")) return CORPUS_CSV;
    if (has_ending(name, ".jsonl") || has_ending(name, ".ndjson")) return CORPUS_JSONL;
    return CORPUS_TEXT;
}

static bool report_invalid_utf8(const char *name, const char *text, size_t n, size_t offset, struct error *err)
{
    size_t line = 1;
    for (size_t i = 0; i < offset; i++) line += text[i] == '\n';
    char bytes[4 * 3 + 1] = "";
    for (size_t i = 0; i < 4 && offset + i < n; i++)
        snprintf(bytes + 3 * i, 4, " %02x", (unsigned)(unsigned char)text[offset + i]);
    return error_set(err, ERROR_INVALID,
                     "%s:%zu: not UTF-8 at byte offset %zu (bytes%s): convert the file, or read it as bytes (--bytes)",
                     name, line, offset, bytes);
}

static bool check_utf8(const struct corpus_loader *loader, struct error *err)
{
    for (size_t at = 0, size; at < loader->n; at += size) {
        const char *text = loader->text + at;
        size = loader->n - at;
        if (size > CORPUS_PIECE) size = utf8_complete_prefix(text, CORPUS_PIECE);
        const size_t valid = utf8_valid_prefix(text, size);
        if (valid < size) return report_invalid_utf8(loader->name, loader->text, loader->n, at + valid, err);
        if (!corpus_go_on(loader->corpus, err)) return false;
    }
    return true;
}

static enum corpus_format format_of(const struct corpus_loader *loader)
{
    const enum corpus_format format = loader->options->format;
    return format == CORPUS_AUTO ? corpus_format_guess(loader->name) : format;
}

static bool read_format(struct corpus_loader *loader, struct error *err)
{
    switch (format_of(loader)) {
    case CORPUS_LINES:
        return read_lines(loader, err);
    case CORPUS_CSV:
        return corpus_read_csv(loader, err);
    case CORPUS_JSONL:
        return corpus_read_jsonl(loader, err);
    default:
        loader->corpus->one_stream = true;
        loader->at = loader->text;
        return corpus_add(loader, loader->text, loader->n, NULL, err);
    }
}

bool corpus_read(struct corpus_loader *loader, struct error *err)
{
    static const char mark[] = "\xEF\xBB\xBF";
    if (!loader->options->bytes && loader->n >= 3 && memcmp(loader->text, mark, 3) == 0) {
        loader->text += 3;
        loader->n -= 3;
    }
    bool ok = read_format(loader, err);
    const size_t count = loader->summary ? loader->summary->documents : loader->corpus->count;
    if (ok && count == 0) ok = error_set(err, ERROR_INVALID, "%s: the corpus has no text", loader->name);
    if (loader->summary) loader->summary->labels = (uint32_t)loader->label_names.count;
    string_table_free(&loader->label_names);
    free(loader->labels);
    return ok;
}

/* One place on the disk for all texts that will have to be copied; none is longer than what it stands for. */
static bool open_copies(struct corpus_loader *loader, struct error *err)
{
    struct corpus *corpus = loader->corpus;
    const enum corpus_format format = format_of(loader);
    if (!corpus->directory || loader->n <= SCRATCH_IN_MEMORY || format == CORPUS_TEXT || format == CORPUS_LINES)
        return true;
    if (!scratch_reserve(&corpus->copies, loader->n, corpus->directory, "the text of a corpus", err)) return false;
    loader->room = corpus->copies.data;
    loader->room_left = corpus->copies.size;
    return true;
}

static bool load_text(struct corpus *corpus, const char *name, const char *text, size_t n,
                      const struct corpus_options *options, struct error *err)
{
    struct corpus_loader loader = {.corpus = corpus, .options = options, .name = name, .text = text, .n = n};
    corpus->stop = options->stop;
    corpus->directory = options->directory;
    return (options->bytes || check_utf8(&loader, err)) && open_copies(&loader, err) && corpus_read(&loader, err);
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

void corpus_close(struct corpus *corpus)
{
    scratch_close(&corpus->list);
    scratch_close(&corpus->copies);
    file_map_close(&corpus->map);
    arena_free(&corpus->arena);
    *corpus = (struct corpus){0};
}
