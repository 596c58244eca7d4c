/* The life of a connection. The HTTP thread. */
#ifndef LSTMD_SERVER_HTTP_CONNECTION_H
#define LSTMD_SERVER_HTTP_CONNECTION_H

#include "server/http/state.h"

/* Makes a connection and takes a place in the pool for it. If the pool is full, the longest idle connection is closed.
 * NULL: no memory; the socket stays the caller's. */
struct http_connection *http_connection_new(struct http_server *server, struct http_pool *pool, int fd,
                                            const struct address *peer);
/* The library is about to close the socket. */
void http_connection_free(struct http_connection *owner);

#endif
