/* What a vocabulary lacks of a text, by name and number, for who is to know what was skipped. The first kinds that come
 * are told apart, and among a text's first skipped pieces alone: naming them costs no more where all of a large corpus
 * is skipped. */
#ifndef LSTMD_MODEL_TEXT_SKIPPED_TEXT_H
#define LSTMD_MODEL_TEXT_SKIPPED_TEXT_H

#include <stddef.h>

#include "model/text/vocabulary.h"

#define SKIPPED_KINDS      16
#define SKIPPED_KIND_BYTES 48
#define SKIPPED_NAMED      5      /* the most frequent ones are named */
#define SKIPPED_LOOKED_AT  100000 /* pieces */

struct skipped_kind {
    char text[SKIPPED_KIND_BYTES]; /* longer words: their beginning */
    size_t length, count;
};

struct skipped_text {
    size_t pieces;     /* characters or words, all of them */
    size_t characters; /* that no token stands for */
    size_t looked_at;
    size_t kind_count;
    struct skipped_kind kinds[SKIPPED_KINDS];
};

/* How many pieces of the next text are to be listed by vocabulary_encode(). */
size_t skipped_text_wanted(const struct skipped_text *skipped);
/* Adds what is listed, pieces of `text`, and empties the list. */
void skipped_text_add(struct skipped_text *skipped, const char *text, struct unknown_list *unknown);

/* "character 'x' (U+0078) 12 times, ..." of the most frequent kinds; "" where there are none. */
void skipped_text_print(const struct skipped_text *skipped, char *out, size_t size);

/* Names a piece of text: "character 'x' (U+0078)", or what can be said where that would not be readable. */
void skipped_text_name(const char *text, size_t n, char *out, size_t size);

#endif
