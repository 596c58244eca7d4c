/* Windows: some networks predict every token from the last N alone (model/network/architecture.h). This says which
 * tokens to feed them. Pure functions. */
#ifndef LSTMD_MODEL_GENERATE_WINDOW_H
#define LSTMD_MODEL_GENERATE_WINDOW_H

#include <stddef.h>
#include <stdint.h>

#include "model/network/architecture.h"

/* From the zero state: the pad token `padding` times, then the sequence's tokens from `first` on. */
struct window_feed {
    size_t padding, first;
};

/* What to feed before the prediction behind the first `count` tokens of a sequence. Without a window: all of them. pad:
 * the vocabulary's pad token; TOKEN_NONE: a short window has no padding. */
struct window_feed window_feed(const struct token_window *window, uint32_t pad, size_t count);

#endif
