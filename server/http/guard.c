#include <stdlib.h>
#include <sys/ioctl.h>
#include <sys/socket.h>

#include "base/clock.h"
#include "server/http/internal.h"

#define BODY_PIECE    ((uint64_t)64 * 1024) /* bytes that limits.body_timeout is given for */
#define UNREAD_PIECES 256                   /* of 4 KiB */
#define STUCK_LOOKS   128                   /* in a row that seem to find the library where it was */

static bool is_late(const struct http_connection *owner)
{
    return clock_monotonic_ns() >= atomic_load(&owner->late_ns);
}

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

void http_guard_drain(const struct http_connection *owner)
{
    char rest[4096];
    for (int i = 0; i < UNREAD_PIECES && recv(owner->fd, rest, sizeof rest, MSG_DONTWAIT) > 0; i++) continue;
}

/* A library that does not read (below) does not see that end: then it is cut off when its time is up. */
static void close_silently(void *context)
{
    struct http_connection *owner = context;
    if (owner->watch.left && !is_late(owner))
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

static void guard(struct http_connection *owner, void (*due)(void *context), void *context, double seconds)
{
    const uint64_t period_ns = (uint64_t)(seconds * 1e9);
    atomic_store(&owner->late_ns, clock_monotonic_ns() + period_ns);
    watch_set(owner->server->watch, &owner->watch,
              &(struct watch_calls){.due = due, .context = context, .period_ns = period_ns});
}

void http_guard_head(struct http_connection *owner)
{
    guard(owner, close_silently, owner, owner->server->options.idle_timeout);
}

void http_guard_body(struct http_request *request)
{
    const double seconds = request->server->options.body_timeout;
    request->guarded = request->received;
    if (request->stage == STAGE_LINGER)
        guard(request->owner, close_silently, request->owner, seconds);
    else
        guard(request->owner, body_due, request, seconds);
}

void http_guard_progress(struct http_request *request)
{
    if (request->received - request->guarded >= BODY_PIECE) http_guard_body(request);
}

void http_guard_calls(struct http_request *request, const struct watch_calls *calls)
{
    watch_set(request->server->watch, &request->owner->watch, calls);
}

/* --- A library that does not read ---
 *
 * The size of a chunk, with what may stand behind it, must fit into the library's buffer. Where it does not, the
 * library (0.9.75) neither reads on nor refuses it, and asks to be called again at once, for ever. */

/* The library may have forgotten to be told of what happens at the socket; the clock it looks at each time. */
static void end_stuck(struct http_request *request)
{
    struct http_connection *owner = request->owner;
    if (request->stage == STAGE_BODY && !is_late(owner)) http_refuse_unread(request, 400);
    http_guard_drain(owner);
    http_guard_cut(owner);
    http_set_timeout(request, 1);
    request->ended = true;
}

/* Unread bytes alone say nothing: a sound client's next ones may have come just now. But until the next look the
 * library reads of those, unless it is stuck. As many may come again meanwhile: a client that sends the line of a chunk
 * byte by byte can seem stuck once for each of its bytes, and few lines have STUCK_LOOKS of them. */
static bool gets_on(struct http_request *request)
{
    int unread = 0;
    const bool known = ioctl(request->owner->fd, FIONREAD, &unread) == 0;
    const bool good = !known || unread == 0 || unread < request->unread || request->received > request->looked;
    request->unread = unread;
    request->looked = request->received;
    return good;
}

static bool is_stuck(struct http_request *request)
{
    if (request->ended || request->suspended || !http_comes_in_chunks(request)) return false;
    request->looks = gets_on(request) ? 0 : request->looks + 1;
    return request->looks >= STUCK_LOOKS || is_late(request->owner);
}

void http_guard_stuck(struct http_server *server)
{
    struct http_request *request;
    TAILQ_FOREACH(request, &server->requests, link)
    if (is_stuck(request)) end_stuck(request);
}
