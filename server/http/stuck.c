/* The line with the size of a chunk must fit into the library's buffer, extensions included. If it does not fit, the
 * library (0.9.75) neither reads on nor refuses the request. It asks to be run again at once, for ever. */
#include "server/http/stuck.h"

#include <sys/ioctl.h>

#include "server/http/guard.h"
#include "server/http/receive.h"
#include "server/http/request.h"

#define STUCK_LOOKS 128 /* in a row that seem to find the library where it was */

/* The library may have forgotten to look at the socket, but it looks at the clock each time: so the request also gets a
 * timeout of a second. */
static void end_stuck_request(struct http_request *request)
{
    struct http_connection *owner = request->owner;
    if (request->stage == STAGE_BODY && !http_guard_is_late(owner)) http_receive_unreadable(request, 400);
    http_guard_drain(owner);
    http_guard_cut(owner);
    library_set_timeout(request->connection, 1);
    request->progress.ended = true;
}

/* Unread bytes alone say nothing: a sound client's next ones may have come just now. But the library reads some of
 * those until the next look, unless it is stuck. As many may come again meanwhile: a client that sends the line of a
 * chunk byte by byte can seem stuck once for each of its bytes, and few lines have STUCK_LOOKS of them. */
static bool gets_on(struct http_request *request)
{
    struct progress *progress = &request->progress;
    int unread = 0;
    const bool known = ioctl(request->owner->fd, FIONREAD, &unread) == 0;
    const bool good = !known || unread == 0 || unread < progress->unread || request->received > progress->received;
    progress->unread = unread;
    progress->received = request->received;
    return good;
}

static bool is_stuck(struct http_request *request)
{
    struct progress *progress = &request->progress;
    if (progress->ended || request->suspended || !http_comes_in_chunks(request)) return false;
    progress->looks = gets_on(request) ? 0 : progress->looks + 1;
    return progress->looks >= STUCK_LOOKS || http_guard_is_late(request->owner);
}

void http_stuck_end(struct http_server *server)
{
    struct http_request *request;
    TAILQ_FOREACH(request, &server->requests, link)
    if (is_stuck(request)) end_stuck_request(request);
}
