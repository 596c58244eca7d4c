/* A vocabulary: text <-> token ids.
 *
 * Levels: "char" (Unicode code points, case kept unless asked otherwise), "word" (split as the Keras Tokenizer does:
 * optional lower-casing, then filter characters become spaces, then split at spaces), "byte" (256 possible tokens, for
 * corpora that are not UTF-8; a token's JSON string is the code point with the byte's value).
 * Ids: 0 is <eos>, then <unk> where the vocabulary has one, then tokens by falling count (ties: first appearance), and
 * last the label tokens of a conditional corpus (names as in the corpus, one token each). <eos> starts and ends every
 * document. Special tokens and labels are never matched in text: "<eos>" in a corpus is five characters, or, where the
 * filters let it through, a word like any other with a token of its own.
 *
 * Nothing changes a finished vocabulary, so threads may share it. vocabulary.json of a model directory holds the text
 * of vocabulary_to_json(); model/files/checkpoint.c reads and writes that file.
 */
#ifndef LSTMD_MODEL_TEXT_VOCABULARY_H
#define LSTMD_MODEL_TEXT_VOCABULARY_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/error.h"

#define TOKEN_NONE               UINT32_MAX /* "no such token" for eos, pad, unknown, label */
#define VOCABULARY_MAX_TOKENS    1000000u   /* refused beyond this */
#define VOCABULARY_KERAS_FILTERS "!\"#$%&()*+,-./:;<=>?@[\\]^_`{|}~\t\n"

enum token_level {
    TOKEN_LEVEL_CHAR, /* a token is a code point */
    TOKEN_LEVEL_WORD, /* a token is a word */
    TOKEN_LEVEL_BYTE, /* a token is a byte */
};

struct vocabulary; /* opaque */

struct vocabulary_options {
    enum token_level level;
    bool lower;          /* char, word: lower-case as Python's str.lower() does */
    const char *filters; /* word level: characters that become spaces; NULL: the Keras default */
    uint64_t min_count;  /* leave out tokens seen fewer times; 0 or 1: keep all */
    uint32_t max_tokens; /* at most this many tokens in all, specials included; 0: no limit */
    bool unknown;        /* have <unk>; forced where min_count or max_tokens leave a token out */
};

/* Building: add every training document, then finish. vocabulary_builder_finish() frees the builder, also when it
 * fails; vocabulary_builder_free() (NULL allowed) gives up. Errors: ERROR_INVALID for options that contradict each
 * other, invalid UTF-8 (with the byte offset) and fewer than 2 distinct tokens besides the special ones. */
struct vocabulary_builder;
struct vocabulary_builder *vocabulary_builder_new(const struct vocabulary_options *options, struct error *err);
bool vocabulary_builder_add(struct vocabulary_builder *builder, const char *text, size_t n, struct error *err);
/* name: UTF-8, not empty. A label that came before is not added again. */
bool vocabulary_builder_add_label(struct vocabulary_builder *builder, const char *name, struct error *err);
struct vocabulary *vocabulary_builder_finish(struct vocabulary_builder *builder, struct error *err);
void vocabulary_builder_free(struct vocabulary_builder *builder);

/* A vocabulary as JSON (vocabulary.json):
 *
 *   level                  "char", "word", "byte"
 *   lower                  true or false; level char: only where it is true; not for bytes
 *   filters                level word alone: the characters that become spaces
 *   tokens                 array of strings by id
 *   eos                    an id, or null: none
 *   eos_starts             false: eos ends texts and starts none; absent: it does both
 *   pad, unknown           ids, or null: none
 *   labels                 only where there are any: their ids, rising
 *
 * `place` (a path) begins messages, which name the field and the index. Reading is strict: it refuses unknown keys, ids
 * out of range, and a text token or a label that comes twice. The same vocabulary always gives the same bytes; the
 * caller frees them (free()). */
struct vocabulary *vocabulary_from_json(const char *json, size_t n, const char *place, struct error *err);
char *vocabulary_to_json(const struct vocabulary *vocabulary, size_t *n, struct error *err);
void vocabulary_free(struct vocabulary *vocabulary);

