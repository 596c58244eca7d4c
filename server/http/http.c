#include "server/http/http.h"

#include <errno.h>
#include <limits.h>
#include <math.h>
#include <microhttpd.h>
#include <poll.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/eventfd.h>
#include <sys/random.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/priority.h"
#include "server/http/internal.h"

/* The library has one piece of memory for a connection, and all of it becomes resident when the first request is over,
 * since it is cleared for the next: an idle connection costs what this holds. That is a head, what was made of it, and
 * beside them room for the head of a reply, twice: up to half of what a head leaves can be filled with the beginning of
 * the next request. What was read of a body is gone by then. */
#define FIELD_MEMORY ((size_t)64) /* what the library notes of a header or cookie (0.9.75: 56 bytes, aligned) */
#define REPLY_MEMORY ((size_t)1536)

#define EXHAUSTED_MS 100 /* until descriptors are asked for again when there were none */
#define STUCK_ROUNDS 64  /* in which the library wants to be called at once, until it is not believed any more */

/* --- Waiting --- */

void http_request_suspend(struct http_request *request, const struct http_waiter *waiter)
{
    request->waiter = *waiter;
    if (!request->suspended) {
        request->suspended = true;
        request->stage = STAGE_WAITING;
        MHD_suspend_connection(request->connection);
    }
    http_guard_calls(request, &(struct watch_calls){.gone = waiter->gone, .context = waiter->context});
}

/* The library wakes the threads that it has started itself, and nobody else. */
void http_resume(struct http_server *server, struct MHD_Connection *connection)
{
    MHD_resume_connection(connection);
    eventfd_write(server->poke_fd, 1);
}

void http_request_resume(struct http_request *request)
{
    http_guard_calls(request, NULL);
    http_resume(request->server, request->connection);
}

void http_set_timeout(struct http_request *request, double seconds)
{
    MHD_set_connection_option(request->connection, MHD_CONNECTION_OPTION_TIMEOUT, (unsigned)ceil(seconds));
}

/* --- What the library calls --- */

const char *http_request_header(const struct http_request *request, const char *name)
{
    return MHD_lookup_connection_value(request->connection, MHD_HEADER_KIND, name);
}

struct visit {
    bool (*visit)(void *context, const struct http_field *field);
    void *context;
};

static enum MHD_Result visit_field(void *context, enum MHD_ValueKind kind, const char *name, size_t name_size,
                                   const char *value, size_t value_size)
{
    const struct visit *visit = context;
    (void)kind;
    const struct http_field field = {name, value ? value : "", name_size, value_size};
    return visit->visit(visit->context, &field) ? MHD_YES : MHD_NO;
}

void http_visit_fields(const struct http_request *request, bool (*visit)(void *context, const struct http_field *field),
                       void *context)
{
    struct visit visitor = {visit, context};
    MHD_get_connection_values_n(request->connection, MHD_HEADER_KIND, visit_field, &visitor);
}

struct last_header {
    const char *name, *value;
};

static bool keep_last(void *context, const struct http_field *field)
{
    struct last_header *last = context;
    if (strcasecmp(field->name, last->name) == 0) last->value = field->value;
    return true;
}

const char *http_last_header(const struct http_request *request, const char *name)
{
    struct last_header last = {.name = name};
    http_visit_fields(request, keep_last, &last);
    return last.value;
}

size_t http_head_size(const struct http_request *request)
{
    const union MHD_ConnectionInfo *info =
        MHD_get_connection_info(request->connection, MHD_CONNECTION_INFO_REQUEST_HEADER_SIZE);
    return info ? info->header_size : 0;
}

size_t http_head_memory(const struct http_request *request)
{
    const int fields = MHD_get_connection_values(request->connection, MHD_HEADER_KIND | MHD_COOKIE_KIND, NULL, NULL);
    const char *cookies = http_request_header(request, MHD_HTTP_HEADER_COOKIE); /* of which it keeps a copy */
    return http_head_size(request) + FIELD_MEMORY * (size_t)fields + (cookies ? strlen(cookies) : 0);
}

static struct http_connection *connection_of(struct MHD_Connection *connection)
{
    const union MHD_ConnectionInfo *info = MHD_get_connection_info(connection, MHD_CONNECTION_INFO_SOCKET_CONTEXT);
    return info ? info->socket_context : NULL;
}

/* What the library would read the parameters of, once it has shown us the target, is its own buffer. It must not: where
 * its memory does not suffice for them, it answers 414, forgets that it did, and may end the process (0.9.75). */
