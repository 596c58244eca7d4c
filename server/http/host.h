/* Which names the daemon answers to. */
#ifndef LSTMD_SERVER_HTTP_HOST_H
#define LSTMD_SERVER_HTTP_HOST_H

#include "server/http/state.h"

/* Says 400 or 421 in request->problem, and sets request->early. A UNIX socket has no names: its permissions say who may
 * connect. */
void http_host_check(struct http_request *request);
/* The part after the scheme of "http://host/path" (a request that was meant for a proxy); NULL: it is a path. */
const char *http_host_of_target(const char *target);

#endif
