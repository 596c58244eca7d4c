#include "server/http/guard.h"

#include <stdlib.h>
#include <sys/socket.h>

#include "base/clock.h"
#include "server/http/refusal.h"

#define BODY_PIECE    ((uint64_t)64 * 1024) /* bytes that limits.body_timeout is given for */
#define UNREAD_PIECES 256                   /* of 4 KiB */

bool http_guard_is_late(const struct http_connection *owner)
{
    return clock_monotonic_ns() >= atomic_load(&owner->late_ns);
}

void http_guard_cut(struct http_connection *owner)
{
    shutdown(owner->fd, SHUT_RDWR);
}

void http_guard_drain(const struct http_connection *owner)
{
    char rest[4096];
    for (int i = 0; i < UNREAD_PIECES && recv(owner->fd, rest, sizeof rest, MSG_DONTWAIT) > 0; i++) continue;
}

/* libmicrohttpd looks at a socket when epoll reports a change. Where epoll reports a client's last bytes together with
 * the end of its stream, the library reads the bytes and never the end. Shutting down the receiving half, which is at
 * its end anyway, is another change. It is repeated until the library has seen it. */
static void show_end(struct http_connection *owner)
{
    shutdown(owner->fd, SHUT_RD);
}

/* A library that does not read (stuck.c) does not see that end. Its connection is cut when its time is up. */
static void close_silently(void *context)
{
    struct http_connection *owner = context;
    if (owner->watch.left && !http_guard_is_late(owner))
        show_end(owner);
    else
        http_guard_cut(owner);
}

/* In the watch's thread. The request's id and path do not change any more; nothing else of it is looked at. */
static void say_timeout(const struct http_request *request)
{
    struct problem problem = {0};
    struct problem_document document;
    problem_set(&problem, 408, "the body came too slowly (limits.body_timeout, %g s for 64 KiB)",
                request->server->options.body_timeout);
    if (!problem_write(&problem, request->path, &document)) return;
    const struct reply reply = {
        .status = document.status, .content_type = document.content_type, .body = document.text, .size = document.size};
    http_refusal_write(request, &reply);
    free(document.text);
}

static void body_due(void *context)
{
    struct http_request *request = context;
    struct http_connection *owner = request->owner;
    if (!owner->watch.left && !atomic_exchange(&owner->late, true)) say_timeout(request);
    close_silently(owner);
}

static void guard_connection(struct http_connection *owner, void (*due)(void *context), void *context, double seconds)
{
    const uint64_t period_ns = (uint64_t)(seconds * 1e9);
    atomic_store(&owner->late_ns, clock_monotonic_ns() + period_ns);
    watch_set(owner->server->watch, &owner->watch,
              &(struct watch_calls){.due = due, .context = context, .period_ns = period_ns});
}

void http_guard_head(struct http_connection *owner)
{
    guard_connection(owner, close_silently, owner, owner->server->options.idle_timeout);
}

void http_guard_body(struct http_request *request)
{
    const double seconds = request->server->options.body_timeout;
    request->guarded = request->received;
    if (request->stage == STAGE_LINGER)
        guard_connection(request->owner, close_silently, request->owner, seconds);
    else
        guard_connection(request->owner, body_due, request, seconds);
}

void http_guard_progress(struct http_request *request)
{
    if (request->received - request->guarded >= BODY_PIECE) http_guard_body(request);
}

void http_guard_calls(struct http_request *request, const struct watch_calls *calls)
{
    watch_set(request->server->watch, &request->owner->watch, calls);
}
