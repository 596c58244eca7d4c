#include "model/generate/window.h"

#include "model/text/vocabulary.h"

struct window_feed window_feed(const struct token_window *window, uint32_t pad, size_t count)
{
    struct window_feed feed = {0};
    if (window->size == 0) return feed;
    if (count > window->size) feed.first = count - window->size;
    if (count < window->size && pad != TOKEN_NONE && !window->masked) feed.padding = window->size - count;
    return feed;
}
