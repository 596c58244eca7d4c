/* Token ids of a whole corpus, in one, two or four bytes each, as the size of the vocabulary needs. Their memory may
 * lie on the disk (base/scratch.h).
 *
 * `struct tokens t = {0};` is empty; tokens_close() makes it so again.
 */
#ifndef LSTMD_MODEL_TEXT_TOKENS_H
#define LSTMD_MODEL_TEXT_TOKENS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include "base/error.h"
#include "base/scratch.h"

struct tokens {
    void *data;
    unsigned shift;  /* a token has 1 << shift bytes */
    size_t capacity; /* in tokens */
    struct scratch scratch;
    const char *directory; /* borrowed */
};

/* Makes room for `capacity` ids below `vocabulary`. `directory`: for more ids than fit into memory; NULL: none. */
bool tokens_open(struct tokens *tokens, uint32_t vocabulary, size_t capacity, const char *directory, struct error *err);
/* Makes room for `capacity` ids where there is less. */
bool tokens_grow(struct tokens *tokens, size_t capacity, struct error *err);
void tokens_close(struct tokens *tokens);

static inline uint32_t tokens_get(const struct tokens *tokens, size_t i)
{
    if (tokens->shift == 0) return ((const uint8_t *)tokens->data)[i];
    if (tokens->shift == 1) return ((const uint16_t *)tokens->data)[i];
    return ((const uint32_t *)tokens->data)[i];
}

static inline void tokens_set(struct tokens *tokens, size_t i, uint32_t id)
{
    if (tokens->shift == 0)
        ((uint8_t *)tokens->data)[i] = (uint8_t)id;
    else if (tokens->shift == 1)
        ((uint16_t *)tokens->data)[i] = (uint16_t)id;
    else
        ((uint32_t *)tokens->data)[i] = id;
}

/* Copies n ids. Both lists have the same width. */
static inline void tokens_copy(struct tokens *to, size_t at, const struct tokens *from, size_t begin, size_t n)
{
    memcpy((char *)to->data + (at << to->shift), (const char *)from->data + (begin << to->shift), n << to->shift);
}

#endif