static void cut_query(const char *target)
{
    char *question = strchr((char *)(uintptr_t)target, '?');
    if (question && question[1]) question[1] = '\0';
}

static void *request_new(void *context, const char *target, struct MHD_Connection *connection)
{
    struct http_connection *owner = connection_of(connection);
    if (!owner) return NULL;
    owner->server->calls++;
    struct http_request *request = calloc(1, sizeof *request);
    if (!request) return NULL;
    request->server = context;
    request->owner = owner;
    request->connection = connection;
    request->begun_ns = clock_monotonic_ns();
    request->pattern = "-";
    request->target_size = strlen(target);
    request->path = request->target = strdup(target);
    request->parameter = calloc(1, request->target_size + 1);
    owner->request = request;
    TAILQ_INSERT_TAIL(&owner->server->requests, request, link);
    cut_query(target);
    return request;
}

static enum MHD_Result handle(void *context, struct MHD_Connection *connection, const char *url, const char *method,
                              const char *version, const char *data, size_t *size, void **slot)
{
    (void)context, (void)connection;
    struct http_request *request = *slot;
    if (!request) return MHD_NO; /* out of memory in request_new() */
    request->server->calls++;
    if (request->stage == STAGE_PIECE) {
        request->suspended = false;
        request->stage = STAGE_BODY;
        http_guard_body(request);
    }
    bool good = false;
    switch (request->stage) {
    case STAGE_HEADERS:
        good = http_begin(request, &(struct http_head){method, url, version});
        break;
    case STAGE_WAITING:
        good = http_wake(request);
        break;
    case STAGE_BODY:
    case STAGE_LINGER:
        if (*size > 0) {
            size_t taken = 0;
            good = http_receive(request, data, *size, &taken);
            *size -= taken;
        } else {
            good = request->stage == STAGE_BODY && http_dispatch(request);
        }
        break;
    case STAGE_PIECE:
    case STAGE_REPLIED:
        break;
    }
    return good ? MHD_YES : MHD_NO;
}

/* --- The end of a request --- */

static void log_access(const struct http_request *request)
{
    const struct http_options *options = &request->server->options;
    const struct http_account account = {
        .route = request->pattern,
        .status = request->reply.status,
        .seconds = (double)(clock_monotonic_ns() - request->begun_ns) * 1e-9,
        .bytes_in = request->received,
        .bytes_out = http_request_is_head(request) ? 0 : request->reply.size,
    };
    if (options->account) options->account(&account, options->context);
    struct log_field fields[9 + MAX_EXTRAS + 1] = {
        LOG_TEXT("id", request->id),
        LOG_TEXT("trace", *request->trace ? request->trace : NULL),
        LOG_TEXT("client", *request->client ? request->client : NULL),
        LOG_TEXT("method", request->method),
        LOG_TEXT("route", request->pattern),
        LOG_INTEGER("status", account.status),
        LOG_INTEGER("bytes_in", account.bytes_in),
        LOG_INTEGER("bytes", account.bytes_out),
        LOG_REAL("ms", account.seconds * 1e3),
    };
    memcpy(fields + 9, request->log, request->log_count * sizeof *fields);
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
    http_drop_body(request);
    free(request->parameter);
    free(request->target);
    free(request);
}

/* Of the reply that the library itself has made (the body's chunks were wrong), or 0. */
static int library_status(const struct http_request *request)
{
    const union MHD_ConnectionInfo *info =
        MHD_get_connection_info(request->connection, MHD_CONNECTION_INFO_HTTP_STATUS);
    return info ? (int)info->http_status : 0;
}

/* The library noticed before the handler did that the client has left, or it has refused the request: the log still
 * gets the handler's numbers. */
static void note_lost(struct http_request *request, bool complete)
{
    if (request->stage == STAGE_LINGER || (request->stage == STAGE_REPLIED && complete)) return;
    const int status = request->stage == STAGE_REPLIED ? 0 : library_status(request);
    if (request->stage == STAGE_WAITING && request->reply.kind == REPLY_NONE && request->waiter.resumed)
        request->waiter.resumed(request, request->waiter.context);
    request->reply.status = status ? status : atomic_load(&request->owner->late) ? 408 : STATUS_CLIENT_LEFT;
}

/* complete: the reply was sent. */
static void end_request(struct http_request *request, bool complete)
{
    request->owner->request = NULL;
    TAILQ_REMOVE(&request->server->requests, request, link);
    note_lost(request, complete);
    http_upload_abandon(request);
    http_close_stream(request, complete);
    if (request->stage != STAGE_HEADERS) log_access(request);
}

