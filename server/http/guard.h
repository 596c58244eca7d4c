/* What a connection is watched for: how long its client may take, and that it has left. */
#ifndef LSTMD_SERVER_HTTP_GUARD_H
#define LSTMD_SERVER_HTTP_GUARD_H

#include "server/http/state.h"

/* Starts to wait for a head. If it is not complete within limits.idle_timeout, the connection ends. */
void http_guard_head(struct http_connection *owner);
/* Starts to wait for a body: limits.body_timeout for each 64 KiB. If it is too slow, the client gets 408, unless it
 * has its answer, and the connection ends. */
void http_guard_body(struct http_request *request);
/* Call it for each piece of the body. */
void http_guard_progress(struct http_request *request);
/* Replaces the functions that the watch calls (watch.h); NULL: none. */
void http_guard_calls(struct http_request *request, const struct watch_calls *calls);

/* Whether what the guard waits for is late. */
bool http_guard_is_late(const struct http_connection *owner);
/* Shuts the socket down in both directions, so the library gives the connection up, whatever it is doing. */
void http_guard_cut(struct http_connection *owner);
/* Throws away what the client has sent. Closing over it would reset the connection, and the answer might not arrive. */
void http_guard_drain(const struct http_connection *owner);

#endif
