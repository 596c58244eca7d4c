/* What a connection is watched for: how long its client may take, and that it has left. */
#ifndef LSTMD_SERVER_HTTP_GUARD_H
#define LSTMD_SERVER_HTTP_GUARD_H

#include "server/http/state.h"

/* From now on: silence, or a head that does not end, for limits.idle_timeout. The connection ends. */
void http_guard_head(struct http_connection *owner);
/* From now on: a body that comes too slowly, limits.body_timeout for each 64 KiB. The client gets 408, unless it has
 * its answer, and the connection ends. */
void http_guard_body(struct http_request *request);
/* To be called as the body comes. */
void http_guard_progress(struct http_request *request);
/* From now on: what is said; NULL: nothing. */
void http_guard_calls(struct http_request *request, const struct watch_calls *calls);

/* Time is up for what is awaited. */
bool http_guard_is_late(const struct http_connection *owner);
/* Shuts the socket down in both directions: the library, whatever it does, gives the connection up. */
void http_guard_cut(struct http_connection *owner);
/* Throws away what the client has sent. Closing over it would reset the connection, and the answer might not arrive. */
void http_guard_drain(const struct http_connection *owner);

#endif
