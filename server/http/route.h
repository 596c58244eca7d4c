/* Which route a head asks for, and whether query and body have the form that the route takes. */
#ifndef LSTMD_SERVER_HTTP_ROUTE_H
#define LSTMD_SERVER_HTTP_ROUTE_H

#include "server/http/state.h"

/* Finds path, route, allowed methods and query. Says 400, 404, 405 or 503 in request->problem. */
void http_route_find(struct http_request *request);
/* Says 422 in request->problem: of a query where the route takes none. */
void http_route_check_query(struct http_request *request);
/* Says 415 in request->problem: of a body whose type or encoding the route does not take. */
void http_route_check_content(struct http_request *request);

#endif
