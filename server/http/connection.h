/* The life of a connection. The HTTP thread. */
#ifndef LSTMD_SERVER_HTTP_CONNECTION_H
#define LSTMD_SERVER_HTTP_CONNECTION_H

#include "server/http/state.h"

/* Takes its place in the pool, and the idlest connection may make room for it. NULL: memory is out; the socket is the
 * caller's. */
struct http_connection *http_connection_new(struct http_server *server, struct http_pool *pool, int fd,
                                            const struct address *peer);
/* The socket is closed already. */
void http_connection_free(struct http_connection *owner);

#endif
