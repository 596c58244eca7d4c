#include "server/http/library.h"

#include <errno.h>
#include <limits.h>
#include <math.h>
#include <microhttpd.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "base/log.h"

/* The library has one piece of memory for a connection. It clears the piece after each request, so all of it becomes
 * resident, and an idle connection costs all of it. The piece holds a head, the library's notes of it, and beside them
 * the head of a reply, twice: the beginning of the next request can fill up to half of what a head leaves. What was
 * read of a body is gone by then. */
#define FIELD_MEMORY ((size_t)64) /* the library's note of a header or cookie (0.9.75: 56 bytes, aligned) */
#define REPLY_MEMORY ((size_t)1536)

#define STREAM_BLOCK ((size_t)8 * 1024) /* bytes of a stream that are read at once */

struct library {
    struct MHD_Daemon *daemon;
    struct library_events events;
    int poke_fd;    /* eventfd */
    uint64_t calls; /* of ours */
    void *accepted; /* owner of the connection that the library is being given, or NULL */
};

/* --- Events --- */

static void *owner_of(struct MHD_Connection *connection)
{
    const union MHD_ConnectionInfo *info = MHD_get_connection_info(connection, MHD_CONNECTION_INFO_SOCKET_CONTEXT);
    return info ? info->socket_context : NULL;
}

/* The library parses the query in place after this event. Cut the query at '?' first: where memory runs out there, the
 * library answers 414, forgets that it did, and may crash (0.9.75). */
static void cut_query(const char *target)
{
    char *question = strchr((char *)(uintptr_t)target, '?');
    if (question && question[1]) question[1] = '\0';
}

static void *on_request_line(void *context, const char *target, struct MHD_Connection *connection)
{
    struct library *library = context;
    void *owner = owner_of(connection);
    if (!owner) return NULL;
    library->calls++;
    void *request = library->events.request_began(owner, connection, target);
    cut_query(target);
    return request;
}

static enum MHD_Result on_request(void *context, struct MHD_Connection *connection, const char *url, const char *method,
                                  const char *version, const char *data, size_t *size, void **slot)
{
    struct library *library = context;
    (void)connection;
    if (!*slot) return MHD_NO; /* out of memory in request_began() */
    library->calls++;
    size_t taken = 0;
    const struct library_head head = {method, url, version};
    const bool good = library->events.request_went_on(*slot, &head, data, *size, &taken);
    *size -= taken;
    return good ? MHD_YES : MHD_NO;
}

static void on_request_end(void *context, struct MHD_Connection *connection, void **slot,
                           enum MHD_RequestTerminationCode code)
{
    const struct library *library = context;
    void *request = *slot;
    *slot = NULL;
    if (request && owner_of(connection))
        library->events.request_ended(request, code == MHD_REQUEST_TERMINATED_COMPLETED_OK);
}

static void on_connection(void *context, struct MHD_Connection *connection, void **slot,
                          enum MHD_ConnectionNotificationCode code)
{
    struct library *library = context;
    (void)connection;
    library->calls++;
    if (code == MHD_CONNECTION_NOTIFY_STARTED) {
        *slot = library->accepted;
        return;
    }
    if (library->accepted == *slot) library->accepted = NULL;
    library->events.connection_ended(*slot);
}

/* The library answers itself what it cannot read, in HTML, and tells its log alone. */
static void on_log(void *context, const char *format, va_list arguments)
{
    static const char refusal[] = "Error processing request (HTTP response code is ";
    const struct library *library = context;
    char text[512];
    vsnprintf(text, sizeof text, format, arguments);
    log_event(LOG_DEBUG, "libmicrohttpd", LOG_TEXT("text", text));
    if (strncmp(text, refusal, sizeof refusal - 1) != 0) return;
    const int status = (int)strtol(text + sizeof refusal - 1, NULL, 10);
    library->events.refused(library->events.context, status, strstr(text, "chunk"));
}

/* --- The library --- */

static bool start_daemon(struct library *library, const struct library_options *options, struct error *err)
{
    const unsigned flags = MHD_USE_EPOLL | MHD_USE_NO_LISTEN_SOCKET | MHD_ALLOW_SUSPEND_RESUME | MHD_USE_ERROR_LOG;
    errno = 0; /* the library may say nothing, and often passes on what it was told */
    library->daemon =
        MHD_start_daemon(flags, 0, NULL, NULL, on_request, library, MHD_OPTION_EXTERNAL_LOGGER, on_log, library,
                         MHD_OPTION_CONNECTION_MEMORY_LIMIT, options->max_header + REPLY_MEMORY,
                         MHD_OPTION_CONNECTION_LIMIT, (unsigned)options->max_connections, MHD_OPTION_NOTIFY_COMPLETED,
                         on_request_end, library, MHD_OPTION_NOTIFY_CONNECTION, on_connection, library,
                         MHD_OPTION_URI_LOG_CALLBACK, on_request_line, library, MHD_OPTION_END);
    if (library->daemon) return true;
    if (errno != 0) return error_set_errno(err, errno, "cannot start the HTTP server");
    return error_set(err, ERROR_IO, "cannot start the HTTP server");
}

struct library *library_new(const struct library_options *options, struct error *err)
{
    struct library *library = calloc(1, sizeof *library);
    if (!library) {
        error_set_no_memory(err, sizeof *library, "the HTTP server");
        return NULL;
    }
    library->events = options->events;
    library->poke_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (library->poke_fd < 0)
        error_set_errno(err, errno, "cannot start the HTTP server");
    else if (start_daemon(library, options, err))
        return library;
    library_free(library);
    return NULL;
}

void library_free(struct library *library)
{
    if (!library) return;
    if (library->daemon) MHD_stop_daemon(library->daemon);
    if (library->poke_fd >= 0) close(library->poke_fd);
    free(library);
}

