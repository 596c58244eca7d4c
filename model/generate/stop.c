#include "model/generate/stop.h"

#include <stdlib.h>
#include <string.h>

#include "base/utf8.h"

static bool check_stop_texts(const struct text_span *texts, size_t count, size_t *total, struct error *err)
{
    *total = 0;
    if (count > STOP_MAX_TEXTS)
        return error_set(err, ERROR_INVALID, "%zu stop texts are too many; at most %d", count, STOP_MAX_TEXTS);
    for (size_t i = 0; i < count; i++) {
        if (texts[i].bytes == 0) return error_set(err, ERROR_INVALID, "a stop text must not be empty");
        if (texts[i].bytes > STOP_MAX_BYTES)
            return error_set(err, ERROR_INVALID, "a stop text of %zu bytes is too long; at most %d", texts[i].bytes,
                             STOP_MAX_BYTES);
        *total += texts[i].bytes;
    }
    return true;
}

/* The next `matched` if the text goes on with `byte`. Requires matched < length. */
static size_t extend_match(const char *text, const uint16_t *fallback, size_t matched, char byte)
{
    while (matched > 0 && text[matched] != byte) matched = fallback[matched - 1];
    return matched + (text[matched] == byte);
}

static void fill_fallback(const char *text, size_t length, uint16_t *fallback)
{
    fallback[0] = 0;
    for (size_t i = 1; i < length; i++) fallback[i] = (uint16_t)extend_match(text, fallback, fallback[i - 1], text[i]);
}

bool stop_matcher_open(struct stop_matcher *matcher, const struct text_span *texts, size_t count, struct error *err)
{
    size_t total;
    *matcher = (struct stop_matcher){0};
    if (!check_stop_texts(texts, count, &total, err)) return false;
    if (total == 0) return true;
    total *= 3; /* a byte may become U+FFFD, which has three */
    matcher->texts = malloc(total);
    matcher->fallback = malloc(total * sizeof *matcher->fallback);
    if (!matcher->texts || !matcher->fallback)
        return error_set_no_memory(err, total * (1 + sizeof *matcher->fallback), "the stop texts");
    for (size_t i = 0, start = 0; i < count; i++) {
        char *text = matcher->texts + start;
        const size_t length = utf8_sanitize(texts[i].text, texts[i].bytes, text);
        matcher->items[i] = (struct stop_text){.start = start, .length = length};
        fill_fallback(text, length, matcher->fallback + start);
        start += length;
    }
    matcher->count = count;
    return true;
}

void stop_matcher_close(struct stop_matcher *matcher)
{
    free(matcher->texts);
    free(matcher->fallback);
    *matcher = (struct stop_matcher){0};
}

size_t stop_matcher_feed(struct stop_matcher *matcher, char byte)
{
    size_t complete = 0;
    for (size_t i = 0; i < matcher->count; i++) {
        struct stop_text *item = &matcher->items[i];
        const uint16_t *fallback = matcher->fallback + item->start;
        item->matched = extend_match(matcher->texts + item->start, fallback, item->matched, byte);
        if (item->matched < item->length) continue;
        if (item->length > complete) complete = item->length;
        item->matched = fallback[item->length - 1];
    }
    return complete;
}

size_t stop_matcher_held(const struct stop_matcher *matcher)
{
    size_t held = 0;
    for (size_t i = 0; i < matcher->count; i++)
        if (matcher->items[i].matched > held) held = matcher->items[i].matched;
    return held;
}
