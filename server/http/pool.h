/* How many connections a listener may have, and which of them makes room for a new one. The HTTP thread. */
#ifndef LSTMD_SERVER_HTTP_POOL_H
#define LSTMD_SERVER_HTTP_POOL_H

#include "server/http/state.h"

/* Connections of a listener beyond its limit, for probes and for saying 503. So many are accepted before the library
 * looks at those that are there: each of the reserve is looked at before it gives way to the next. */
#define HTTP_RESERVE 32

/* Connections that there may be at a time, those whose end is near among them. */
size_t http_pool_capacity(const struct http_options *options);

void http_pool_open(struct http_pool *pool, const struct listener *listener, const char *setting, size_t limit);
/* A new connection. The idlest one makes room where there is none. Where all are busy, it is of the reserve. */
void http_pool_join(struct http_connection *owner);
/* The head is complete, and its route known. Says 503 in request->problem for what the reserve does not serve. */
void http_pool_begin(struct http_request *request);
/* The request is over. */
void http_pool_rest(struct http_connection *owner);
void http_pool_leave(struct http_connection *owner);
/* Ends the idlest connection, which the library closes when it runs. False: all are busy. */
bool http_pool_make_room(struct http_pool *pool);
/* A connection was turned away: for the log. */
void http_pool_count_refusal(struct http_pool *pool);
struct http_connection_numbers http_pool_numbers(const struct http_pool *pool); /* any thread */

#endif