static void request_over(void *context, struct MHD_Connection *connection, void **slot,
                         enum MHD_RequestTerminationCode code)
{
    (void)context;
    struct http_request *request = *slot;
    struct http_connection *owner = connection_of(connection);
    *slot = NULL;
    if (!request || !owner) return;
    end_request(request, code == MHD_REQUEST_TERMINATED_COMPLETED_OK);
    if (request->last) http_guard_drain(owner);
    http_set_timeout(request, 0);
    http_guard_head(owner);
    http_pool_rest(owner);
    if (owner->behind) http_client_uncount(owner);
    request_free(request);
}

/* The library does not always tell of a request's end: where a head has two faults, it closes the connection at the
 * second one without a word (0.9.75). Whatever it did, a request ends with its connection. */
static void connection_over(struct http_connection *owner)
{
    struct http_request *request = owner->request;
    if (request) {
        http_guard_calls(request, NULL); /* it may still be watched, and is freed before its connection */
        end_request(request, false);
        request_free(request);
    }
    http_connection_free(owner);
}

static void connection_changed(void *context, struct MHD_Connection *connection, void **slot,
                               enum MHD_ConnectionNotificationCode code)
{
    struct http_server *server = context;
    (void)connection;
    server->calls++;
    if (code == MHD_CONNECTION_NOTIFY_STARTED)
        *slot = server->accepted;
    else
        connection_over(*slot);
}

void http_add_connection(struct http_connection *owner, const struct sockaddr *address, socklen_t size)
{
    struct http_server *server = owner->server;
    server->accepted = owner;
    const bool good = MHD_add_connection(server->library, owner->fd, address, size) == MHD_YES;
    if (!good && server->accepted) http_connection_free(owner); /* else it was told of, and freed, already */
    server->accepted = NULL;
}

/* --- What the library refuses itself --- */

static const char refusal[] = "Error processing request (HTTP response code is ";

bool http_comes_in_chunks(const struct http_request *request)
{
    return (request->stage == STAGE_BODY || request->stage == STAGE_PIECE || request->stage == STAGE_LINGER) &&
           http_request_header(request, MHD_HTTP_HEADER_TRANSFER_ENCODING);
}

/* Which request the library's log speaks of. One whose head is complete and that was not begun with: the library goes
 * from the one to the other in one go, so there is one at most. Else, if only one comes in question, it is this one:
 * for a wrong chunk a body in chunks; for a head or trailer that is too large one of those, or a head that is not
 * complete. NULL: not known. */
static struct http_request *find_refused(const struct http_server *server, const char *text, int status)
{
    const bool chunk = strstr(text, "chunk");
    size_t count = 0;
    struct http_request *request, *found = NULL;
    TAILQ_FOREACH(request, &server->requests, link)
    {
        const bool head = request->stage == STAGE_HEADERS;
        if (head && http_head_size(request) > 0) return request;
        if ((head && status == 431) || ((chunk || status == 431) && http_comes_in_chunks(request))) {
            found = request;
            count++;
        }
    }
    return count == 1 && (found->stage == STAGE_HEADERS || found->stage == STAGE_BODY) ? found : NULL;
}

/* What the library cannot read it answers itself, in HTML, and tells its log alone. Where the request is known, its
 * answer comes from here, and the library's cannot be sent any more. (For a Content-Length or Cookie that it has read
 * and refuses, it would be sent with two heads: 0.9.75.) What is left is a malformed request line or header line, which
 * has no request yet or could be anybody's. */
static void log_library(void *context, const char *format, va_list arguments)
{
    struct http_server *server = context;
    char text[512], id[REQUEST_ID_SIZE];
    vsnprintf(text, sizeof text, format, arguments);
    log_event(LOG_DEBUG, "libmicrohttpd", LOG_TEXT("text", text));
    if (strncmp(text, refusal, sizeof refusal - 1) != 0) return;
    const int status = (int)strtol(text + sizeof refusal - 1, NULL, 10);
    struct http_request *request = find_refused(server, text, status);
    if (request) {
        http_refuse_unread(request, status);
    } else if (!strstr(text, "chunk")) { /* of which the end of the request is logged */
        http_new_id(server, id);
        log_event(LOG_INFO, "request", LOG_TEXT("id", id), LOG_TEXT("method", "-"), LOG_TEXT("route", "-"),
                  LOG_INTEGER("status", status));
    }
}

