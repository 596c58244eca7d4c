#include <errno.h>
#include <fcntl.h>
#include <malloc.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

#include "server/http/internal.h"

#define UNREAD_PIECES 16  /* of 4 KiB: more than a head */
#define TRIM_AFTER    512 /* connections fewer than there were, until their memory goes back to the system */

static struct http_connection *connection_new(struct http_server *server, struct http_pool *pool, int fd,
                                              const struct address *peer)
{
    struct http_connection *owner = calloc(1, sizeof *owner);
    if (!owner) return NULL;
    owner->server = server;
    owner->pool = pool;
    owner->fd = owner->watch.fd = fd;
    owner->peer = owner->address = *peer;
    owner->admin = pool == &server->pools[HTTP_ADMIN_POOL];
    owner->behind = address_set_has(&server->trusted, peer);
    if ((!owner->behind && !http_client_count(owner)) || !watch_add(server->watch, &owner->watch)) {
        http_client_uncount(owner);
        free(owner);
        return NULL;
    }
    http_pool_join(owner);
    server->connection_count++;
    if (server->connection_count > server->connection_peak) server->connection_peak = server->connection_count;
    http_guard_head(owner);
    return owner;
}

/* By itself the allocator would keep all that connections had in a busy hour: a few pieces that it holds ready are in
 * the way. It takes a millisecond, hence not each time. */
static void trim(struct http_server *server)
{
    if (server->connection_peak - server->connection_count < TRIM_AFTER) return;
    malloc_trim(0);
    server->connection_peak = server->connection_count;
}

void http_connection_free(struct http_connection *owner)
{
    struct http_server *server = owner->server;
    watch_remove(server->watch, &owner->watch);
    if (server->accepted == owner) server->accepted = NULL;
    http_pool_leave(owner);
    http_client_uncount(owner);
    server->connection_count--;
    free(owner);
    trim(server);
}

/* What the client has sent is read, or closing would reset the connection and the answer might not arrive. But nobody
 * is served meanwhile, so a client that sends without end is not read to its end. */
static void refuse(struct http_server *server, int fd, const struct address *peer, const struct problem *problem)
{
    char text[ADDRESS_TEXT_SIZE], id[REQUEST_ID_SIZE], rest[4096];
    address_print(peer, text);
    http_new_id(server, id);
    http_write_refusal(fd, id, problem);
    shutdown(fd, SHUT_WR);
    for (int i = 0; i < UNREAD_PIECES && recv(fd, rest, sizeof rest, MSG_DONTWAIT) > 0; i++) continue;
    close(fd);
    log_event(LOG_INFO, "connection refused", LOG_TEXT("id", id), LOG_TEXT("client", text),
              LOG_INTEGER("status", problem->status));
}

union peer {
    struct sockaddr any;
    struct sockaddr_storage storage;
};

static int take(const struct listener *listener, union peer *from, socklen_t *size)
{
    *from = (union peer){0};
    *size = sizeof *from;
    return accept4(listener->fd, &from->any, size, SOCK_NONBLOCK | SOCK_CLOEXEC);
}

static void welcome(struct http_server *server, struct http_pool *pool, int fd, const union peer *from, socklen_t size)
{
    const struct address peer = address_of_socket(&from->any);
    struct problem problem = {0};
    if (!address_set_has(&server->trusted, &peer) && !http_client_may_connect(server, &peer, &problem)) {
        refuse(server, fd, &peer, &problem);
        return;
    }
    struct http_connection *owner = connection_new(server, pool, fd, &peer);
    if (owner)
        http_add_connection(owner, &from->any, size);
    else
        close(fd);
}

void http_accept_open(struct http_server *server)
{
    server->spare_fd = open("/dev/null", O_RDONLY | O_CLOEXEC);
}

static void refuse_by_spare(struct http_server *server, struct http_pool *pool)
{
    union peer from;
    socklen_t size;
    struct problem problem = {0};
    close(server->spare_fd);
    const int fd = take(pool->listener, &from, &size);
    if (fd >= 0) {
        const struct address peer = address_of_socket(&from.any);
        problem_set(&problem, 503, "the daemon has no descriptor for another connection");
        refuse(server, fd, &peer, &problem);
        http_pool_refused(pool);
    }
    http_accept_open(server);
}

/* There is no descriptor left. An idle connection gives its own to the next client once the library has closed it;
 * where everybody is busy, the spare one serves to tell the client so. */
static bool do_without_descriptor(struct http_server *server, struct http_pool *pool)
{
    if (http_pool_make_room(pool) || http_pool_make_room(&server->pools[HTTP_PUBLIC_POOL])) return true;
    if (server->spare_fd < 0) http_accept_open(server);
    if (server->spare_fd < 0) return false;
    refuse_by_spare(server, pool);
    return true;
}

bool http_accept(struct http_server *server, struct http_pool *pool)
{
    union peer from;
    socklen_t size;
    for (int i = 0; i < HTTP_RESERVE; i++) {
        if (server->connection_count >= http_capacity(&server->options)) return true;
        const int fd = take(pool->listener, &from, &size);
        if (fd < 0 && (errno == EMFILE || errno == ENFILE)) return do_without_descriptor(server, pool);
        if (fd < 0) return errno != ENOMEM && errno != ENOBUFS; /* else nobody, or one who has left */
        welcome(server, pool, fd, &from, size);
    }
    return true;
}
