/* The life of a request, from its first line to its line in the access log: what is done at each event of the library.
 * The HTTP thread. */
#ifndef LSTMD_SERVER_HTTP_EXCHANGE_H
#define LSTMD_SERVER_HTTP_EXCHANGE_H

#include "server/http/state.h"

/* For library_new(). */
struct library_events http_exchange_events(struct http_server *server);

#endif