/* --- The server --- */

size_t http_descriptors(const struct http_options *options)
{
    return options->max_connections + options->max_admin_connections + (size_t)HTTP_POOLS * HTTP_RESERVE;
}

size_t http_capacity(const struct http_options *options)
{
    return http_descriptors(options) + (size_t)HTTP_POOLS * HTTP_RESERVE;
}

/* How long the library may be left alone, in milliseconds; -1: until something comes. */
static int library_wait(const struct http_server *server)
{
    MHD_UNSIGNED_LONG_LONG timeout;
    if (MHD_get_timeout(server->library, &timeout) != MHD_YES) return -1;
    return timeout < INT_MAX ? (int)timeout : INT_MAX;
}

/* Rounds of the HTTP thread, in a row, in which the library wants to be called at once. */
struct rounds {
    unsigned all, idle; /* idle: it did nothing */
    uint64_t calls;
};

/* A library that turns round and round may be stuck, and while it does nothing the processor is spared. */
static int unless_stuck(struct http_server *server, int wait, struct rounds *rounds)
{
    rounds->all = wait == 0 ? rounds->all + 1 : 0;
    rounds->idle = wait == 0 && rounds->calls == server->calls ? rounds->idle + 1 : 0;
    rounds->calls = server->calls;
    const bool idle = rounds->idle >= STUCK_ROUNDS;
    if (!idle && rounds->all < STUCK_ROUNDS) return wait;
    http_guard_stuck(server);
    rounds->all = 0;
    return idle ? 1 : wait;
}

/* The HTTP thread. The library's own would, once it has taken its fill of 128 events, wait for one more before it
 * serves them (libmicrohttpd 0.9.75): for clients that are all waiting for answers already, until a timeout. So the
 * waiting is done here, and the library only looks at what is there. */
static void *serve(void *argument)
{
    struct http_server *server = argument;
    struct pollfd wanted[] = {
        {.fd = MHD_get_daemon_info(server->library, MHD_DAEMON_INFO_EPOLL_FD)->epoll_fd, .events = POLLIN},
        {.fd = server->poke_fd, .events = POLLIN},
        {.events = POLLIN},
        {.events = POLLIN},
    };
    priority_prompt();
    struct rounds rounds = {0};
    for (bool exhausted = false; !atomic_load(&server->stopping);) {
        eventfd_t pokes;
        const bool takes = !exhausted && server->connection_count < http_capacity(&server->options);
        int wait = unless_stuck(server, library_wait(server), &rounds);
        if (exhausted && (wait < 0 || wait > EXHAUSTED_MS)) wait = EXHAUSTED_MS;
        for (size_t i = 0; i < HTTP_POOLS; i++) wanted[2 + i].fd = takes ? server->pools[i].listener->fd : -1;
        const bool something = poll(wanted, 4, wait) > 0;
        exhausted = false;
        if (something && wanted[1].revents) eventfd_read(server->poke_fd, &pokes);
        for (size_t i = 0; i < HTTP_POOLS; i++)
            if (something && wanted[2 + i].revents) exhausted |= !http_accept(server, &server->pools[i]);
        MHD_run(server->library);
    }
    return NULL;
}

static bool bind_listeners(struct http_server *server, struct error *err)
{
    const struct http_options *options = &server->options;
    if (!listen_inherit(&server->listener, false, err) || !listen_inherit(&server->admin, true, err)) return false;
    if (server->listener.fd < 0 &&
        !listen_bind(&server->listener, "server.listen", options->listen, options->port, options->socket_mode, err))
        return false;
    return server->admin.fd >= 0 || !options->admin_listen ||
           listen_bind(&server->admin, "admin.listen", options->admin_listen, options->admin_port, options->socket_mode,
                       err);
}

static bool start_library(struct http_server *server, struct error *err)
{
    const struct http_options *options = &server->options;
    const unsigned flags = MHD_USE_EPOLL | MHD_USE_NO_LISTEN_SOCKET | MHD_ALLOW_SUSPEND_RESUME | MHD_USE_ERROR_LOG;
    errno = 0; /* the library may say nothing, and often passes on what it was told */
    server->library =
        MHD_start_daemon(flags, 0, NULL, NULL, handle, server, MHD_OPTION_EXTERNAL_LOGGER, log_library, server,
                         MHD_OPTION_CONNECTION_MEMORY_LIMIT, options->max_header + REPLY_MEMORY,
                         MHD_OPTION_CONNECTION_LIMIT, (unsigned)http_capacity(options), MHD_OPTION_NOTIFY_COMPLETED,
                         request_over, server, MHD_OPTION_NOTIFY_CONNECTION, connection_changed, server,
                         MHD_OPTION_URI_LOG_CALLBACK, request_new, server, MHD_OPTION_END);
    if (!server->library && errno != 0) return error_set_errno(err, errno, "cannot start the HTTP server");
    if (!server->library) return error_set(err, ERROR_IO, "cannot start the HTTP server");
    const int code = pthread_create(&server->thread, NULL, serve, server);
    server->serving = code == 0;
    return server->serving || error_set_errno(err, code, "cannot start the HTTP thread");
}

