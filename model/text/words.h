/* Text -> words as the Keras Tokenizer splits it: lower-casing (optional) first, then filter characters become spaces,
 * then the text is split at spaces and empty words are dropped. The same rules lower characters where a character
 * vocabulary asks for it. Lower-casing is that of Python's str.lower(), which the Tokenizer uses: U+0130 becomes two
 * characters, and a capital sigma at the end of a word becomes a final one. Rules are immutable once made, so threads
 * may share them; a reader belongs to one.
 */
#ifndef LSTMD_MODEL_TEXT_WORDS_H
#define LSTMD_MODEL_TEXT_WORDS_H

#include <locale.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/error.h"
#include "base/utf8.h"
#include "model/text/code_map.h"

struct word_rules {
    bool lower;
    locale_t locale;            /* C.UTF-8 where lower is set: its simple case mapping is Unicode's */
    char *filters;              /* UTF-8, NUL-terminated */
    struct code_map separators; /* the filter characters and the space */
};

/* Errors: ERROR_INVALID where filters are not UTF-8. Free with word_rules_free(), also after a failure. */
bool word_rules_init(struct word_rules *rules, bool lower, const char *filters, struct error *err);
void word_rules_free(struct word_rules *rules);

/* A character as it is read: one code point, or two where lower-casing makes two of one. */
struct word_letter {
    uint32_t code;
    uint32_t mark; /* the second one; 0: none */
};

/* Lower-cases a code point that stands at text[at] and has so many bytes. Needs rules->lower. */
struct word_letter word_rules_lower(const struct word_rules *rules, uint32_t code_point, const char *text, size_t n,
                                    size_t at, size_t length);

/* The character at text[at], at < n, lower-cased if asked: its length in bytes, 0 for invalid UTF-8. */
static inline size_t word_rules_read(const struct word_rules *rules, const char *text, size_t n, size_t at,
                                     struct word_letter *letter)
{
    size_t length = 1;
    *letter = (struct word_letter){.code = (unsigned char)text[at]};
    if (letter->code >= 0x80) length = utf8_decode(text + at, n - at, &letter->code);
    if (length && rules->lower) *letter = word_rules_lower(rules, letter->code, text, n, at, length);
    return length;
}

/* How much of text[0..n) may be lower-cased without what follows it: up to a character that no sigma looks past. All of
 * it where there is none. */
size_t word_rules_prefix(const char *text, size_t n);

struct word_reader {
    const struct word_rules *rules;
    const char *text;
    size_t n, position;
    const char *word; /* the current word, lower-cased if asked; NULL after the last one */
    size_t length;
    size_t start, end; /* where it stands in the text */
    char *buffer;      /* lower-cased words */
    size_t capacity;
};

/* {.rules = ..., .text = ..., .n = ...} is a reader before its first word. Moves to the next one; word is NULL where
 * there is none. Errors: ERROR_INVALID with the byte offset for invalid UTF-8. */
bool word_reader_next(struct word_reader *reader, struct error *err);
void word_reader_close(struct word_reader *reader);

/* ERROR_INVALID "invalid UTF-8 at byte offset N". */
bool error_set_invalid_utf8(struct error *err, size_t offset);

#endif
