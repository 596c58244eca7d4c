/* Stop texts: finds which of several texts occurs first in a growing text.
 *
 * The matcher reads byte by byte, so the cuts between tokens do not change the result. The text ends at the first
 * complete stop text; if several are complete at the same byte, the longest counts. Each byte costs amortised constant
 * time per stop text (Knuth, Morris and Pratt 1977, "Fast pattern matching in strings").
 *
 * It does no I/O. A matcher belongs to one thread at a time. `struct stop_matcher m = {0};` is one without stop texts.
 */
#ifndef LSTMD_MODEL_GENERATE_STOP_H
#define LSTMD_MODEL_GENERATE_STOP_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/error.h"

#define STOP_MAX_TEXTS 16
#define STOP_MAX_BYTES 1024 /* of one stop text */

struct text_span {
    const char *text; /* not NUL-terminated */
    size_t bytes;
};

struct stop_matcher {
    size_t count;
    struct stop_text {
        size_t start, length; /* of its bytes in `texts` and of its row in `fallback` */
        size_t matched;       /* bytes of its longest beginning that the text ends with */
    } items[STOP_MAX_TEXTS];
    char *texts; /* all stop texts in a row */
    uint16_t
        *fallback; /* fallback[start + i]: length of the longest proper beginning that its first i + 1 bytes end with */
};

/* Copies the texts. Bytes that are not UTF-8 become U+FFFD, as in a text that is shown. Close also after a failure.
 * Errors: ERROR_INVALID (too many, empty, too long), ERROR_NO_MEMORY. */
bool stop_matcher_open(struct stop_matcher *matcher, const struct text_span *texts, size_t count, struct error *err);
void stop_matcher_close(struct stop_matcher *matcher);

/* Takes the next byte of the text. Returns the length of the stop text that is now complete, or 0. */
size_t stop_matcher_feed(struct stop_matcher *matcher, char byte);

/* How many bytes at the end of the text may be the beginning of a stop text. */
size_t stop_matcher_held(const struct stop_matcher *matcher);

#endif
