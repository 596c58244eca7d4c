/* The documents of a corpus and the memory that they take. The readers of the formats call this; it calls none of them.
 */
#include "model/text/corpus.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/utf8.h"
#include "model/text/corpus_internal.h"

#define ROOM_BLOCK ((size_t)1 << 20) /* bytes of copied text per block of the arena */
#define MAX_LABELS 100000
#define MAX_LABEL  4096 /* bytes */

bool corpus_go_on(const struct corpus *corpus, struct error *err)
{
    return !corpus->stop || !atomic_load(corpus->stop) ||
           error_set(err, ERROR_CANCELLED, "reading the corpus was stopped");
}

/* ---- copied text and labels ---- */

char *corpus_room(struct corpus_loader *loader, size_t n, struct error *err)
{
    if (!loader->room || n > loader->room_left) {
        if (loader->summary && n > CORPUS_MAX_RECORD) {
            error_set(err, ERROR_INVALID, "a document has %zu bytes, at most %zu are allowed", n, CORPUS_MAX_RECORD);
            return NULL;
        }
        size_t size = n > ROOM_BLOCK ? n : ROOM_BLOCK;
        /* A summary forgets its text but not its blocks. They double, so there are few. */
        if (loader->summary && size < 2 * loader->block_size) size = 2 * loader->block_size;
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
    /* In byte mode, too: a label is a name in vocabulary.json and in requests. */
    if (utf8_valid_prefix(text, n) < n) return error_set(err, ERROR_INVALID, "a label is not UTF-8");
    if (n > MAX_LABEL) return error_set(err, ERROR_INVALID, "a label has more than %d bytes", MAX_LABEL);
    if (!string_table_insert(&loader->label_names, text, n, &index, &added, err)) return false;
    if (index >= MAX_LABELS) return error_set(err, ERROR_INVALID, "there are more than %d labels", MAX_LABELS);
    if (added && !keep_label(loader, index, text, n, err)) return false;
    *label = loader->labels[index];
    return true;
}

/* ---- documents ---- */

bool corpus_reserve(struct corpus *corpus, size_t count, struct error *err)
{
    const bool done = scratch_reserve_array(&corpus->list, count, sizeof *corpus->documents, corpus->directory,
                                            "the documents of a corpus", err);
    corpus->documents = corpus->list.data;
    return done;
}

static bool corpus_grow(struct corpus *corpus, struct error *err)
{
    if (corpus->count < corpus->list.size / sizeof *corpus->documents) return true;
    return corpus_reserve(corpus, corpus->count + corpus->count / 2 + 16, err);
}

/* A piece may end within a character. utf8_count() counts a character by its first byte. */
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
    if (loader->summary) {
        corpus_summary_add(loader, text, n);
        return true;
    }
    if (!corpus_grow(corpus, err)) return false;
    corpus->documents[corpus->count++] = (struct document){.text = text, .n = n, .label = label};
    corpus->bytes += n;
    if (!loader->options->bytes) return count_characters(corpus, text, n, err);
    corpus->characters += n;
    return true;
}

size_t corpus_count_added(const struct corpus_loader *loader)
{
    return loader->summary ? loader->summary->documents : loader->corpus->count;
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

/* ---- names in messages ---- */

#define NAME_BYTES 40 /* of a name, at most */

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
