#include "model/interop/names.h"

#include <string.h>

/* Best first. Maps with an id for every token come before lists, where the order gives the ids. */
static const char *const names[] = {
    "char2int",    "char_to_int",  "char2idx",   "char_to_idx",   "char2index",  "char_to_index", "char2id",
    "char_to_id",  "char_to_ix",   "char2ix",    "char_indices",  "stoi",        "token2id",      "token_to_id",
    "token2idx",   "token_to_idx", "word2idx",   "word_to_idx",   "word2index",  "word_to_index", "word2id",
    "word_to_id",  "word_to_ix",   "word2int",   "word_to_int",   "word_index",  "int2char",      "int_to_char",
    "idx2char",    "idx_to_char",  "index2char", "index_to_char", "id2char",     "id_to_char",    "ix_to_char",
    "ix2char",     "indices_char", "itos",       "id2token",      "id_to_token", "idx2token",     "idx_to_token",
    "idx2word",    "idx_to_word",  "index2word", "index_to_word", "id2word",     "id_to_word",    "ix_to_word",
    "int2word",    "int_to_word",  "index_word", "tokens",        "chars",       "characters",    "all_characters",
    "all_letters", "vocab",        "vocabulary", "alphabet",      "words",
};

size_t interop_name_rank(const char *name, size_t n)
{
    for (size_t i = 0; i < sizeof names / sizeof *names; i++)
        if (strlen(names[i]) == n && memcmp(names[i], name, n) == 0) return i;
    return SIZE_MAX;
}
