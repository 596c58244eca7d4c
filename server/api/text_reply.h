/* Replies of any size, written a piece at a time: they never lie in memory as a whole.
 *
 * A source appends one small piece after the other (a token, a row, part of a text) to a buffer of 64 KiB. A reply
 * that fits is sent with its length, as any other. A longer one goes out as a stream of two buffers: the HTTP thread
 * sends one while the source's worker fills the other, and they are exchanged each time the client has taken all of the
 * first. So a reply costs two buffers, a slow client makes only its own source wait, and a client that does not read is
 * dropped after limits.write_timeout.
 *
 * An error before the first buffer is full is a problem with its status. After that the head is sent, so the connection
 * is cut: no client takes what it got for a whole answer.
 */
#ifndef LSTMD_SERVER_API_TEXT_REPLY_H
#define LSTMD_SERVER_API_TEXT_REPLY_H

#include <jansson.h>

#include "base/error.h"
#include "base/json_writer.h"
#include "base/worker.h"
#include "server/http/http.h"

#define TEXT_REPLY_BUFFER ((size_t)64 * 1024)
#define TEXT_REPLY_PART   ((size_t)8 * 1024) /* about the most that one piece should have */

enum text_state {
    TEXT_MORE,   /* there is a next piece */
    TEXT_TURN,   /* the same, but what there is goes out first, and other tasks of the worker have their turn */
    TEXT_END,    /* that was all */
    TEXT_BROKEN, /* nothing of the reply is valid */
};

struct text_source {
    /* Appends the next piece: first where text_reply() is called, then in `worker`, never twice at a time. TEXT_BROKEN
     * with an error: nothing of the reply is valid. */
    enum text_state (*write)(void *context, struct json_writer *out, struct error *err);
    /* Once, from any thread, when write() is not called any more. The request may be gone. NULL allowed. */
    void (*release)(void *context);
    void *context;
    struct worker *worker; /* any of the daemon's; stopped before the HTTP server is freed */
};

/* Sets the reply. The source is copied. */
void text_reply(struct http_request *request, int status, const char *content_type, const struct text_source *source);

/* Consumes the value and appends its text; a value that is NULL, or no memory, makes the writer fail. For a small part
 * of an answer that is there as a value. */
void text_write_json(struct json_writer *out, json_t *value);

#endif
