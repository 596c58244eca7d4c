#include "server/http/exchange.h"

#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>

#include "base/clock.h"
#include "server/http/body.h"
#include "server/http/client.h"
#include "server/http/connection.h"
#include "server/http/dispatch.h"
#include "server/http/guard.h"
#include "server/http/id.h"
#include "server/http/pool.h"
#include "server/http/receive.h"
#include "server/http/request.h"
#include "server/http/stream.h"
#include "server/http/upload.h"

/* --- A request begins --- */

static void *request_began(void *context, struct MHD_Connection *connection, const char *target)
{
    struct http_connection *owner = context;
    struct http_request *request = calloc(1, sizeof *request);
    if (!request) return NULL;
    request->server = owner->server;
    request->owner = owner;
    request->connection = connection;
    request->begun_ns = clock_monotonic_ns();
    request->pattern = "-";
    request->target_size = strlen(target);
    request->path = request->target = strdup(target);
    request->parameter = calloc(1, request->target_size + 1);
    owner->request = request;
    TAILQ_INSERT_TAIL(&owner->server->requests, request, link);
    return request;
}

/* --- It goes on --- */

static bool request_went_on(void *context, const struct library_head *head, const char *data, size_t size,
                            size_t *taken)
{
    struct http_request *request = context;
    if (request->stage == STAGE_PIECE) { /* the piece is written */
        request->suspended = false;
        request->stage = STAGE_BODY;
        http_guard_body(request);
    }
    switch (request->stage) {
    case STAGE_HEADERS:
        return http_receive_head(request, head);
    case STAGE_BODY:
        return size > 0 ? http_receive_body(request, data, size, taken) : http_dispatch(request);
    case STAGE_LINGER:
        return size > 0 && http_receive_body(request, data, size, taken);
    case STAGE_WAITING:
        return http_dispatch_resumed(request);
    case STAGE_PIECE:
    case STAGE_REPLIED:
        break;
    }
    return false;
}

/* --- It ends --- */

static void log_access(const struct http_request *request)
{
    const struct http_options *options = &request->server->options;
    const struct http_account account = {
        .route = request->pattern,
        .status = request->reply.status,
        .seconds = (double)(clock_monotonic_ns() - request->begun_ns) * 1e-9,
        .bytes_in = request->received,
        .bytes_out = http_request_is_head(request) || request->reply.status == 304 ? 0 : request->reply.size,
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
    http_body_drop(request);
    free(request->parameter);
    free(request->target);
    free(request);
}

/* The library noticed before the handler did that the client has left, or it has refused the request: the log still
 * gets the handler's numbers. */
static void note_lost(struct http_request *request, bool sent)
{
    if (request->stage == STAGE_LINGER || (request->stage == STAGE_REPLIED && sent)) return;
    const int status = request->stage == STAGE_REPLIED ? 0 : library_own_status(request->connection);
    if (request->stage == STAGE_WAITING && request->reply.kind == REPLY_NONE && request->waiter.resumed)
        request->waiter.resumed(request, request->waiter.context);
    request->reply.status = status ? status : atomic_load(&request->owner->late) ? 408 : STATUS_CLIENT_LEFT;
}

static void end_request(struct http_request *request, bool sent)
{
    request->owner->request = NULL;
    TAILQ_REMOVE(&request->server->requests, request, link);
    note_lost(request, sent);
    http_upload_abandon(request);
    http_stream_close(request, sent);
    if (request->stage != STAGE_HEADERS) log_access(request);
}

static void request_ended(void *context, bool sent)
{
    struct http_request *request = context;
    struct http_connection *owner = request->owner;
    end_request(request, sent);
    if (request->last) http_guard_drain(owner);
    library_set_timeout(request->connection, 0);
    http_guard_head(owner);
    http_pool_rest(owner);
    if (owner->behind) http_client_uncount(owner);
    request_free(request);
}

/* A request ends with its connection at the latest: the library does not tell of every end. */
static void connection_ended(void *context)
{
    struct http_connection *owner = context;
    struct http_request *request = owner->request;
    if (request) {
        http_guard_calls(request, NULL); /* it may still be watched, and is freed before its connection */
        end_request(request, false);
        request_free(request);
    }
    http_connection_free(owner);
}

/* --- The library refuses it --- */

/* Which request the library refuses. One whose head is complete and that was not begun with: the library goes from the
 * one to the other in one go, so there is one at most. Else, if only one comes in question, it is this one: for a wrong
 * chunk a body in chunks; for a head or trailer that is too large one of those, or a head that is not complete. NULL:
 * not known. */
static struct http_request *find_refused(const struct http_server *server, int status, bool chunk)
{
    size_t count = 0;
    struct http_request *request, *found = NULL;
    TAILQ_FOREACH(request, &server->requests, link)
    {
        const bool head = request->stage == STAGE_HEADERS;
        if (head && library_head_size(request->connection) > 0) return request;
        if ((head && status == 431) || ((chunk || status == 431) && http_comes_in_chunks(request))) {
            found = request;
            count++;
        }
    }
    return count == 1 && (found->stage == STAGE_HEADERS || found->stage == STAGE_BODY) ? found : NULL;
}

/* The library answers in HTML. Where the request is known, it gets our answer instead, and the library's cannot be sent
 * any more. (For a Content-Length or Cookie that it has read and refuses, the library would send two heads: 0.9.75.)
 * What is left is a malformed request line or header line, which has no request yet or could be anybody's. */
static void library_refused(void *context, int status, bool chunk)
{
    struct http_server *server = context;
    char id[REQUEST_ID_SIZE];
    struct http_request *request = find_refused(server, status, chunk);
    if (request) {
        http_receive_unreadable(request, status);
    } else if (!chunk) { /* the end of a request with chunks is logged anyway */
        http_id_new(server, id);
        log_event(LOG_INFO, "request", LOG_TEXT("id", id), LOG_TEXT("method", "-"), LOG_TEXT("route", "-"),
                  LOG_INTEGER("status", status));
    }
}

struct library_events http_exchange_events(struct http_server *server)
{
    return (struct library_events){.request_began = request_began,
                                   .request_went_on = request_went_on,
                                   .request_ended = request_ended,
                                   .connection_ended = connection_ended,
                                   .refused = library_refused,
                                   .context = server};
}
