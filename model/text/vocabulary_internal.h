/* What the files vocabulary*.c share: the struct behind the handle, and making one. Nobody else includes this.
 *
 * Making: vocabulary_new(), then one vocabulary_add_*() per token in the order of ids; the maker sets eos, pad and
 * unknown. After that nothing changes the vocabulary.
 */
#ifndef LSTMD_MODEL_TEXT_VOCABULARY_INTERNAL_H
#define LSTMD_MODEL_TEXT_VOCABULARY_INTERNAL_H

#include "base/string_table.h"
#include "model/text/code_map.h"
#include "model/text/vocabulary.h"
#include "model/text/words.h"

struct vocabulary {
    enum token_level level;
    struct word_rules rules;
    struct string_table tokens; /* by id; the hash index holds the words of level word */
    struct code_map codes;      /* level char and byte: code point or byte -> id */
    uint8_t *special;           /* [capacity] 1: eos, pad, unknown or a label */
    uint32_t capacity;          /* room, in tokens */
    uint32_t eos, pad, unknown;
    bool eos_only_ends; /* eos ends texts and does not start them */
    struct string_table label_names;
    uint32_t *labels; /* [label_names.count] ids */
    size_t max_token_bytes;
};

/* An empty vocabulary with room for `size` tokens; filters NULL: the Keras default. */
struct vocabulary *vocabulary_new(enum token_level level, bool lower, const char *filters, uint32_t size,
                                  struct error *err);

/* Each adds the token with the next id. A text token is one word, the UTF-8 of one character, or one raw byte. *added:
 * false where the text or the label came before. */
bool vocabulary_add_special(struct vocabulary *vocabulary, const char *text, size_t n, struct error *err);
bool vocabulary_add_text(struct vocabulary *vocabulary, const char *text, size_t n, bool *added, struct error *err);
bool vocabulary_add_label(struct vocabulary *vocabulary, const char *name, size_t n, bool *added, struct error *err);

#endif
