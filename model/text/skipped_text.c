#include "model/text/skipped_text.h"

#include <stdbool.h>
#include <stdio.h>
#include <string.h>

#include "base/utf8.h"

void skipped_text_name(const char *text, size_t n, char *out, size_t size)
{
    uint32_t code;
    const size_t first = utf8_decode(text, n, &code);
    if (first == 0) {
        snprintf(out, size, "byte 0x%02X", (unsigned char)text[0]);
    } else if (first < n) {
        const size_t shown = utf8_complete_prefix(text, n < 48 ? n : 48);
        snprintf(out, size, "\"%.*s\"%s", (int)shown, text, shown < n ? "..." : "");
    } else if (code < 0x20 || (code >= 0x7F && code < 0xA0)) {
        snprintf(out, size, "character U+%04X", (unsigned)code);
    } else {
        snprintf(out, size, "character '%.*s' (U+%04X)", (int)n, text, (unsigned)code);
    }
}

size_t skipped_text_wanted(const struct skipped_text *skipped)
{
    return SKIPPED_LOOKED_AT - skipped->looked_at;
}

static void add_piece(struct skipped_text *skipped, const char *text, size_t n)
{
    struct skipped_kind *kind = skipped->kinds, *end = kind + skipped->kind_count;
    const size_t kept = n < SKIPPED_KIND_BYTES ? n : utf8_complete_prefix(text, SKIPPED_KIND_BYTES);
    while (kind < end && !(kind->length == kept && memcmp(kind->text, text, kept) == 0)) kind++;
    if (kind == end) {
        if (skipped->kind_count == SKIPPED_KINDS) return;
        skipped->kind_count++;
        *kind = (struct skipped_kind){.length = kept};
        memcpy(kind->text, text, kept);
    }
    kind->count++;
}

void skipped_text_add(struct skipped_text *skipped, const char *text, struct unknown_list *unknown)
{
    for (size_t i = 0; i < unknown->count; i++)
        add_piece(skipped, text + unknown->items[i].offset, unknown->items[i].length);
    skipped->looked_at += unknown->count;
    unknown->count = 0;
}

/* The most frequent kind that is not yet `named`; of equal ones the first. */
static size_t find_next(const struct skipped_text *skipped, const bool *named)
{
    size_t next = SKIPPED_KINDS;
    for (size_t i = 0; i < skipped->kind_count; i++)
        if (!named[i] && (next == SKIPPED_KINDS || skipped->kinds[i].count > skipped->kinds[next].count)) next = i;
    return next;
}

void skipped_text_print(const struct skipped_text *skipped, char *out, size_t size)
{
    bool named[SKIPPED_KINDS] = {false};
    size_t at = 0;
    out[0] = 0;
    for (size_t i = 0; i < SKIPPED_NAMED && i < skipped->kind_count; i++) {
        const size_t next = find_next(skipped, named);
        const struct skipped_kind *kind = &skipped->kinds[next];
        char name[96];
        named[next] = true;
        skipped_text_name(kind->text, kind->length, name, sizeof name);
        const int n = snprintf(out + at, size - at, "%s%s %zu time%s", at ? ", " : "", name, kind->count,
                               kind->count == 1 ? "" : "s");
        if (n < 0 || (size_t)n >= size - at) { /* print no half names */
            out[at] = 0;
            return;
        }
        at += (size_t)n;
    }
}
