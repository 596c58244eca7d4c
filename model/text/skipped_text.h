/* Text that a vocabulary lacks, by name and number, for messages to the user. It tells apart the first SKIPPED_KINDS
 * kinds, and looks at the first SKIPPED_LOOKED_AT pieces alone, so that a large corpus of skipped text costs no
 * more. */
#ifndef LSTMD_MODEL_TEXT_SKIPPED_TEXT_H
#define LSTMD_MODEL_TEXT_SKIPPED_TEXT_H

#include <stddef.h>

#include "model/text/vocabulary.h"

#define SKIPPED_KINDS      16
#define SKIPPED_KIND_BYTES 48
#define SKIPPED_NAMED      5      /* kinds that a message names: the most frequent */
#define SKIPPED_LOOKED_AT  100000 /* pieces */

struct skipped_kind {
    char text[SKIPPED_KIND_BYTES]; /* of longer words their beginning */
    size_t length, count;
};

struct skipped_text {
    size_t pieces;     /* skipped characters or words, looked at or not */
    size_t characters; /* characters that no token stands for */
    size_t looked_at;
    size_t kind_count;
    struct skipped_kind kinds[SKIPPED_KINDS];
};

/* How many pieces of the next text vocabulary_encode() should note (unknown_list.most). */
size_t skipped_text_wanted(const struct skipped_text *skipped);
/* Adds the noted pieces of `text`, and empties the list. */
void skipped_text_add(struct skipped_text *skipped, const char *text, struct unknown_list *unknown);

/* Prints the most frequent kinds: "character 'x' (U+0078) 12 times, ..."; "" where nothing was skipped. */
void skipped_text_print(const struct skipped_text *skipped, char *out, size_t size);

/* Names a piece of text: "character 'x' (U+0078)". A piece that would not be readable gets a description. */
void skipped_text_name(const char *text, size_t n, char *out, size_t size);

#endif
