#include "server/http/send.h"

#include <sys/socket.h>

#include "server/http/guard.h"
#include "server/http/refusal.h"
#include "server/http/stream.h"

/* NULL: memory is out. The library has the reply's body otherwise. */
static struct MHD_Response *make_response(struct http_request *request)
{
    struct reply *reply = &request->reply;
    struct MHD_Response *response = reply->kind == REPLY_STREAM
                                        ? http_stream_open(request)
                                        : library_reply_new(reply->body, reply->size, reply->ownership == HTTP_TAKEN);
    if (response) reply->ownership = HTTP_BORROWED;
    return response;
}

/* The library (0.9.75) reads the lines of chunks generously: a bare LF ends them, and NUL, CR and folds are a part of
 * them. It shows none of them, so a body in chunks may end elsewhere for a proxy. What follows such a body must not
 * become a request. */
static bool has_loose_end(const struct http_request *request)
{
    return http_request_header(request, "Transfer-Encoding");
}

static void add_headers(struct http_request *request, struct MHD_Response *response)
{
    const struct reply *reply = &request->reply;
    if (reply->content_type) library_reply_add_header(response, "Content-Type", reply->content_type);
    library_reply_add_header(response, "X-Request-Id", request->id);
    library_reply_add_header(response, "X-Content-Type-Options", "nosniff");
    for (size_t i = 0; i < reply->header_count; i++)
        library_reply_add_header(response, reply->headers[i].name, reply->headers[i].value);
    request->last = has_loose_end(request);
    if (request->last || atomic_load(&request->server->draining) || request->owner->place == PLACE_RESERVE)
        library_reply_add_header(response, "Connection", "close");
}

bool http_send(struct http_request *request)
{
    const struct reply *reply = &request->reply;
    http_guard_calls(request, NULL);
    if (atomic_load(&request->owner->late)) return false;
    if (reply->kind != REPLY_DATA && reply->kind != REPLY_STREAM) return false;
    struct MHD_Response *response = make_response(request);
    if (!response) return false;
    library_set_timeout(request->connection, request->server->options.write_timeout);
    add_headers(request, response);
    const bool good = library_reply_send(request->connection, response, reply->status);
    request->stage = STAGE_REPLIED;
    return good;
}

/* libmicrohttpd would close the socket over the unread rest of the body, and the reset that follows may reach the
 * client before the answer. So the answer is written at once, and the rest is read and thrown away. Nothing may follow
 * the answer, whatever the library thinks of the rest: the socket is closed for writing. */
bool http_send_early(struct http_request *request)
{
    request->stage = STAGE_LINGER;
    http_guard_body(request);
    const bool good = !atomic_load(&request->owner->late) && http_refusal_write(request, &request->reply);
    shutdown(request->owner->fd, SHUT_WR);
    return good;
}
