#include <microhttpd.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>

#include "server/http/internal.h"

#define STREAM_BLOCK ((size_t)8 * 1024) /* bytes of a stream that are read at once */

/* --- Streams ---
 *
 * A stream that has nothing to send is suspended, and the library looks at it again only after a resume. Who finds
 * something to send and who is about to suspend meet in stream->state: only the one that changes PARKED to POKED
 * resumes, so each suspend has exactly one resume, and a wake that comes just before the suspend is not lost. A request
 * can only be over while its connection is not suspended, so the state is not PARKED then and nobody touches the
 * connection any more. */

enum { STREAM_AWAKE, STREAM_POKED, STREAM_PARKED };

void http_stream_wake(struct http_stream *stream)
{
    if (atomic_load(&stream->state) == STREAM_POKED) return;
    if (atomic_exchange(&stream->state, STREAM_POKED) == STREAM_PARKED) http_resume(stream->server, stream->connection);
}

static void park(struct http_stream *stream)
{
    MHD_suspend_connection(stream->connection);
    int awake = STREAM_AWAKE;
    if (!atomic_compare_exchange_strong(&stream->state, &awake, STREAM_PARKED))
        http_resume(stream->server, stream->connection);
}

static ssize_t read_stream(void *context, uint64_t position, char *out, size_t size)
{
    (void)position;
    struct http_request *request = context;
    struct http_stream *stream = request->reply.stream;
    request->server->calls++;
    atomic_store(&stream->state, STREAM_AWAKE);
    const size_t n = stream->read(stream->context, out, size);
    if (n == HTTP_STREAM_END) {
        request->reply.stream_ended = true;
        return MHD_CONTENT_READER_END_OF_STREAM;
    }
    if (n == HTTP_STREAM_BROKEN) return MHD_CONTENT_READER_END_WITH_ERROR;
    if (n == 0) park(stream);
    request->reply.size += n;
    return (ssize_t)n;
}

static void stream_due(void *context)
{
    http_stream_wake(context);
}

static void stream_gone(void *context)
{
    struct http_stream *stream = context;
    stream->gone(stream->context);
    http_stream_wake(stream);
}

/* To HEAD, too, the library would send the end of a body in chunks (0.9.75), which the client takes for the next reply.
 */
static struct MHD_Response *open_stream(struct http_request *request)
{
    if (http_request_is_head(request)) return MHD_create_response_from_buffer(0, NULL, MHD_RESPMEM_PERSISTENT);
    struct http_stream *stream = request->reply.stream;
    http_drop_body(request); /* a stream is long */
    http_guard_calls(request, &(struct watch_calls){.gone = stream_gone,
                                                    .due = stream_due,
                                                    .context = stream,
                                                    .period_ns = (uint64_t)(stream->quiet_seconds * 1e9)});
    return MHD_create_response_from_callback(MHD_SIZE_UNKNOWN, STREAM_BLOCK, read_stream, request, NULL);
}

void http_close_stream(struct http_request *request, bool complete)
{
    struct reply *reply = &request->reply;
    if (reply->kind != REPLY_STREAM) return;
    http_guard_calls(request, NULL);
    if (http_request_is_head(request)) reply->stream_ended = true;
    complete = complete && reply->stream_ended;
    if (!complete) reply->status = STATUS_CLIENT_LEFT;
    reply->stream->over(request, complete, reply->stream->context);
}

/* --- Replies --- */

static void add_header(struct MHD_Response *response, const char *name, const char *value)
{
    MHD_add_response_header(response, name, value);
}

/* The library (0.9.75) reads the lines of chunks generously: it takes a bare LF for their end, and NUL, CR and folds
 * for a part of them. It shows none of them, so where a body in chunks ends may be another place for a proxy; what
 * stands there must not become a request. */
static bool has_loose_end(const struct http_request *request)
{
    return http_request_header(request, MHD_HTTP_HEADER_TRANSFER_ENCODING);
}