static void stop_library(struct http_server *server)
{
    if (server->serving) {
        atomic_store(&server->stopping, true);
        eventfd_write(server->poke_fd, 1);
        pthread_join(server->thread, NULL);
    }
    if (server->library) MHD_stop_daemon(server->library);
}

bool http_server_check_listen(const struct http_options *options, struct error *err)
{
    return listen_check("server.listen", options->listen, err) &&
           (!options->admin_listen || listen_check("admin.listen", options->admin_listen, err));
}

static bool parse_proxies(struct address_set *set, const struct http_options *options, struct error *err)
{
    return address_set_parse(set, "server.trusted_proxies", options->trusted_proxies, options->trusted_proxy_count,
                             err);
}

bool http_server_check_proxies(const struct http_options *options, struct error *err)
{
    struct address_set set = {0};
    const bool good = parse_proxies(&set, options, err);
    address_set_close(&set);
    return good;
}

struct http_server *http_server_new(const struct http_options *options, struct error *err)
{
    struct http_server *server = calloc(1, sizeof *server);
    if (!server) {
        error_set_no_memory(err, sizeof *server, "the HTTP server");
        return NULL;
    }
    server->options = *options;
    server->listener.fd = server->admin.fd = -1;
    TAILQ_INIT(&server->requests);
    http_pool_open(&server->pools[HTTP_PUBLIC_POOL], &server->listener, "limits.max_connections",
                   options->max_connections);
    http_pool_open(&server->pools[HTTP_ADMIN_POOL], &server->admin, "admin.max_connections",
                   options->max_admin_connections);
    http_accept_open(server);
    server->idle_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    server->poke_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (server->idle_fd < 0 || server->poke_fd < 0 ||
        getrandom(&server->boot, sizeof server->boot, 0) != (ssize_t)sizeof server->boot)
        error_set_errno(err, errno, "cannot start the HTTP server");
    else if (parse_proxies(&server->trusted, options, err) && http_cors_check(options, err) &&
             http_hosts_check(options, err) && bind_listeners(server, err))
        return server;
    http_server_free(server);
    return NULL;
}

bool http_server_start(struct http_server *server, struct error *err)
{
    return (server->watch = watch_new(err)) && (server->worker = worker_new(err)) &&
           (server->uploads = http_uploads_new(server->options.max_uploads, err)) &&
           listen_begin(&server->listener, err) && listen_begin(&server->admin, err) && start_library(server, err);
}

void http_server_free(struct http_server *server)
{
    if (!server) return;
    if (server->worker) worker_stop(server->worker);
    if (server->uploads) http_uploads_stop(server->uploads);
    stop_library(server);
    http_uploads_free(server->uploads);
    worker_free(server->worker);
    watch_free(server->watch);
    listen_close(&server->listener);
    listen_close(&server->admin);
    address_set_close(&server->trusted);
    if (server->idle_fd >= 0) close(server->idle_fd);
    if (server->poke_fd >= 0) close(server->poke_fd);
    if (server->spare_fd >= 0) close(server->spare_fd);
    free(server);
}

const char *http_server_address(const struct http_server *server)
{
    return server->listener.text;
}

uint16_t http_server_port(const struct http_server *server)
{
    return server->listener.port;
}

const char *http_server_admin_address(const struct http_server *server)
{
    return server->admin.fd >= 0 ? server->admin.text : NULL;
}

uint16_t http_server_admin_port(const struct http_server *server)
{
    return server->admin.port;
}

size_t http_server_open_requests(struct http_server *server)
{
    return atomic_load(&server->open);
}

size_t http_server_body_memory(const struct http_server *server)
{
    return atomic_load(&server->body_memory);
}

int http_server_idle_fd(const struct http_server *server)
{
    return server->idle_fd;
}

void http_server_drain(struct http_server *server)
{
    atomic_store(&server->draining, true);
}
