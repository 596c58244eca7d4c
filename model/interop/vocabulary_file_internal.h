/* What the files vocabulary_file*.c share: a draft of a vocabulary. Nobody else includes this. */
#ifndef LSTMD_MODEL_INTEROP_VOCABULARY_FILE_INTERNAL_H
#define LSTMD_MODEL_INTEROP_VOCABULARY_FILE_INTERNAL_H

#include "model/interop/vocabulary_file.h"

/* White space of Python's str.split() except the space, and what ends a line of a text. */
#define INTEROP_WHITE_SPACE "\t\n\v\f\r\x1C\x1D\x1E\x1F"

/* A vocabulary in the making: tokens by id, and what is known about its text. */
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

/* Sets ERROR_NO_MEMORY. Returns false. */
bool interop_vocabulary_no_memory(struct error *err);

/* Inserts the padding token in front of the others. */
bool interop_draft_insert_pad(struct interop_draft *draft, struct error *err);

/* Makes the vocabulary of the draft's tokens, and guesses what is not known of it. */
struct vocabulary *interop_draft_finish(struct interop_draft *draft, struct error *err);

#endif
