#include "server/http/accept.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/socket.h>
#include <unistd.h>

#include "server/http/client.h"
#include "server/http/connection.h"
#include "server/http/id.h"
#include "server/http/linger.h"
#include "server/http/pool.h"
#include "server/http/refusal.h"

#define UNREAD_PIECES 16 /* of 4 KiB: more than a head */

/* A socket that was accepted. */
struct newcomer {
    int fd;
    union {
        struct sockaddr any;
        struct sockaddr_storage storage;
    } from;
    socklen_t size;
};

/* newcomer->fd is -1, with errno, where nobody was accepted. */
static void accept_newcomer(const struct listener *listener, struct newcomer *newcomer)
{
    *newcomer = (struct newcomer){.size = sizeof newcomer->from};
    newcomer->fd = accept4(listener->fd, &newcomer->from.any, &newcomer->size, SOCK_NONBLOCK | SOCK_CLOEXEC);
}

/* What the client has sent is read, or closing would reset the connection and the answer might not arrive. But nobody
 * is served meanwhile, so a client that sends without end is not read to its end. */
static void refuse_newcomer(struct http_server *server, int fd, const struct address *peer,
                            const struct problem *problem)
{
    char text[ADDRESS_TEXT_SIZE], id[REQUEST_ID_SIZE], rest[4096];
    address_print(peer, text);
    http_id_new(server, id);
    http_refusal_write_problem(fd, id, problem);
    shutdown(fd, SHUT_WR);
    for (int i = 0; i < UNREAD_PIECES && recv(fd, rest, sizeof rest, MSG_DONTWAIT) > 0; i++) continue;
    close(fd);
    log_event(LOG_INFO, "connection refused", LOG_TEXT("id", id), LOG_TEXT("client", text),
              LOG_INTEGER("status", problem->status));
}

static void admit_newcomer(struct http_server *server, struct http_pool *pool, const struct newcomer *newcomer)
{
    const struct address peer = address_of_socket(&newcomer->from.any);
    struct problem problem = {0};
    if (!address_set_has(&server->trusted, &peer) && !http_client_may_connect(server, &peer, &problem)) {
        refuse_newcomer(server, newcomer->fd, &peer, &problem);
        return;
    }
    struct http_connection *owner = http_connection_new(server, pool, newcomer->fd, &peer);
    if (owner)
        library_add_connection(server->library, newcomer->fd, &newcomer->from.any, newcomer->size, owner);
    else
        close(newcomer->fd);
}

void http_accept_open(struct http_server *server)
{
    server->spare_fd = open("/dev/null", O_RDONLY | O_CLOEXEC);
}

static void refuse_by_spare(struct http_server *server, struct http_pool *pool)
{
    struct newcomer newcomer;
    struct problem problem = {0};
    close(server->spare_fd);
    accept_newcomer(pool->listener, &newcomer);
    if (newcomer.fd >= 0) {
        const struct address peer = address_of_socket(&newcomer.from.any);
        problem_set(&problem, 503, "the daemon has no descriptor for another connection");
        refuse_newcomer(server, newcomer.fd, &peer, &problem);
        http_pool_count_refusal(pool);
    }
    http_accept_open(server);
}

/* No descriptor is left. If a connection is idle, the library closes it, and the next client gets its descriptor. If
 * all are busy, the client is told so over the spare descriptor. */
static bool do_without_descriptor(struct http_server *server, struct http_pool *pool)
{
    http_linger_end(server);
    if (http_pool_make_room(pool) || http_pool_make_room(&server->pools[HTTP_PUBLIC_POOL])) return true;
    if (server->spare_fd < 0) http_accept_open(server);
    if (server->spare_fd < 0) return false;
    refuse_by_spare(server, pool);
    return true;
}

bool http_accept(struct http_server *server, struct http_pool *pool)
{
    struct newcomer newcomer;
    for (int i = 0; i < HTTP_RESERVE; i++) {
        if (server->connection_count >= http_pool_capacity(&server->options)) return true;
        accept_newcomer(pool->listener, &newcomer);
        if (newcomer.fd < 0 && (errno == EMFILE || errno == ENFILE)) return do_without_descriptor(server, pool);
        if (newcomer.fd < 0) return errno != ENOMEM && errno != ENOBUFS; /* else nobody, or one who has left */
        admit_newcomer(server, pool, &newcomer);
    }
    return true;
}
