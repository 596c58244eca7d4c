#include "model/text/corpus.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "base/utf8.h"
#include "model/text/corpus_decode.h"
#include "model/text/corpus_internal.h"

#define ROOM_BLOCK ((size_t)1 << 20) /* bytes of copied text per block of the arena */
#define MAX_LABELS 100000
#define MAX_LABEL  4096 /* bytes */

const char *const corpus_format_choices[] = {
    [CORPUS_AUTO] = "auto",   [CORPUS_TEXT] = "text", [CORPUS_LINES] = "lines", [CORPUS_CSV] = "csv",
    [CORPUS_JSONL] = "jsonl", [CORPUS_TSV] = "tsv",   [CORPUS_TSV + 1] = NULL,
};

const char *corpus_format_name(enum corpus_format format)
{
    return corpus_format_choices[format];
}

bool corpus_format_parse(const char *name, enum corpus_format *format)
{
    for (size_t i = 0; corpus_format_choices[i]; i++) {
        if (strcmp(name, corpus_format_choices[i]) != 0) continue;
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

static uint64_t on_disk(uint64_t bytes)
{
    return bytes > SCRATCH_IN_MEMORY ? bytes : 0;
}

uint64_t corpus_disk_bytes(enum corpus_format format, uint64_t size, uint64_t documents, uint64_t tokens)
{
    const bool copied = format != CORPUS_TEXT && format != CORPUS_LINES;
    return on_disk(copied ? size : 0) + on_disk(documents * sizeof(struct document)) +
           on_disk(documents * sizeof(size_t)) + on_disk(tokens);
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

#define NAMES_SHOWN 8
#define NAME_BYTES  40

void corpus_names_add(struct corpus_names *names, const char *name, size_t n)
{
    char shown[NAME_BYTES + 1];
    const bool cut = n > NAME_BYTES;
    const size_t size = cut ? utf8_complete_prefix(name, NAME_BYTES) : n;
    const size_t room = sizeof names->text - names->used, needed = size + sizeof "\"\"..., and 99999999 more";
    if (names->left_out > 0 || needed >= room) {
        names->left_out++;
        return;
    }
    for (size_t i = 0; i < size; i++) shown[i] = (unsigned char)name[i] < ' ' || name[i] == 0x7F ? ' ' : name[i];
    names->used += (size_t)snprintf(names->text + names->used, room, "%s\"%.*s\"%s", names->used ? ", " : "", (int)size,
                                    shown, cut ? "..." : "");
}

const char *corpus_names_end(struct corpus_names *names)
{
    char *end = names->text + names->used;
    if (names->used == 0) snprintf(end, sizeof names->text - names->used, "none");
    if (names->left_out > 0) snprintf(end, sizeof names->text - names->used, " and %zu more", names->left_out);
    return names->text;
}

/* ---- text and lines ---- */

size_t corpus_line(const struct corpus_loader *loader, const char *at, const char **next)
{
    const char *end = loader->text + loader->n, *stop = memchr(at, loader->newline, (size_t)(end - at));
    size_t n = (size_t)((stop ? stop : end) - at);
    *next = stop ? stop + 1 : end;
    if (n && loader->newline == '\n' && at[n - 1] == '\r') n--;
    return n;
}

static bool read_lines(struct corpus_loader *loader, struct error *err)
{
    const char *at = loader->text, *end = at + loader->n, *next;
    for (; at < end; at = next) {
        loader->at = at;
        const size_t n = corpus_line(loader, at, &next);
        if (!corpus_add(loader, at, n, NULL, err)) return false;
    }
    return true;
}

/* The line ends of old Macintosh files, which spreadsheets still write. */
static char newline_of(const char *text, size_t n)
{
    return !memchr(text, '\n', n) && memchr(text, '\r', n) ? '\r' : '\n';
}

/* ---- loading ---- */

static bool has_ending(const char *name, size_t n, const char *ending)
{
    const size_t m = strlen(ending);
    return n > m && strncasecmp(name + n - m, ending, m) == 0;
}

/* A name with any other ending is that of a text. */
enum corpus_format corpus_format_guess(const char *name)
{
    static const struct {
        const char *ending;
        enum corpus_format format;
    } endings[] = {{".csv", CORPUS_CSV},     {".tsv", CORPUS_TSV},      {".tab", CORPUS_TSV},
                   {".jsonl", CORPUS_JSONL}, {".ndjson", CORPUS_JSONL}, {".json", CORPUS_JSONL}};
    const char *slash = strrchr(name, '/');
    if (slash) name = slash + 1;
    size_t n = strlen(name);
    if (has_ending(name, n, ".gz")) n -= 3;
    for (size_t i = 0; i < sizeof endings / sizeof *endings; i++)
        if (has_ending(name, n, endings[i].ending)) return endings[i].format;
    return n > 1 && memchr(name + 1, '.', n - 1) ? CORPUS_TEXT : CORPUS_AUTO;
}

const char *corpus_options_misfit(const struct corpus_options *options, enum corpus_format format, const char **needs)
{
    const bool table = format == CORPUS_CSV || format == CORPUS_TSV;
    const bool json = format == CORPUS_JSONL || format == CORPUS_AUTO;
    *needs = "csv or tsv";
    if (options->columns && !table) return "columns";
    if (options->csv_header == 1 && !table) return "csv_header";
    *needs = "jsonl";
    if (options->field && !json) return "field";
    *needs = "csv, tsv or jsonl";
    return options->label_column && !table && !json ? "label_column" : NULL;
}

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

static enum corpus_format format_of(const struct corpus_loader *loader)
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
        return read_lines(loader, err);
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

bool corpus_read(struct corpus_loader *loader, struct error *err)
{
    static const char mark[] = "\xEF\xBB\xBF";
    if (!loader->options->bytes && loader->n >= 3 && memcmp(loader->text, mark, 3) == 0) {
        loader->text += 3;
        loader->n -= 3;
    }
    loader->corpus->format = format_of(loader);
    loader->newline = loader->corpus->format == CORPUS_TEXT ? '\n' : newline_of(loader->text, loader->n);
    bool ok = check_options(loader, err) && read_format(loader, err);
    const size_t count = loader->summary ? loader->summary->documents : loader->corpus->count;
    if (ok && count == 0) ok = error_set(err, ERROR_INVALID, "%s: the corpus has no text", loader->name);
    if (loader->summary) {
        loader->summary->labels = (uint32_t)loader->label_names.count;
        loader->summary->format = loader->corpus->format;
    }
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

/* ---- decoding ---- */

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

/* *text and *n become what the file's bytes stand for. */
static bool decode(struct corpus *corpus, const char *name, const struct corpus_options *options, const char **text,
                   size_t *n, struct error *err)
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

static bool load_text(struct corpus *corpus, const char *name, const char *text, size_t n,
                      const struct corpus_options *options, struct error *err)
{
    corpus->stop = options->stop;
    corpus->directory = options->directory;
    if (!options->bytes) {
        const unsigned char *head = (const unsigned char *)text;
        if (!corpus_refuse_foreign(name, head, n, err)) return false;
        if (corpus_decode_wanted(head, n) && !decode(corpus, name, options, &text, &n, err)) return false;
    }
    struct corpus_loader loader = {.corpus = corpus, .options = options, .name = name, .text = text, .n = n};
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
    scratch_close(&corpus->decoded);
    file_map_close(&corpus->map);
    arena_free(&corpus->arena);
    *corpus = (struct corpus){0};
}
