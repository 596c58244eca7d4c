/* Vocabularies of imported models: which token each row of the network means, from wherever the makers of the model
 * kept that.
 *
 * Sources: a Keras Tokenizer (tokenizer.to_json(), also as a JSON string), a JSON list of tokens, a JSON map from
 * tokens to ids or from ids to tokens, either under one of the usual names of an object (names.h) or as its only list
 * or map, a pickle of any of these (python.h; nothing in it is executed), lstmd's own vocabulary.json, a text file with
 * a token per line, or the text that the model was trained on. The tokens of such a text are numbered again:
 * sorted(set(text)), or by falling count from id 1 as the Keras Tokenizer does.
 *
 * A token called <eos> ends documents; without one, the model has no start of its own. <pad> (or an id 0 that no token
 * has) is padding, and <unk> stands for other text. In a vocabulary of characters, tokens of more than one character
 * are labels. The vocabulary must have exactly as many tokens as the network has rows: errors say both numbers and the
 * usual cause.
 */
#ifndef LSTMD_MODEL_INTEROP_VOCABULARY_FILE_H
#define LSTMD_MODEL_INTEROP_VOCABULARY_FILE_H

#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>

#include "base/error.h"
#include "model/text/vocabulary.h"

#define INTEROP_MAX_VOCABULARY_BYTES ((size_t)256 << 20)

enum interop_level {
    INTEROP_LEVEL_AUTO, /* the tokens tell */
    INTEROP_LEVEL_CHAR, /* a token is a character */
    INTEROP_LEVEL_WORD, /* a token is a word */
};

/* How the tokens of a text are numbered. */
enum interop_order {
    INTEROP_ORDER_SORTED,   /* sorted(set(text)), sorted(set(text.split())): by code point, from 0 */
    INTEROP_ORDER_FREQUENCY /* Keras Tokenizer: falling count, ties by first appearance, from 1; 0 is padding */
};

/* What the network needs of a vocabulary. */
struct interop_wanted {
    uint32_t size;            /* tokens */
    bool pad;                 /* id 0 is padding in the network */
    enum interop_level level; /* AUTO: characters, where every token is one */
    json_t *notes;            /* array for sentences on what was assumed; NULL: not wanted */
};

/* A vocabulary from JSON as described above; `place` begins messages. Errors: ERROR_INVALID. */
struct vocabulary *interop_vocabulary_from_json(const json_t *json, const struct interop_wanted *wanted,
                                                const char *place, struct error *err);

/* From a file of JSON, a pickle, or a token per line. In the latter an empty pair of lines is the newline character,
 * and \n, \t, \r and \\ may stand for the characters. */
struct vocabulary *interop_vocabulary_from_file(const char *path, const struct interop_wanted *wanted,
                                                struct error *err);

/* The same for a file in memory; text[n] is NUL. */
struct vocabulary *interop_vocabulary_from_memory(const char *text, size_t n, const struct interop_wanted *wanted,
                                                  const char *place, struct error *err);

/* From the text that the model was trained on (AUTO: its characters). It is read as Python does: \r\n is \n. `lower`:
 * lower-case it first. White space separates words; with INTEROP_ORDER_FREQUENCY the Keras filters do, too. */
struct vocabulary *interop_vocabulary_from_text(const char *path, enum interop_order order, bool lower,
                                                const struct interop_wanted *wanted, struct error *err);

#endif
