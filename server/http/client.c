#include "server/http/client.h"

#include <search.h>
#include <stdlib.h>
#include <string.h>

struct client_count {
    struct address address;
    size_t count;
};

static int compare_clients(const void *a, const void *b)
{
    const struct client_count *one = a, *other = b;
    return memcmp(one->address.bytes, other->address.bytes, sizeof one->address.bytes);
}

static size_t count_address(const struct http_server *server, const struct address *address)
{
    const struct client_count key = {.address = address_network(address)};
    struct client_count *const *found = tfind(&key, &server->clients, compare_clients);
    return found ? (*found)->count : 0;
}

static bool is_limited(const struct http_server *server, const struct address *address)
{
    return server->options.max_connections_per_address > 0 && address->kind == ADDRESS_IP;
}

bool http_client_count(struct http_connection *owner)
{
    struct http_server *server = owner->server;
    if (owner->counted || !is_limited(server, &owner->address)) return true;
    struct client_count *fresh = malloc(sizeof *fresh);
    if (!fresh) return false;
    *fresh = (struct client_count){.address = address_network(&owner->address)};
    struct client_count **found = tsearch(fresh, &server->clients, compare_clients);
    if (!found || *found != fresh) free(fresh);
    if (!found) return false;
    (*found)->count++;
    owner->counted = true;
    return true;
}

void http_client_uncount(struct http_connection *owner)
{
    struct http_server *server = owner->server;
    if (!owner->counted) return;
    owner->counted = false;
    const struct client_count key = {.address = address_network(&owner->address)};
    struct client_count *client = *(struct client_count **)tfind(&key, &server->clients, compare_clients);
    if (--client->count > 0) return;
    tdelete(&key, &server->clients, compare_clients);
    free(client);
}

bool http_client_may_connect(const struct http_server *server, const struct address *address, struct problem *problem)
{
    const size_t limit = server->options.max_connections_per_address;
    if (!is_limited(server, address) || count_address(server, address) < limit) return true;
    problem_set(problem, 429, "your address has limits.max_connections_per_address connections already, %zu", limit);
    return false;
}

/* Finds who sent the request. The connections of a proxy belong to all its clients, so only running requests are
 * counted. */
void http_client_find(struct http_request *request)
{
    const struct http_server *server = request->server;
    struct http_connection *owner = request->owner;
    if (owner->behind) {
        const bool forwarded = server->options.forwarded;
        const char *value = library_last_header(request->connection, forwarded ? "Forwarded" : "X-Forwarded-For");
        owner->address = address_behind(&server->trusted, &owner->peer, value ? value : "", forwarded);
        if (!address_equal(&owner->address, &owner->peer) &&
            http_client_may_connect(server, &owner->address, &request->problem) && !http_client_count(owner))
            problem_set(&request->problem, 503, "out of memory");
    }
    address_print(&owner->address, request->client);
}
