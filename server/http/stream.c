/* A stream that has nothing to send is suspended, and the library looks at it again only after a resume. Who finds
 * something to send and who is about to suspend meet in stream->state. Only the one that changes PARKED to POKED
 * resumes, so each suspend has exactly one resume, and a wake that comes just before the suspend is not lost. A request
 * can only be over while its connection is not suspended. The state is not PARKED then, so nobody touches the
 * connection any more. */
#include "server/http/stream.h"

#include "server/http/body.h"
#include "server/http/guard.h"

enum {
    STREAM_AWAKE,  /* read() runs, or the library sends what it gave */
    STREAM_POKED,  /* there may be something to read */
    STREAM_PARKED, /* suspended */
};

void http_stream_wake(struct http_stream *stream)
{
    if (atomic_load(&stream->state) == STREAM_POKED) return;
    if (atomic_exchange(&stream->state, STREAM_POKED) == STREAM_PARKED)
        library_resume(stream->library, stream->connection);
}

static void stream_park(struct http_stream *stream)
{
    library_suspend(stream->connection);
    int awake = STREAM_AWAKE;
    if (!atomic_compare_exchange_strong(&stream->state, &awake, STREAM_PARKED))
        library_resume(stream->library, stream->connection);
}

static size_t stream_read(void *context, char *out, size_t size)
{
    struct reply *reply = context;
    struct http_stream *stream = reply->stream;
    atomic_store(&stream->state, STREAM_AWAKE);
    const size_t n = stream->read(stream->context, out, size);
    if (n == HTTP_STREAM_BROKEN) return LIBRARY_STREAM_BROKEN;
    if (n == HTTP_STREAM_END) {
        reply->stream_ended = true;
        return LIBRARY_STREAM_END;
    }
    if (n == 0) stream_park(stream);
    reply->size += n;
    return n;
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

/* HEAD gets an empty body. The library (0.9.75) would send it the end of a body in chunks, which the client takes for
 * the next reply. */
struct MHD_Response *http_stream_open(struct http_request *request)
{
    if (http_request_is_head(request)) return library_reply_new("", 0, false);
    struct reply *reply = &request->reply;
    struct http_stream *stream = reply->stream;
    http_body_drop(request); /* a stream is long */
    http_guard_calls(request, &(struct watch_calls){.gone = stream_gone,
                                                    .due = stream_due,
                                                    .context = stream,
                                                    .period_ns = (uint64_t)(stream->quiet_seconds * 1e9)});
    reply->source = (struct library_stream){.library = request->server->library, .read = stream_read, .context = reply};
    return library_reply_new_stream(&reply->source);
}

void http_stream_close(struct http_request *request, bool complete)
{
    struct reply *reply = &request->reply;
    if (reply->kind != REPLY_STREAM) return;
    http_guard_calls(request, NULL);
    if (http_request_is_head(request)) reply->stream_ended = true;
    complete = complete && reply->stream_ended;
    if (!complete) reply->status = STATUS_CLIENT_LEFT;
    reply->stream->over(request, complete, reply->stream->context);
}
