/* Counting the documents of a corpus that is not kept. */
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

#include "base/utf8.h"
#include "model/text/corpus_internal.h"

#define CODE_POINTS   0x110000
#define RELEASE_BYTES ((size_t)4 << 20) /* pages are given back when so much has been read */

/* Gives back pages of the map that nobody reads again. */
static void release_pages(struct corpus_loader *loader, const char *before)
{
    const struct file_map *map = &loader->corpus->map;
    const size_t page = (size_t)sysconf(_SC_PAGESIZE);
    const size_t end = (size_t)(before - (const char *)map->data) / page * page;
    if (end < loader->released + RELEASE_BYTES) return;
    madvise((void *)(uintptr_t)(map->data + loader->released), end - loader->released, MADV_DONTNEED);
    loader->released = end;
}

static void count_bytes(struct corpus_summary *summary, const unsigned char *bytes, size_t n)
{
    for (size_t i = 0; i < n; i++) summary->seen[bytes[i] / 64] |= UINT64_C(1) << bytes[i] % 64;
    summary->characters += n;
}

/* text: whole characters. */
static void count_characters(struct corpus_summary *summary, const char *text, size_t n)
{
    for (size_t at = 0, length = 1; at < n && length > 0; at += length) {
        uint32_t c = (unsigned char)text[at];
        length = c < 0x80 ? 1 : utf8_decode(text + at, n - at, &c);
        summary->seen[c / 64] |= UINT64_C(1) << c % 64;
        summary->characters++;
    }
}

bool corpus_summary_open(struct corpus_summary *summary, struct error *err)
{
    *summary = (struct corpus_summary){.seen = calloc(CODE_POINTS / 64, sizeof *summary->seen)};
    return summary->seen || error_set_no_memory(err, CODE_POINTS / 8, "an alphabet");
}

void corpus_summary_add(struct corpus_loader *loader, const char *text, size_t n)
{
    struct corpus_summary *summary = loader->summary;
    const bool running = text == loader->at; /* the document begins where the reader is: give its pages back, too */
    summary->documents++;
    summary->bytes += n;
    for (size_t done = 0, part; done < n; done += part) {
        part = n - done < RELEASE_BYTES ? n - done : RELEASE_BYTES;
        if (loader->options->bytes) {
            count_bytes(summary, (const unsigned char *)text + done, part);
        } else {
            if (part < n - done) part = utf8_complete_prefix(text + done, part);
            count_characters(summary, text + done, part);
        }
        if (running) release_pages(loader, text + done);
    }
    if (!running) release_pages(loader, loader->at);
    loader->room = loader->block;
    loader->room_left = loader->block_size;
}

void corpus_summary_finish(const struct corpus_loader *loader)
{
    struct corpus_summary *summary = loader->summary;
    summary->labels = (uint32_t)loader->label_names.count;
    summary->format = loader->corpus->format;
    for (size_t i = 0; i < CODE_POINTS / 64; i++) summary->alphabet += (uint32_t)__builtin_popcountll(summary->seen[i]);
}

void corpus_summary_close(struct corpus_summary *summary)
{
    free(summary->seen);
    *summary = (struct corpus_summary){0};
}

size_t corpus_summary_alphabet(const struct corpus_summary *summary, size_t most, char *out)
{
    size_t n = 0;
    for (uint32_t c = 0; c < CODE_POINTS && most > 0; c++) {
        if (!(summary->seen[c / 64] >> c % 64 & 1)) continue;
        n += utf8_encode(c, out + n);
        most--;
    }
    return n;
}
