/* The memory of bodies that handlers get as a whole.
 *
 * Small bodies are bounded by the number of connections. They do not count, so that nobody who holds large ones back
 * keeps a small one out. The HTTP thread. */
#ifndef LSTMD_SERVER_HTTP_BODY_H
#define LSTMD_SERVER_HTTP_BODY_H

#include "server/http/state.h"

#define HTTP_LARGE_BODY ((size_t)64 * 1024) /* bytes beyond which a body counts, and the worker handles its request */

/* Says 503 in request->problem where a body of `size` bytes has no room beside those of others. */
void http_body_check_room(struct http_request *request, size_t size);
/* Keeps a piece of the body. Says 503 in request->problem where it has no room. */
void http_body_keep(struct http_request *request, const char *data, size_t size);
/* The body is not needed any more. */
void http_body_drop(struct http_request *request);

#endif
