/* Answers that are written to the socket, past libmicrohttpd: to requests that it could not answer, or not before the
 * whole body has come, and to connections that it is not given. One is the last answer of its connection. */
#ifndef LSTMD_SERVER_HTTP_REFUSAL_H
#define LSTMD_SERVER_HTTP_REFUSAL_H

#include "server/http/state.h"

/* Writes a reply (REPLY_DATA). False: not all of it was written. Reads the request's id, method and socket alone, which
 * do not change after its head. */
bool http_refusal_write(const struct http_request *request, const struct reply *reply);
/* Writes a problem that may pass soon, to a connection of which nothing was read. */
void http_refusal_write_problem(int fd, const char *id, const struct problem *problem);

#endif
