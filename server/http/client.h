/* Who the clients are, and how many connections each of them has. The HTTP thread. */
#ifndef LSTMD_SERVER_HTTP_CLIENT_H
#define LSTMD_SERVER_HTTP_CLIENT_H

#include "server/http/state.h"

/* Finds out whom the request comes from. Says 429 or 503 in request->problem. */
void http_client_find(struct http_request *request);
/* False, and 429 in *problem: the address has limits.max_connections_per_address connections. */
bool http_client_may_connect(const struct http_server *server, const struct address *address, struct problem *problem);
/* Counts a connection for its address, until http_client_uncount(). False: memory is out. */
bool http_client_count(struct http_connection *owner);
void http_client_uncount(struct http_connection *owner);

#endif