int library_epoll_fd(const struct library *library)
{
    return MHD_get_daemon_info(library->daemon, MHD_DAEMON_INFO_EPOLL_FD)->epoll_fd;
}

int library_poke_fd(const struct library *library)
{
    return library->poke_fd;
}

int library_wait_ms(const struct library *library)
{
    MHD_UNSIGNED_LONG_LONG timeout;
    if (MHD_get_timeout(library->daemon, &timeout) != MHD_YES) return -1;
    return timeout < INT_MAX ? (int)timeout : INT_MAX;
}

void library_run(struct library *library)
{
    MHD_run(library->daemon);
}

void library_poke(struct library *library)
{
    eventfd_write(library->poke_fd, 1);
}

void library_take_pokes(struct library *library)
{
    eventfd_t pokes;
    eventfd_read(library->poke_fd, &pokes);
}

uint64_t library_call_count(const struct library *library)
{
    return library->calls;
}

/* --- Connections --- */

void library_add_connection(struct library *library, int fd, const struct sockaddr *address, socklen_t size,
                            void *owner)
{
    library->accepted = owner;
    const bool good = MHD_add_connection(library->daemon, fd, address, size) == MHD_YES;
    const bool told = !library->accepted; /* of its end, by on_connection() */
    library->accepted = NULL;
    if (!good && !told) library->events.connection_ended(owner);
}

void library_suspend(struct MHD_Connection *connection)
{
    MHD_suspend_connection(connection);
}

/* The library wakes the threads that it has started itself, and nobody else. */
void library_resume(struct library *library, struct MHD_Connection *connection)
{
    MHD_resume_connection(connection);
    library_poke(library);
}

void library_set_timeout(struct MHD_Connection *connection, double seconds)
{
    MHD_set_connection_option(connection, MHD_CONNECTION_OPTION_TIMEOUT, (unsigned)ceil(seconds));
}

/* --- The head of a request --- */

const char *library_header(struct MHD_Connection *connection, const char *name)
{
    return MHD_lookup_connection_value(connection, MHD_HEADER_KIND, name);
}

struct visit {
    library_visitor *visit;
    void *context;
};

static enum MHD_Result visit_field(void *context, enum MHD_ValueKind kind, const char *name, size_t name_size,
                                   const char *value, size_t value_size)
{
    const struct visit *visit = context;
    (void)kind;
    const struct library_field field = {name, value ? value : "", name_size, value_size};
    return visit->visit(visit->context, &field) ? MHD_YES : MHD_NO;
}

void library_visit_headers(struct MHD_Connection *connection, library_visitor *visit, void *context)
{
    struct visit visitor = {visit, context};
    MHD_get_connection_values_n(connection, MHD_HEADER_KIND, visit_field, &visitor);
}

struct last_header {
    const char *name, *value;
};

static bool keep_last(void *context, const struct library_field *field)
{
    struct last_header *last = context;
    if (strcasecmp(field->name, last->name) == 0) last->value = field->value;
    return true;
}

const char *library_last_header(struct MHD_Connection *connection, const char *name)
{
    struct last_header last = {.name = name};
    library_visit_headers(connection, keep_last, &last);
    return last.value;
}

size_t library_head_size(struct MHD_Connection *connection)
{
    const union MHD_ConnectionInfo *info = MHD_get_connection_info(connection, MHD_CONNECTION_INFO_REQUEST_HEADER_SIZE);
    return info ? info->header_size : 0;
}

size_t library_head_memory(struct MHD_Connection *connection)
{
    const int fields = MHD_get_connection_values(connection, MHD_HEADER_KIND | MHD_COOKIE_KIND, NULL, NULL);
    const char *cookies = library_header(connection, MHD_HTTP_HEADER_COOKIE); /* the library keeps a copy of them */
    return library_head_size(connection) + FIELD_MEMORY * (size_t)fields + (cookies ? strlen(cookies) : 0);
}

int library_own_status(struct MHD_Connection *connection)
{
    const union MHD_ConnectionInfo *info = MHD_get_connection_info(connection, MHD_CONNECTION_INFO_HTTP_STATUS);
    return info ? (int)info->http_status : 0;
}

/* --- Replies --- */

struct MHD_Response *library_reply_new(const char *body, size_t size, bool owned)
{
    const enum MHD_ResponseMemoryMode mode = owned ? MHD_RESPMEM_MUST_FREE : MHD_RESPMEM_PERSISTENT;
    return MHD_create_response_from_buffer(size, (void *)(uintptr_t)body, mode);
}

static ssize_t read_stream(void *context, uint64_t position, char *out, size_t size)
{
    struct library_stream *stream = context;
    (void)position;
    stream->library->calls++;
    const size_t n = stream->read(stream->context, out, size);
    if (n == LIBRARY_STREAM_END) return MHD_CONTENT_READER_END_OF_STREAM;
    if (n == LIBRARY_STREAM_BROKEN) return MHD_CONTENT_READER_END_WITH_ERROR;
    return (ssize_t)n;
}

struct MHD_Response *library_reply_new_stream(struct library_stream *stream)
{
    return MHD_create_response_from_callback(MHD_SIZE_UNKNOWN, STREAM_BLOCK, read_stream, stream, NULL);
}

void library_reply_add_header(struct MHD_Response *reply, const char *name, const char *value)
{
    MHD_add_response_header(reply, name, value);
}

bool library_reply_send(struct MHD_Connection *connection, struct MHD_Response *reply, int status)
{
    const bool good = MHD_queue_response(connection, (unsigned)status, reply) == MHD_YES;
    MHD_destroy_response(reply);
    return good;
}
