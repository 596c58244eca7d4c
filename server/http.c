#include "server/http.h"

#include <arpa/inet.h>
#include <errno.h>
#include <math.h>
#include <microhttpd.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/eventfd.h>
#include <sys/random.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/clock.h"
#include "model/json_text.h"
#include "server/listen.h"
#include "server/watch.h"
#include "server/worker.h"

#define LARGE_BODY         ((size_t)64 * 1024)          /* bytes beyond which the worker handles a request */
#define LINGER_BYTES       ((uint64_t)16 * 1024 * 1024) /* read and thrown away behind an early refusal */
#define REQUEST_ID_SIZE    129                          /* 128 characters and a NUL */
#define STATUS_CLIENT_LEFT 499                          /* in the log only, as nginx writes it */
#define MAX_EXTRAS         8                            /* reply headers, log fields */
#define STREAM_BLOCK       ((size_t)8 * 1024)           /* bytes of a stream that are read at once */

struct http_server {
    struct http_options options;
    struct MHD_Daemon *daemon;
    struct worker *worker;
    struct watch *watch;
    struct listen_address address;
    uint32_t boot;               /* random; makes generated ids differ between runs */
    atomic_uint_fast64_t serial; /* of generated ids */
    atomic_size_t open;          /* requests between handler and reply sent */
    atomic_bool draining;
    int idle_fd;
};

enum stage {
    STAGE_HEADERS, /* the request line has come */
    STAGE_BODY,
    STAGE_LINGER,  /* refused already; the rest of the body is thrown away */
    STAGE_WAITING, /* suspended */
    STAGE_REPLIED,
};

struct reply {
    enum { REPLY_NONE, REPLY_DATA, REPLY_STREAM, REPLY_NOTHING } kind;
    int status;
    const char *content_type;
    const char *body;
    size_t size; /* of a stream: bytes that were read from it */
    struct http_stream *stream;
    bool stream_ended;
    enum http_ownership ownership;
    struct {
        const char *name, *value;
    } headers[MAX_EXTRAS];
    size_t header_count;
};

/* Lives as long as a socket; only the HTTP thread touches it. */
struct http_connection {
    struct http_request *request; /* the one that is going on, or NULL */
};

struct http_request {
    struct task task; /* first: the worker's tasks are requests */
    struct http_server *server;
    struct MHD_Connection *connection;
    enum stage stage;
    char id[REQUEST_ID_SIZE];
    char method[16];
    char *target;     /* as it came, cut at the "?" */
    const char *path; /* into target */
    const char *query_text;
    char *parameter;
    char allow[64]; /* methods of the path */
    char client[INET6_ADDRSTRLEN];
    const char *pattern; /* of the path, for the log; "-" for none */
    const struct http_route *route;
    struct query query;
    struct problem problem; /* what the headers alone show to be wrong */
    bool refused;           /* by authorise(), which has set the reply; the body is thrown away */
    bool too_large;         /* the body will be, by its Content-Length */
    char *body;
    size_t body_size, body_capacity;
    uint64_t received; /* body bytes, kept or not */
    uint64_t begun_ns;
    bool counted; /* in server->open */
    bool suspended, watched;
    struct http_waiter waiter;
    struct watch_entry watch;
    struct reply reply;
    void (*release)(void *context);
    void *release_context;
    struct log_field log[MAX_EXTRAS];
    size_t log_count;
};

/* --- What handlers call --- */

const char *http_request_id(const struct http_request *request)
{
    return request->id;
}

const char *http_request_path(const struct http_request *request)
{
    return request->path;
}

const char *http_request_body(const struct http_request *request, size_t *size)
{
    *size = request->body_size;
    return request->body ? request->body : "";
}

const char *http_request_header(const struct http_request *request, const char *name)
{
    return MHD_lookup_connection_value(request->connection, MHD_HEADER_KIND, name);
}

const char *http_request_client(struct http_request *request)
{
    const union MHD_ConnectionInfo *info =
        MHD_get_connection_info(request->connection, MHD_CONNECTION_INFO_CLIENT_ADDRESS);
    const struct sockaddr *address = info ? info->client_addr : NULL;
    if (address && address->sa_family == AF_INET)
        inet_ntop(AF_INET, &((const struct sockaddr_in *)address)->sin_addr, request->client, sizeof request->client);
    else if (address && address->sa_family == AF_INET6)
        inet_ntop(AF_INET6, &((const struct sockaddr_in6 *)address)->sin6_addr, request->client,
                  sizeof request->client);
    return request->client;
}

