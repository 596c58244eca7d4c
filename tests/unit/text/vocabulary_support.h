/* Builds, encodes and compares vocabularies, for their tests. */
#ifndef LSTMD_TESTS_UNIT_TEXT_VOCABULARY_SUPPORT_H
#define LSTMD_TESTS_UNIT_TEXT_VOCABULARY_SUPPORT_H

#include "model/text/vocabulary.h"

extern const struct vocabulary_options of_characters, of_bytes, of_words; /* words: lower-cased */

/* A vocabulary of one text. */
struct vocabulary *build_vocabulary_bytes(const struct vocabulary_options *options, const char *text, size_t n);
struct vocabulary *build_vocabulary(struct vocabulary_options options, const char *text);
/* Of characters, with labels. */
struct vocabulary *build_labelled_vocabulary(void);
struct vocabulary *read_vocabulary(const char *json);

void assert_vocabulary_build_fails(struct vocabulary_options options, const char *text, enum error_code code,
                                   const char *part);

/* The texts of all tokens, joined by "|". */
void assert_tokens(const struct vocabulary *vocabulary, const char *expected);

struct encoded {
    struct token_list ids;
    struct unknown_list unknown;
};
struct encoded encode_bytes(const struct vocabulary *vocabulary, const char *text, size_t n);
void encoded_free(struct encoded *encoded);

/* Encodes and compares the ids with "1 2 3". Returns what was skipped; unknown_list_free() it. */
struct unknown_list assert_encodes(const struct vocabulary *vocabulary, const char *text, const char *expected);
/* The same, but nothing is skipped. */
void assert_encodes_all(const struct vocabulary *vocabulary, const char *text, const char *expected);
/* The text of the ids, as a generation prints it. */
void assert_decodes(const struct vocabulary *vocabulary, const uint32_t *ids, size_t count, const char *expected);

#endif
