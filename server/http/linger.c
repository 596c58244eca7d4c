#include "server/http/linger.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/sockios.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/clock.h"

#define MOST_NS (UINT64_C(2) * 1000 * 1000 * 1000) /* as long as a client may take */
#define READS   64                                 /* of 4 KiB, at a look */

/* Throws away what the client has sent. False: it has closed its side, or the connection has failed. */
static bool discard(int fd, bool *any)
{
    char rest[4096];
    for (int i = 0; i < READS; i++) {
        const ssize_t n = recv(fd, rest, sizeof rest, MSG_DONTWAIT);
        if (n == 0) return false;
        if (n < 0) return errno == EAGAIN || errno == EINTR;
        *any = true;
    }
    return true;
}

/* The system counts the end of the stream as a byte. */
static bool has_unsent(int fd)
{
    int unsent = 0;
    return ioctl(fd, SIOCOUTQ, &unsent) == 0 && unsent > 1;
}

/* A client that sends on gets the whole time: on some systems a reset discards what the program has not read yet. */
static bool must_stay(struct lingering *lingering)
{
    const bool open = discard(lingering->fd, &lingering->sends);
    return open && (lingering->sends || has_unsent(lingering->fd)) && clock_monotonic_ns() < lingering->end_ns;
}

static void close_at(struct http_server *server, size_t i)
{
    close(server->linger[i].fd);
    server->linger_count--;
    memmove(&server->linger[i], &server->linger[i + 1], (server->linger_count - i) * sizeof server->linger[0]);
}

void http_linger_begin(struct http_connection *owner)
{
    struct http_server *server = owner->server;
    struct lingering lingering = {.fd = owner->fd, .end_ns = clock_monotonic_ns() + MOST_NS};
    if (!must_stay(&lingering)) return;
    if (server->linger_count == HTTP_LINGER) close_at(server, 0);
    lingering.fd = fcntl(owner->fd, F_DUPFD_CLOEXEC, 0);
    if (lingering.fd < 0) return;
    shutdown(lingering.fd, SHUT_WR);
    server->linger[server->linger_count++] = lingering;
}

void http_linger_look(struct http_server *server)
{
    for (size_t i = server->linger_count; i-- > 0;)
        if (!must_stay(&server->linger[i])) close_at(server, i);
}

void http_linger_end(struct http_server *server)
{
    while (server->linger_count > 0) close_at(server, server->linger_count - 1);
}
