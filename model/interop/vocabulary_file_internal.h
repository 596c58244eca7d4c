/* What the files interop_vocabulary*.c share: a vocabulary as it is put together, of tokens by id. */
#ifndef LSTMD_MODEL_INTEROP_VOCABULARY_FILE_INTERNAL_H
#define LSTMD_MODEL_INTEROP_VOCABULARY_FILE_INTERNAL_H

#include "model/interop/vocabulary_file.h"

/* Python's str.split() and what a line of a text ends with. */
#define INTEROP_WHITE_SPACE "\t\n\v\f\r\x1C\x1D\x1E\x1F"

/* A vocabulary as it is put together: tokens by id, and what is known about text. */
struct interop_draft {
    const char *place;
    const struct interop_wanted *wanted;
    json_t *tokens; /* strings by id; null: nothing has this id yet */
    enum interop_level level;
    int lower;           /* -1: not known */
    const char *filters; /* NULL: not known */
    const char *unknown; /* the token for other text; NULL: not known */
    bool cut;            /* there are tokens beyond num_words */
};

/* Always false. */
bool interop_vocabulary_no_memory(struct error *err);

/* The padding token in front of the others. */
bool interop_draft_insert_pad(struct interop_draft *draft, struct error *err);

/* The vocabulary of the draft's tokens, what is not known of it guessed. */
struct vocabulary *interop_draft_finish(struct interop_draft *draft, struct error *err);

#endif