const struct query *http_request_query(const struct http_request *request)
{
    return &request->query;
}

bool http_request_is_head(const struct http_request *request)
{
    return strcmp(request->method, "HEAD") == 0;
}

const char *http_request_parameter(const struct http_request *request)
{
    return request->parameter;
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
                               "\"detail\":\"out of memory\"}";
    http_reply_header(request, "Retry-After", "1");
    http_reply(request, 503, "application/problem+json", text, sizeof text - 1, HTTP_BORROWED);
}

void http_reply_json(struct http_request *request, int status, json_t *json)
{
    size_t size = 0;
    char *text = json ? json_text_print(json, JSON_COMPACT | JSON_REAL_PRECISION(15), &size, NULL) : NULL;
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
    if (problem->status == 503) http_reply_header(request, "Retry-After", "1");
    http_reply(request, document.status, document.content_type, document.text, document.size, HTTP_TAKEN);
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
    /* state: left as it is; whoever writes the stream may have called http_stream_wake() already. */
}

static void watch_connection(struct http_request *request, const struct watch_entry *entry)
{
    const union MHD_ConnectionInfo *info =
        MHD_get_connection_info(request->connection, MHD_CONNECTION_INFO_CONNECTION_FD);
    if (!info) return;
    request->watch = *entry;
    request->watch.fd = info->connect_fd;
    request->watched = true;
    watch_add(request->server->watch, &request->watch);
}

static void unwatch_connection(struct http_request *request)
{
    if (request->watched) watch_remove(request->server->watch, &request->watch);
    request->watched = false;
}

void http_request_suspend(struct http_request *request, const struct http_waiter *waiter)
{
    request->waiter = *waiter;
    if (!request->suspended) {
        request->suspended = true;
        request->stage = STAGE_WAITING;
        MHD_suspend_connection(request->connection);
    }
    if (waiter->gone)
        watch_connection(request, &(struct watch_entry){.gone = waiter->gone, .context = waiter->context});
}

void http_request_resume(struct http_request *request)
{
    unwatch_connection(request);
    MHD_resume_connection(request->connection);
}

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
    if (atomic_exchange(&stream->state, STREAM_POKED) == STREAM_PARKED) MHD_resume_connection(stream->connection);
}

static void park(struct http_stream *stream)
{
    MHD_suspend_connection(stream->connection);
    int awake = STREAM_AWAKE;
    if (!atomic_compare_exchange_strong(&stream->state, &awake, STREAM_PARKED))
        MHD_resume_connection(stream->connection);
}

