#include "model/text/tokens.h"

bool tokens_grow(struct tokens *tokens, size_t capacity, struct error *err)
{
    if (capacity <= tokens->capacity) return true;
    if (!scratch_reserve_array(&tokens->scratch, capacity, (size_t)1 << tokens->shift, tokens->directory,
                               "the tokens of a corpus", err))
        return false;
    tokens->data = tokens->scratch.data;
    tokens->capacity = capacity;
    return true;
}

bool tokens_open(struct tokens *tokens, uint32_t vocabulary, size_t capacity, const char *directory, struct error *err)
{
    *tokens = (struct tokens){.directory = directory};
    tokens->shift = vocabulary <= UINT8_MAX + 1u ? 0 : vocabulary <= UINT16_MAX + 1u ? 1 : 2;
    return tokens_grow(tokens, capacity, err);
}

void tokens_close(struct tokens *tokens)
{
    scratch_close(&tokens->scratch);
    *tokens = (struct tokens){0};
}