enum token_level vocabulary_level(const struct vocabulary *vocabulary);
const char *token_level_name(enum token_level level); /* "char", "word", "byte" */
bool token_level_parse(const char *name, enum token_level *level);
uint32_t vocabulary_size(const struct vocabulary *vocabulary);
uint32_t vocabulary_eos(const struct vocabulary *vocabulary); /* TOKEN_NONE: imported model without one */
/* The token before a text: eos, unless it only ends texts, as in models of Keras and PyTorch. TOKEN_NONE: no token. */
uint32_t vocabulary_start(const struct vocabulary *vocabulary);
/* Makes eos start texts, too. Only the owner of a vocabulary that nobody else has seen yet may call it. */
void vocabulary_let_eos_start(struct vocabulary *vocabulary);
uint32_t vocabulary_pad(const struct vocabulary *vocabulary);     /* TOKEN_NONE: none */
uint32_t vocabulary_unknown(const struct vocabulary *vocabulary); /* TOKEN_NONE: none */
uint32_t vocabulary_label_count(const struct vocabulary *vocabulary);
uint32_t vocabulary_label(const struct vocabulary *vocabulary, uint32_t index); /* token id of the index-th label */
uint32_t vocabulary_find_label(const struct vocabulary *vocabulary, const char *name); /* or TOKEN_NONE */

/* eos, pad, unknown or a label: a token that stands for no text. */
bool vocabulary_is_special(const struct vocabulary *vocabulary, uint32_t id);

/* The token's own text ("<eos>" for eos); for bytes, the raw byte. Borrowed; *n bytes, NUL-terminated. */
const char *vocabulary_token(const struct vocabulary *vocabulary, uint32_t id, size_t *n);

/* A growable list of ids. `struct token_list t = {0};` is empty; token_list_free() makes it so again. */
struct token_list {
    uint32_t *ids;
    size_t count, capacity;
};
/* Makes room for `more` further ids. */
bool token_list_reserve(struct token_list *list, size_t more, struct error *err);
bool token_list_append(struct token_list *list, uint32_t id, struct error *err);
void token_list_free(struct token_list *list);

/* Text the vocabulary lacks: bytes text[offset .. offset + length). */
struct unknown_text {
    size_t offset, length;
};
struct unknown_list {
    struct unknown_text *items;
    size_t count, capacity;
    size_t most;  /* set by the caller: items to note at most */
    size_t total; /* skipped characters or words, noted or not */
    /* Characters that no token stands for. A skipped word counts with the separators before it, or behind it where no
     * known word came earlier in the text. */
    size_t characters;
    /* A known word came earlier in this text. A caller that encodes a text in pieces keeps it from piece to piece, and
     * sets it to false where a text begins. */
    bool word_known;
};
/* How many characters of text[0..n) the ids of vocabulary_encode() stand for. A loss per character divides by this. */
size_t vocabulary_encoded_characters(const char *text, size_t n, const struct unknown_list *unknown);
void unknown_list_free(struct unknown_list *list);

/* Appends the ids of text[0..n) to `ids`, without any <eos>. Text without a token becomes <unk> where the vocabulary
 * has one. Otherwise it is skipped, and `unknown` counts and notes it (NULL: nothing does). Errors: ERROR_INVALID with
 * the byte offset where a char or word vocabulary gets invalid UTF-8. */
bool vocabulary_encode(const struct vocabulary *vocabulary, const char *text, size_t n, struct token_list *ids,
                       struct unknown_list *unknown, struct error *err);

/* Writes the text of one token as it stands in running text: a word gets a space before it unless `first`; a special
 * token gives nothing. Returns bytes; `out` has room for vocabulary_max_token_bytes() + 1. */
size_t vocabulary_decode(const struct vocabulary *vocabulary, uint32_t id, bool first, char *out);
size_t vocabulary_max_token_bytes(const struct vocabulary *vocabulary);

#endif