static ssize_t read_stream(void *context, uint64_t position, char *out, size_t size)
{
    (void)position;
    struct http_request *request = context;
    struct http_stream *stream = request->reply.stream;
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

static void set_timeout(struct http_request *request, double seconds)
{
    MHD_set_connection_option(request->connection, MHD_CONNECTION_OPTION_TIMEOUT, (unsigned)ceil(seconds));
}

static struct MHD_Response *open_stream(struct http_request *request)
{
    struct http_stream *stream = request->reply.stream;
    watch_connection(request, &(struct watch_entry){.gone = stream_gone,
                                                    .due = stream_due,
                                                    .context = stream,
                                                    .period_ns = (uint64_t)(stream->quiet_seconds * 1e9)});
    set_timeout(request, request->server->options.write_timeout);
    return MHD_create_response_from_callback(MHD_SIZE_UNKNOWN, STREAM_BLOCK, read_stream, request, NULL);
}

static void close_stream(struct http_request *request, bool complete)
{
    struct reply *reply = &request->reply;
    if (reply->kind != REPLY_STREAM) return;
    unwatch_connection(request);
    if (http_request_is_head(request)) reply->stream_ended = true;
    complete = complete && reply->stream_ended;
    if (!complete) reply->status = STATUS_CLIENT_LEFT;
    reply->stream->over(request, complete, reply->stream->context);
    set_timeout(request, request->server->options.idle_timeout);
}

/* --- Sending --- */

static void add_header(struct MHD_Response *response, const char *name, const char *value)
{
    MHD_add_response_header(response, name, value);
}

static enum MHD_Result send_reply(struct http_request *request)
{
    struct reply *reply = &request->reply;
    if (reply->kind != REPLY_DATA && reply->kind != REPLY_STREAM) return MHD_NO;
    enum MHD_ResponseMemoryMode mode = reply->ownership == HTTP_TAKEN ? MHD_RESPMEM_MUST_FREE : MHD_RESPMEM_PERSISTENT;
    struct MHD_Response *response =
        reply->kind == REPLY_STREAM
            ? open_stream(request)
            : MHD_create_response_from_buffer(reply->size, (void *)(uintptr_t)reply->body, mode);
    if (!response) return MHD_NO;
    reply->ownership = HTTP_BORROWED; /* the response frees it */
    if (reply->content_type) add_header(response, MHD_HTTP_HEADER_CONTENT_TYPE, reply->content_type);
    add_header(response, "X-Request-Id", request->id);
    add_header(response, "X-Content-Type-Options", "nosniff");
    for (size_t i = 0; i < reply->header_count; i++)
        add_header(response, reply->headers[i].name, reply->headers[i].value);
    if (atomic_load(&request->server->draining)) add_header(response, MHD_HTTP_HEADER_CONNECTION, "close");
    enum MHD_Result result = MHD_queue_response(request->connection, (unsigned)reply->status, response);
    MHD_destroy_response(response);
    request->stage = STAGE_REPLIED;
    return result;
}

/* authorise() has set its reply already; else the problem becomes one. */
static void set_refusal(struct http_request *request)
{
    if (request->refused) return;
    if (request->problem.status == 405) http_reply_header(request, MHD_HTTP_HEADER_ALLOW, request->allow);
    http_reply_problem(request, &request->problem);
}

/* Sends the reply before the body has come. libmicrohttpd would close the socket over the unread rest, and the reset
 * that follows may reach the client before the answer; so the answer is written at once, and the rest read and thrown
 * away. */
static enum MHD_Result send_early(struct http_request *request)
{
    const struct reply *reply = &request->reply;
    char head[2048];
    size_t n = (size_t)snprintf(head, sizeof head,
                                "HTTP/1.1 %d %s\r\nContent-Type: %s\r\nContent-Length: %zu\r\n"
                                "X-Request-Id: %s\r\nConnection: close\r\n",
                                reply->status, http_status_reason(reply->status), reply->content_type, reply->size,
                                request->id);
    for (size_t i = 0; i < reply->header_count && n < sizeof head; i++)
        n += (size_t)snprintf(head + n, sizeof head - n, "%s: %s\r\n", reply->headers[i].name, reply->headers[i].value);
    if (n + 2 >= sizeof head) return MHD_NO;
    memcpy(head + n, "\r\n", 2);
    n += 2;
    const union MHD_ConnectionInfo *info =
        MHD_get_connection_info(request->connection, MHD_CONNECTION_INFO_CONNECTION_FD);
    request->stage = STAGE_LINGER;
    const bool sent = info && send(info->connect_fd, head, n, MSG_NOSIGNAL | MSG_MORE) == (ssize_t)n &&
                      send(info->connect_fd, reply->body, reply->size, MSG_NOSIGNAL) == (ssize_t)reply->size;
    return sent ? MHD_YES : MHD_NO;
}

static enum MHD_Result refuse_early(struct http_request *request)
{
    set_refusal(request);
    return send_early(request);
}

/* --- Receiving --- */

static struct http_connection *connection_of(struct MHD_Connection *connection)
{
    const union MHD_ConnectionInfo *info = MHD_get_connection_info(connection, MHD_CONNECTION_INFO_SOCKET_CONTEXT);
    return info ? info->socket_context : NULL;
}

static void *request_new(void *context, const char *target, struct MHD_Connection *connection)
{
    struct http_connection *owner = connection_of(connection);
    if (!owner) return NULL;
    struct http_request *request = calloc(1, sizeof *request);
    if (!request) return NULL;
    request->server = context;
    request->connection = connection;
    request->begun_ns = clock_monotonic_ns();
    request->pattern = "-";
    request->path = request->target = strdup(target);
    request->parameter = calloc(1, strlen(target) + 1);
    owner->request = request;
    return request;
}

static bool id_is_sane(const char *id)
{
    size_t n = id ? strlen(id) : 0;
    return n > 0 && n < REQUEST_ID_SIZE &&
           strspn(id, "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789._-") == n;
}

static void choose_id(struct http_request *request)
{
    const char *given = http_request_header(request, "X-Request-Id");
    if (id_is_sane(given))
        strcpy(request->id, given);
    else
        snprintf(request->id, sizeof request->id, "%08x-%08llx", request->server->boot,
                 (unsigned long long)atomic_fetch_add(&request->server->serial, 1) + 1);
}

/* "/a?b" -> "/a" and "b"; "http://host/a" (a request that was meant for a proxy) -> "/a". */
static void split_target(struct http_request *request)
{
    char *question = strchr(request->target, '?');
    if (question) *question = '\0';
    request->query_text = question ? question + 1 : "";
    if (strncasecmp(request->target, "http://", 7) != 0) return;
    const char *slash = strchr(request->target + 7, '/');
    request->path = slash ? slash : "/";
}

static void add_allowed(struct http_request *request, const char *method)
{
    size_t used = strlen(request->allow);
    if (strstr(request->allow, method)) return;
    snprintf(request->allow + used, sizeof request->allow - used, "%s%s", used ? ", " : "", method);
    if (strcmp(method, "GET") == 0) add_allowed(request, "HEAD");
}

/* Finds the route and the methods that the path has; says 404 or 405 in request->problem. */
static void find_route(struct http_request *request)
{
    const struct http_options *options = &request->server->options;
    const char *method = strcmp(request->method, "HEAD") == 0 ? "GET" : request->method;
    const bool everything = strcmp(request->path, "*") == 0 && strcmp(method, "OPTIONS") == 0;
    for (size_t i = 0; i < options->route_count; i++) {
        const struct http_route *route = &options->routes[i];
        if (!everything && !path_match(route->pattern, request->path, request->parameter)) continue;
        add_allowed(request, route->method);
        request->pattern = route->pattern;
        if (!request->route && strcmp(route->method, method) == 0) request->route = route;
    }
    /* Later patterns have used the buffer, too. */
    if (request->route) path_match(request->route->pattern, request->path, request->parameter);
    if (!*request->allow)
        problem_set(&request->problem, 404, "there is nothing at %s", request->path);
    else if (!request->route && strcmp(method, "OPTIONS") != 0)
        problem_set(&request->problem, 405, "%s does not serve %s; it serves %s", request->path, request->method,
                    request->allow);
    add_allowed(request, "OPTIONS");
}

static bool has_body(const struct http_request *request)
{
    const char *length = http_request_header(request, MHD_HTTP_HEADER_CONTENT_LENGTH);
    return http_request_header(request, MHD_HTTP_HEADER_TRANSFER_ENCODING) || (length && strcmp(length, "0") != 0);
}

static void check_content_type(struct http_request *request)
{
    static const char wanted[] = "application/json";
    if (!request->route || request->problem.status || strcmp(request->method, "GET") == 0 || !has_body(request)) return;
    const char *type = http_request_header(request, MHD_HTTP_HEADER_CONTENT_TYPE);
    if (type && strncasecmp(type, wanted, sizeof wanted - 1) == 0) {
        const char *rest = type + sizeof wanted - 1;
        rest += strspn(rest, " \t");
        if (*rest == '\0' || *rest == ';') return;
    }
    problem_set(&request->problem, 415, "the body must have the header Content-Type: %s; it has %s", wanted,
                type ? type : "none");
}

static void set_too_large(struct http_request *request)
{
    problem_set(&request->problem, 413, "the body is larger than limits.max_body, %zu bytes",
                request->server->options.max_body);
}

static void authorise(struct http_request *request)
{
    const struct http_options *options = &request->server->options;
    if (!request->route || !options->authorise) return;
    request->refused = !options->authorise(request, request->route->scope, options->context);
}

static void check_length(struct http_request *request)
{
    const char *length = http_request_header(request, MHD_HTTP_HEADER_CONTENT_LENGTH);
    if (!length || strtoull(length, NULL, 10) <= request->server->options.max_body) return;
    request->too_large = true;
    set_too_large(request);
}

/* What the head decides; runs once it is complete. */
static enum MHD_Result begin(struct http_request *request, const char *method)
{
    if (!request->target || !request->parameter) return MHD_NO;
    snprintf(request->method, sizeof request->method, "%s", method);
    choose_id(request);
    split_target(request);
    find_route(request);
    authorise(request);
    check_content_type(request);
    check_length(request);
    request->stage = STAGE_BODY;
    if (!request->refused && !request->problem.status) return MHD_YES;
    if (http_request_header(request, MHD_HTTP_HEADER_EXPECT)) { /* nothing of the body is on its way */
        set_refusal(request);
        return send_reply(request);
    }
    return request->too_large ? refuse_early(request) : MHD_YES;
}

static enum MHD_Result receive(struct http_request *request, const char *data, size_t size)
{
    request->received += size;
    if (request->stage == STAGE_LINGER) return request->received < LINGER_BYTES ? MHD_YES : MHD_NO;
    const size_t max_body = request->server->options.max_body;
    if (request->received > max_body) {
        set_too_large(request);
        return refuse_early(request);
    }
    if (request->refused || request->problem.status) return MHD_YES;
    const size_t wanted = request->body_size + size;
    if (wanted > request->body_capacity) {
        size_t capacity = request->body_capacity ? request->body_capacity : 1024;
        while (capacity < wanted) capacity *= 2;
        char *body = realloc(request->body, capacity);
        if (!body) {
            problem_set(&request->problem, 503, "out of memory");
            return MHD_YES;
        }
        request->body = body;
        request->body_capacity = capacity;
    }
    memcpy(request->body + request->body_size, data, size);
    request->body_size = wanted;
    return MHD_YES;
}

static void run_in_worker(struct task *task)
{
    struct http_request *request = (struct http_request *)task;
    if (request->route->handler(request, request->server->options.context) == HTTP_REPLIED)
        http_request_resume(request);
}

/* The request is complete: a reply that the HTTP thread knows itself, or the route's handler. */
static enum MHD_Result dispatch(struct http_request *request)
{
    struct http_server *server = request->server;
    struct error err = {0};
    atomic_fetch_add(&server->open, 1);
    request->counted = true;
    if (!request->refused && !request->problem.status && !query_parse(&request->query, request->query_text, &err))
        problem_set(&request->problem, err.code == ERROR_INVALID ? 400 : 503, "%s", err.message);
    if (request->refused || request->problem.status) {
        set_refusal(request);
    } else if (!request->route) { /* OPTIONS */
        http_reply_header(request, MHD_HTTP_HEADER_ALLOW, request->allow);
        http_reply(request, 204, NULL, "", 0, HTTP_BORROWED);
    } else if (request->body_size > LARGE_BODY) {
        request->task.run = run_in_worker;
        http_request_suspend(request, &(struct http_waiter){0});
        if (worker_submit(server->worker, &request->task)) return MHD_YES;
        problem_set(&request->problem, 503, "the daemon is shutting down");
        set_refusal(request);
        http_request_resume(request);
        return MHD_YES;
    } else if (request->route->handler(request, server->options.context) == HTTP_LATER) {
        return MHD_YES;
    }
    return send_reply(request);
}

/* Called again once the connection was resumed. */
static enum MHD_Result wake(struct http_request *request)
{
    request->suspended = false;
    if (request->reply.kind == REPLY_NONE) request->waiter.resumed(request, request->waiter.context);
    return send_reply(request);
}

static enum MHD_Result handle(void *context, struct MHD_Connection *connection, const char *url, const char *method,
                              const char *version, const char *data, size_t *size, void **slot)
{
    (void)context, (void)connection, (void)url, (void)version;
    struct http_request *request = *slot;
    if (!request) return MHD_NO; /* out of memory in request_new() */
    switch (request->stage) {
    case STAGE_HEADERS:
        return begin(request, method);
    case STAGE_WAITING:
        return wake(request);
    case STAGE_REPLIED:
        return MHD_NO;
    case STAGE_BODY:
    case STAGE_LINGER:
        break;
    }
    if (*size > 0) {
        const size_t n = *size;
        *size = 0;
        return receive(request, data, n);
    }
    return request->stage == STAGE_BODY ? dispatch(request) : MHD_NO;
}

/* --- The end of a request --- */

static void log_access(const struct http_request *request)
{
    const bool head = http_request_is_head(request);
    struct log_field fields[6 + MAX_EXTRAS + 1] = {
        LOG_TEXT("id", request->id),
        LOG_TEXT("method", request->method),
        LOG_TEXT("route", request->pattern),
        LOG_INTEGER("status", request->reply.status),
        LOG_INTEGER("bytes", head ? 0 : request->reply.size),
        LOG_REAL("ms", (double)(clock_monotonic_ns() - request->begun_ns) * 1e-6),
    };
    memcpy(fields + 6, request->log, request->log_count * sizeof *fields);
    log_write(LOG_INFO, "request", fields);
}

static void request_free(struct http_request *request)
{
    struct http_server *server = request->server;
    if (request->release) request->release(request->release_context);
    if (request->reply.ownership == HTTP_TAKEN) free((void *)(uintptr_t)request->reply.body);
    if (request->counted && atomic_fetch_sub(&server->open, 1) == 1) eventfd_write(server->idle_fd, 1);
    problem_close(&request->problem);
    query_close(&request->query);
    free(request->body);
    free(request->parameter);
    free(request->target);
    free(request);
}

/* libmicrohttpd noticed before the handler did that the client has left: the log still gets the handler's numbers. */
static void note_lost(struct http_request *request)
{
    if (request->stage == STAGE_REPLIED || request->stage == STAGE_LINGER) return;
    if (request->stage == STAGE_WAITING && request->reply.kind == REPLY_NONE && request->waiter.resumed)
        request->waiter.resumed(request, request->waiter.context);
    request->reply.status = STATUS_CLIENT_LEFT;
}

static void request_over(void *context, struct MHD_Connection *connection, void **slot,
                         enum MHD_RequestTerminationCode code)
{
    (void)context;
    struct http_request *request = *slot;
    struct http_connection *owner = connection_of(connection);
    *slot = NULL;
    if (!request || !owner) return;
    owner->request = NULL;
    note_lost(request);
    close_stream(request, code == MHD_REQUEST_TERMINATED_COMPLETED_OK);
    if (request->stage != STAGE_HEADERS) log_access(request);
    request_free(request);
}

/* libmicrohttpd never says that a request is over whose query string it found too long; its connection ends, though. */
static void connection_changed(void *context, struct MHD_Connection *connection, void **slot,
                               enum MHD_ConnectionNotificationCode code)
{
    (void)context, (void)connection;
    struct http_connection *owner = *slot;
    if (code == MHD_CONNECTION_NOTIFY_STARTED) {
        *slot = calloc(1, sizeof *owner);
        return;
    }
    if (owner && owner->request) request_free(owner->request);
    free(owner);
}

static void log_library(void *context, const char *format, va_list arguments)
{
    (void)context;
    char text[256];
    if (!log_enabled(LOG_DEBUG)) return;
    vsnprintf(text, sizeof text, format, arguments);
    log_event(LOG_DEBUG, "libmicrohttpd", LOG_TEXT("text", text));
}

/* --- The server --- */

static bool start_library(struct http_server *server, struct error *err)
{
    int fd = listen_open(server->options.listen, server->options.port, &server->address, err);
    if (fd < 0) return false;
    const unsigned flags = MHD_USE_EPOLL_INTERNAL_THREAD | MHD_ALLOW_SUSPEND_RESUME | MHD_USE_ERROR_LOG;
    server->daemon = MHD_start_daemon(flags, 0, NULL, NULL, handle, server, MHD_OPTION_EXTERNAL_LOGGER, log_library,
                                      NULL, MHD_OPTION_LISTEN_SOCKET, fd, MHD_OPTION_CONNECTION_LIMIT,
                                      (unsigned)server->options.max_connections, MHD_OPTION_CONNECTION_TIMEOUT,
                                      (unsigned)ceil(server->options.idle_timeout), MHD_OPTION_NOTIFY_COMPLETED,
                                      request_over, server, MHD_OPTION_NOTIFY_CONNECTION, connection_changed, server,
                                      MHD_OPTION_URI_LOG_CALLBACK, request_new, server, MHD_OPTION_END);
    if (server->daemon) return true;
    close(fd);
    return error_set(err, ERROR_IO, "cannot start the HTTP server");
}

struct http_server *http_server_new(const struct http_options *options, struct error *err)
{
    struct http_server *server = calloc(1, sizeof *server);
    if (!server) {
        error_set_no_memory(err, sizeof *server, "the HTTP server");
        return NULL;
    }
    server->options = *options;
    server->idle_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (server->idle_fd < 0 || getrandom(&server->boot, sizeof server->boot, 0) != (ssize_t)sizeof server->boot)
        error_set_errno(err, errno, "cannot start the HTTP server");
    else if ((server->watch = watch_new(err)) && (server->worker = worker_new(err)) && start_library(server, err))
        return server;
    http_server_free(server);
    return NULL;
}

void http_server_free(struct http_server *server)
{
    if (!server) return;
    if (server->worker) worker_stop(server->worker);
    if (server->daemon) MHD_stop_daemon(server->daemon);
    worker_free(server->worker);
    watch_free(server->watch);
    if (server->idle_fd >= 0) close(server->idle_fd);
    free(server);
}

const char *http_server_address(const struct http_server *server)
{
    return server->address.text;
}

uint16_t http_server_port(const struct http_server *server)
{
    return server->address.port;
}

size_t http_server_open_requests(struct http_server *server)
{
    return atomic_load(&server->open);
}

int http_server_idle_fd(const struct http_server *server)
{
    return server->idle_fd;
}

void http_server_drain(struct http_server *server)
{
    atomic_store(&server->draining, true);
}
