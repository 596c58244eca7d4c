#include "model/tokens.h"

#include <stdlib.h>

#include "base/size.h"

static bool bytes_of(const struct tokens *tokens, size_t capacity, size_t *bytes, struct error *err)
{
    return size_multiply(capacity, (size_t)1 << tokens->shift, bytes) ||
           error_set(err, ERROR_TOO_LARGE, "the corpus is too large");
}

bool tokens_grow(struct tokens *tokens, size_t capacity, struct error *err)
{
    size_t bytes;
    if (capacity <= tokens->capacity) return true;
    if (!bytes_of(tokens, capacity, &bytes, err)) return false;
    void *data = realloc(tokens->data, bytes);
    if (!data) return error_set_no_memory(err, bytes, "the tokens of a corpus");
    tokens->data = data;
    tokens->capacity = capacity;
    return true;
}

bool tokens_open(struct tokens *tokens, uint32_t vocabulary, size_t capacity, const char *directory, struct error *err)
{
    size_t bytes;
    *tokens = (struct tokens){.shift = vocabulary <= UINT8_MAX + 1u ? 0 : vocabulary <= UINT16_MAX + 1u ? 1 : 2};
    if (!bytes_of(tokens, capacity, &bytes, err)) return false;
    if (!directory || bytes <= TOKENS_IN_MEMORY) return tokens_grow(tokens, capacity, err);
    if (!scratch_open(&tokens->scratch, directory, bytes, err)) return false;
    tokens->data = tokens->scratch.data;
    tokens->capacity = capacity;
    return true;
}

void tokens_close(struct tokens *tokens)
{
    if (tokens->scratch.data)
        scratch_close(&tokens->scratch);
    else
        free(tokens->data);
    *tokens = (struct tokens){0};
}
