#include "server/http/request.h"

#include <string.h>

#include "base/json.h"

/* --- What came --- */

const char *http_request_id(const struct http_request *request)
{
    return request->id;
}

const char *http_request_path(const struct http_request *request)
{
    return request->path;
}

const char *http_request_header(const struct http_request *request, const char *name)
{
    return library_header(request->connection, name);
}

const char *http_request_body(const struct http_request *request, size_t *size)
{
    *size = request->body_size;
    return request->body ? request->body : "";
}

const struct query *http_request_query(const struct http_request *request)
{
    return &request->query;
}

uint64_t http_request_ready_ns(const struct http_request *request)
{
    return request->ready_ns;
}

bool http_request_is_head(const struct http_request *request)
{
    return strcmp(request->method, "HEAD") == 0;
}

const char *http_request_parameter(const struct http_request *request)
{
    return request->parameter;
}

const char *http_request_client(const struct http_request *request)
{
    return request->client;
}

void *http_request_sink(const struct http_request *request)
{
    return request->sink_context;
}

bool http_has_body(const struct http_request *request)
{
    const char *length = http_request_header(request, "Content-Length");
    return http_request_header(request, "Transfer-Encoding") || (length && length[strspn(length, "0")] != '\0');
}

bool http_comes_in_chunks(const struct http_request *request)
{
    return (request->stage == STAGE_BODY || request->stage == STAGE_PIECE || request->stage == STAGE_LINGER) &&
           http_request_header(request, "Transfer-Encoding");
}

/* --- What is noted --- */

void http_count_open(struct http_request *request)
{
    if (request->counted) return;
    atomic_fetch_add(&request->server->open, 1);
    request->counted = true;
}

void http_request_on_release(struct http_request *request, void (*release)(void *context), void *context)
{
    request->release = release;
    request->release_context = context;
}

void http_request_log(struct http_request *request, struct log_field field)
{
    if (request->log_count < MAX_EXTRAS) request->log[request->log_count++] = field;
}

/* --- The reply --- */

void http_reply(struct http_request *request, int status, const char *content_type, const char *body, size_t size,
                enum http_ownership ownership)
{
    struct reply *reply = &request->reply;
    reply->kind = REPLY_DATA;
    reply->status = status;
    reply->content_type = content_type;
    reply->body = body;
    reply->size = size;
    reply->ownership = ownership;
}

static void reply_no_memory(struct http_request *request)
{
    static const char text[] = "{\"type\":\"about:blank\",\"title\":\"Service Unavailable\",\"status\":503,"
                               "\"detail\":\"out of memory\"}\n";
    http_reply_header(request, "Retry-After", "1");
    http_reply(request, 503, "application/problem+json", text, sizeof text - 1, HTTP_BORROWED);
}

void http_reply_json(struct http_request *request, int status, json_t *json)
{
    size_t size = 0;
    char *text = json ? json_text_print_line(json, JSON_COMPACT | JSON_REAL_PRECISION(15), &size, NULL) : NULL;
    json_decref(json);
    if (text)
        http_reply(request, status, "application/json", text, size, HTTP_TAKEN);
    else
        reply_no_memory(request);
}

void http_reply_problem(struct http_request *request, const struct problem *problem)
{
    struct problem_document document;
    if (!problem_write(problem, request->path, &document)) {
        reply_no_memory(request);
        return;
    }
    /* OpenAI's clients repeat a request after every 503, unless this header forbids it. */
    if (problem->final)
        http_reply_header(request, "X-Should-Retry", "false");
    else if (problem->status == 503)
        http_reply_header(request, "Retry-After", "1");
    http_reply(request, document.status, document.content_type, document.text, document.size, HTTP_TAKEN);
}

void http_reply_refusal(struct http_request *request)
{
    if (request->refused) return; /* with a reply */
    if (request->problem.status == 405) http_reply_header(request, "Allow", request->allow);
    if (request->problem.status == 429) http_reply_header(request, "Retry-After", "1");
    http_reply_problem(request, &request->problem);
}

void http_reply_nothing(struct http_request *request)
{
    request->reply.kind = REPLY_NOTHING;
    request->reply.status = STATUS_CLIENT_LEFT;
}

void http_reply_header(struct http_request *request, const char *name, const char *value)
{
    struct reply *reply = &request->reply;
    if (reply->header_count == MAX_EXTRAS) return;
    reply->headers[reply->header_count].name = name;
    reply->headers[reply->header_count++].value = value;
}

void http_reply_stream(struct http_request *request, int status, const char *content_type, struct http_stream *stream)
{
    struct reply *reply = &request->reply;
    reply->kind = REPLY_STREAM;
    reply->status = status;
    reply->content_type = content_type;
    reply->stream = stream;
    stream->connection = request->connection;
    stream->library = request->server->library;
    /* Leave stream->state: whoever writes the stream may have called http_stream_wake() already. */
}
