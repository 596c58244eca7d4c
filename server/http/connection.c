#include "server/http/connection.h"

#include <malloc.h>
#include <stdlib.h>

#include "server/http/client.h"
#include "server/http/guard.h"
#include "server/http/linger.h"
#include "server/http/pool.h"

#define TRIM_AFTER 512 /* connections fewer than there were, until their memory goes back to the system */

struct http_connection *http_connection_new(struct http_server *server, struct http_pool *pool, int fd,
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

/* The allocator by itself keeps all that connections had in a busy hour: a few pieces that it holds ready are in the
 * way. Giving it back takes a millisecond, hence not each time. */
static void return_memory(struct http_server *server)
{
    if (server->connection_peak - server->connection_count < TRIM_AFTER) return;
    malloc_trim(0);
    server->connection_peak = server->connection_count;
}

void http_connection_free(struct http_connection *owner)
{
    struct http_server *server = owner->server;
    http_linger_begin(owner);
    watch_remove(server->watch, &owner->watch);
    http_pool_leave(owner);
    http_client_uncount(owner);
    server->connection_count--;
    free(owner);
    return_memory(server);
}
