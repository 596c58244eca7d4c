/* Which other origins' pages may read the answers. */
#ifndef LSTMD_SERVER_HTTP_CORS_H
#define LSTMD_SERVER_HTTP_CORS_H

#include "server/http/state.h"

/* Adds the reply's headers. After the route was looked for. */
void http_cors_add_headers(struct http_request *request);

#endif
