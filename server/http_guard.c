#include <stdlib.h>
#include <sys/socket.h>

#include "server/http_internal.h"

#define BODY_PIECE ((uint64_t)64 * 1024) /* bytes that limits.body_timeout is given for */

/* libmicrohttpd looks at a socket when epoll reports a change. Where a client's last bytes and the end of its stream
 * are reported together, it reads the bytes and never the end. Closing the receiving half, which is at its end anyway,
 * is a change that is reported again; until the library has seen it. */
static void show_end(struct http_connection *owner)
{
    shutdown(owner->fd, SHUT_RD);
}

/* Both halves. */
void http_guard_cut(struct http_connection *owner)
{
    shutdown(owner->fd, SHUT_RDWR);
}

static void close_silently(void *context)
{
    struct http_connection *owner = context;
    if (owner->watch.left)
        show_end(owner);
    else
        http_guard_cut(owner);
}

/* The request's id and path do not change any more; nothing else of it is looked at. */
static void say_timeout(const struct http_request *request)
{
    struct problem problem = {0};
    struct problem_document document;
    problem_set(&problem, 408, "the body came too slowly (limits.body_timeout, %g s for 64 KiB)",
                request->server->options.body_timeout);
    if (!problem_write(&problem, request->path, &document)) return;
    const struct reply reply = {
        .status = document.status, .content_type = document.content_type, .body = document.text, .size = document.size};
    http_write_last(request, &reply);
    free(document.text);
}

static void body_due(void *context)
{
    struct http_request *request = context;
    struct http_connection *owner = request->owner;
    if (!owner->watch.left && !atomic_exchange(&owner->late, true)) say_timeout(request);
    close_silently(owner);
}

void http_guard_head(struct http_connection *owner)
{
    watch_set(owner->server->watch, &owner->watch,
              &(struct watch_calls){.due = close_silently,
                                    .context = owner,
                                    .period_ns = (uint64_t)(owner->server->options.idle_timeout * 1e9)});
}

void http_guard_body(struct http_request *request)
{
    const bool answered = request->stage == STAGE_LINGER;
    request->guarded = request->received;
    http_guard_calls(request,
                     &(struct watch_calls){.due = answered ? close_silently : body_due,
                                           .context = answered ? (void *)request->owner : request,
                                           .period_ns = (uint64_t)(request->server->options.body_timeout * 1e9)});
}

void http_guard_progress(struct http_request *request)
{
    if (request->received - request->guarded >= BODY_PIECE) http_guard_body(request);
}

void http_guard_calls(struct http_request *request, const struct watch_calls *calls)
{
    watch_set(request->server->watch, &request->owner->watch, calls);
}
