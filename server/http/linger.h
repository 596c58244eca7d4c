/* Sockets of connections that are over, but whose clients have not received everything yet. The HTTP thread.
 *
 * If a socket is closed while bytes of the client wait unread, or come later, the system resets the connection and
 * discards what it has not sent. So a client that sends requests ahead could lose answers, because an answer before
 * them ended the connection (RFC 9112, 9.6). A copy of the descriptor keeps the socket open meanwhile.
 */
#ifndef LSTMD_SERVER_HTTP_LINGER_H
#define LSTMD_SERVER_HTTP_LINGER_H

#include "server/http/state.h"

/* The library is about to close the socket of `owner`. Keeps a copy if the client has not received everything, or sends
 * on. The oldest copy gives way if there are too many. */
void http_linger_begin(struct http_connection *owner);
/* Throws away what clients have sent. Closes each copy whose client has received everything, has left, or takes too
 * long. Call it every HTTP_LINGER_MS as long as server->linger_count is not 0. */
void http_linger_look(struct http_server *server);
/* Closes all copies. */
void http_linger_end(struct http_server *server);

#endif
