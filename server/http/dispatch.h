/* A request at its handler. The HTTP thread. */
#ifndef LSTMD_SERVER_HTTP_DISPATCH_H
#define LSTMD_SERVER_HTTP_DISPATCH_H

#include "server/http/state.h"

/* The body is complete: the request gets its handler, or the reply that the HTTP thread knows itself. */
bool http_dispatch(struct http_request *request);
/* The request was suspended for its reply, and resumed. */
bool http_dispatch_resumed(struct http_request *request);

#endif
