/* Requests at which the library turns round and round. The HTTP thread. */
#ifndef LSTMD_SERVER_HTTP_STUCK_H
#define LSTMD_SERVER_HTTP_STUCK_H

#include "server/http/state.h"

/* Looks at each request, and ends those that the library is stuck in. To be called again and again while the library
 * wants to be run at once. */
void http_stuck_end(struct http_server *server);

#endif