bool http_send(struct http_request *request)
{
    struct reply *reply = &request->reply;
    http_guard_calls(request, NULL);
    if (atomic_load(&request->owner->late)) return false;
    if (reply->kind != REPLY_DATA && reply->kind != REPLY_STREAM) return false;
    enum MHD_ResponseMemoryMode mode = reply->ownership == HTTP_TAKEN ? MHD_RESPMEM_MUST_FREE : MHD_RESPMEM_PERSISTENT;
    struct MHD_Response *response =
        reply->kind == REPLY_STREAM
            ? open_stream(request)
            : MHD_create_response_from_buffer(reply->size, (void *)(uintptr_t)reply->body, mode);
    if (!response) return false;
    http_set_timeout(request, request->server->options.write_timeout);
    reply->ownership = HTTP_BORROWED; /* the response frees it */
    if (reply->content_type) add_header(response, MHD_HTTP_HEADER_CONTENT_TYPE, reply->content_type);
    add_header(response, "X-Request-Id", request->id);
    add_header(response, "X-Content-Type-Options", "nosniff");
    for (size_t i = 0; i < reply->header_count; i++)
        add_header(response, reply->headers[i].name, reply->headers[i].value);
    request->last = has_loose_end(request);
    if (request->last || atomic_load(&request->server->draining) || request->owner->place == PLACE_RESERVE)
        add_header(response, MHD_HTTP_HEADER_CONNECTION, "close");
    const bool good = MHD_queue_response(request->connection, (unsigned)reply->status, response) == MHD_YES;
    MHD_destroy_response(response);
    request->stage = STAGE_REPLIED;
    return good;
}

void http_set_refusal(struct http_request *request)
{
    if (request->refused) return; /* with a reply */
    if (request->problem.status == 405) http_reply_header(request, "Allow", request->allow);
    if (request->problem.status == 429) http_reply_header(request, "Retry-After", "1");
    http_reply_problem(request, &request->problem);
}

#define DATE_SIZE 32

/* RFC 9110, 5.6.7. The library writes it to its own answers. */
static void print_date(char date[DATE_SIZE])
{
    const time_t now = time(NULL);
    struct tm parts;
    strftime(date, DATE_SIZE, "%a, %d %b %Y %H:%M:%S GMT", gmtime_r(&now, &parts));
}

bool http_write_last(const struct http_request *request, const struct reply *reply)
{
    char head[2048], date[DATE_SIZE];
    print_date(date);
    size_t n = (size_t)snprintf(head, sizeof head,
                                "HTTP/1.1 %d %s\r\nDate: %s\r\nContent-Type: %s\r\nContent-Length: %zu\r\n"
                                "X-Request-Id: %s\r\nX-Content-Type-Options: nosniff\r\nConnection: close\r\n",
                                reply->status, http_status_reason(reply->status), date, reply->content_type,
                                reply->size, request->id);
    for (size_t i = 0; i < reply->header_count && n < sizeof head; i++)
        n += (size_t)snprintf(head + n, sizeof head - n, "%s: %s\r\n", reply->headers[i].name, reply->headers[i].value);
    if (n + 2 >= sizeof head) return false;
    memcpy(head + n, "\r\n", 2);
    n += 2;
    const int fd = request->owner->fd;
    const size_t size = http_request_is_head(request) ? 0 : reply->size;
    return send(fd, head, n, MSG_NOSIGNAL | (size > 0 ? MSG_MORE : 0)) == (ssize_t)n &&
           send(fd, reply->body, size, MSG_NOSIGNAL) == (ssize_t)size;
}

void http_write_refusal(int fd, const char *id, const struct problem *problem)
{
    size_t size;
    char *text = problem_to_json(problem, NULL, &size);
    if (!text) return;
    char head[512], date[DATE_SIZE];
    print_date(date);
    const int n =
        snprintf(head, sizeof head,
                 "HTTP/1.1 %d %s\r\nDate: %s\r\nContent-Type: application/problem+json\r\nContent-Length: %zu\r\n"
                 "X-Request-Id: %s\r\nX-Content-Type-Options: nosniff\r\nRetry-After: 1\r\n"
                 "Connection: close\r\n\r\n",
                 problem->status, http_status_reason(problem->status), date, size, id);
    if (send(fd, head, (size_t)n, MSG_NOSIGNAL | MSG_MORE) == n) send(fd, text, size, MSG_NOSIGNAL);
    free(text);
}

/* libmicrohttpd would close the socket over the unread rest of the body, and the reset that follows may reach the
 * client before the answer; so the answer is written at once, and the rest read and thrown away. Nothing may follow the
 * answer, whatever the library thinks of the rest: the socket is closed for writing. */
bool http_send_early(struct http_request *request)
{
    request->stage = STAGE_LINGER;
    http_guard_body(request);
    const bool good = !atomic_load(&request->owner->late) && http_write_last(request, &request->reply);
    shutdown(request->owner->fd, SHUT_WR);
    return good;
}
