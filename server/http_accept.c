#include <errno.h>
#include <malloc.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/log.h"
#include "server/http_internal.h"

#define ACCEPT_AT_ONCE 64
#define TRIM_AFTER     512 /* connections fewer than there were, until their memory goes back to the system */

/* Behind a proxy only requests count that are going on: its connections are everybody's. */
static size_t count_address(const struct http_server *server, const struct address *address)
{
    size_t count = 0;
    for (const struct http_connection *c = server->connections; c; c = c->next)
        count += (!c->behind || c->request) && address_equal(&c->address, address);
    return count;
}

static bool too_many(const struct http_server *server, const struct address *address, size_t others,
                     struct problem *problem)
{
    const size_t limit = server->options.max_connections_per_address;
    if (limit == 0 || address->kind != ADDRESS_IP || others < limit) return false;
    problem_set(problem, 429, "your address has limits.max_connections_per_address connections already, %zu", limit);
    return true;
}

static struct http_connection *connection_new(struct http_server *server, int fd, const struct address *peer)
{
    struct http_connection *owner = calloc(1, sizeof *owner);
    if (!owner) return NULL;
    owner->server = server;
    owner->fd = owner->watch.fd = fd;
    owner->peer = owner->address = *peer;
    owner->behind = address_set_has(&server->trusted, peer);
    owner->next = server->connections;
    if (owner->next) owner->next->previous = owner;
    server->connections = owner;
    server->connection_count++;
    if (server->connection_count > server->connection_peak) server->connection_peak = server->connection_count;
    watch_add(server->watch, &owner->watch);
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
    if (owner->next) owner->next->previous = owner->previous;
    if (owner->previous)
        owner->previous->next = owner->next;
    else
        server->connections = owner->next;
    server->connection_count--;
    free(owner);
    trim(server);
}

/* What the client has sent is read, or closing would reset the connection and the answer might not arrive. */
static void refuse(int fd, const struct address *peer, const struct problem *problem)
{
    char text[ADDRESS_TEXT_SIZE], rest[4096];
    address_print(peer, text);
    http_write_refusal(fd, problem);
    shutdown(fd, SHUT_WR);
    while (recv(fd, rest, sizeof rest, MSG_DONTWAIT) > 0) continue;
    close(fd);
    log_event(LOG_INFO, "connection refused", LOG_TEXT("client", text), LOG_INTEGER("status", problem->status));
}

bool http_accept(struct http_server *server, const struct listener *listener)
{
    for (int i = 0; i < ACCEPT_AT_ONCE && server->connection_count < server->options.max_connections; i++) {
        union {
            struct sockaddr any;
            struct sockaddr_storage storage;
        } from = {0};
        socklen_t size = sizeof from;
        const int fd = accept4(listener->fd, &from.any, &size, SOCK_NONBLOCK | SOCK_CLOEXEC);
        if (fd < 0 && (errno == EMFILE || errno == ENFILE || errno == ENOMEM || errno == ENOBUFS)) return false;
        if (fd < 0) return true; /* nobody, or one who has left; poll() says if there are more */
        const struct address peer = address_of_socket(&from.any);
        struct problem problem = {0};
        if (!address_set_has(&server->trusted, &peer) &&
            too_many(server, &peer, count_address(server, &peer), &problem)) {
            refuse(fd, &peer, &problem);
            continue;
        }
        struct http_connection *owner = connection_new(server, fd, &peer);
        if (!owner) {
            close(fd);
            continue;
        }
        owner->admin = listener == &server->admin;
        http_add_connection(owner, &from.any, size);
    }
    return true;
}

void http_find_client(struct http_request *request)
{
    const struct http_server *server = request->server;
    struct http_connection *owner = request->owner;
    if (owner->behind) {
        const bool forwarded = server->options.forwarded;
        const char *value = http_last_header(request, forwarded ? "Forwarded" : "X-Forwarded-For");
        owner->address = address_behind(&server->trusted, &owner->peer, value ? value : "", forwarded);
        if (!address_equal(&owner->address, &owner->peer))
            too_many(server, &owner->address, count_address(server, &owner->address) - 1, &request->problem);
    }
    address_print(&owner->address, request->client);
}
