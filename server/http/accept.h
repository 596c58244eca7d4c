/* New connections. The HTTP thread. */
#ifndef LSTMD_SERVER_HTTP_ACCEPT_H
#define LSTMD_SERVER_HTTP_ACCEPT_H

#include "server/http/state.h"

/* Opens the spare descriptor, if it can. */
void http_accept_open(struct http_server *server);
/* Takes what waits at a pool's listener. False: the system has no memory or descriptor for more. */
bool http_accept(struct http_server *server, struct http_pool *pool);

#endif
