/* Text -> words, as the Keras Tokenizer splits it: lower-case (optional), turn filter characters into spaces, split at
 * spaces, drop empty words. Character vocabularies lower-case by the same rules. Lower-casing is Python's str.lower(),
 * which the Tokenizer calls: U+0130 becomes two characters, and a capital sigma at the end of a word becomes a final
 * sigma. Rules do not change once made, so threads may share them. A reader belongs to one thread. */
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
    locale_t locale;            /* set where lower is: C.UTF-8, whose simple case mapping is Unicode's */
    char *filters;              /* UTF-8, NUL-terminated */
    struct code_map separators; /* the filter characters and the space */
};

/* Errors: ERROR_INVALID where filters are not UTF-8. Free with word_rules_free(), also after a failure. */
bool word_rules_init(struct word_rules *rules, bool lower, const char *filters, struct error *err);
void word_rules_free(struct word_rules *rules);

/* A character: one code point, or two where lower-casing makes two of one. */
struct word_letter {
    uint32_t code;
    uint32_t mark; /* the second one; 0: none */
};

/* Lower-cases the code point of `length` bytes at text[at]. Needs rules->lower. */
struct word_letter word_rules_lower(const struct word_rules *rules, uint32_t code_point, const char *text, size_t n,
                                    size_t at, size_t length);

/* Reads the character at text[at], at < n, and lower-cases it if the rules say so. Returns its bytes; 0: invalid
 * UTF-8. */
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
 * it, where there is none. */
size_t word_rules_prefix(const char *text, size_t n);

struct word_reader {
    const struct word_rules *rules;
    const char *text;
    size_t n, position;
    const char *word; /* the current word, lower-cased if the rules say so; NULL after the last one */
    size_t length;
    size_t start, end; /* its place in the text */
    char *buffer;      /* lower-cased words */
    size_t capacity;
};

/* Moves to the next word; `word` is NULL where there is none. {.rules = ..., .text = ..., .n = ...} is a reader before
 * its first word. Errors: ERROR_INVALID with the byte offset for invalid UTF-8. */
bool word_reader_next(struct word_reader *reader, struct error *err);
void word_reader_close(struct word_reader *reader);

/* Sets ERROR_INVALID "invalid UTF-8 at byte offset N". Returns false. */
bool error_set_invalid_utf8(struct error *err, size_t offset);

#endif
