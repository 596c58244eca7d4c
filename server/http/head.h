/* Whether a head is sound HTTP, and small enough. */
#ifndef LSTMD_SERVER_HTTP_HEAD_H
#define LSTMD_SERVER_HTTP_HEAD_H

#include "server/http/state.h"

/* Says 400, 413, 417 or 501 in request->problem, and sets request->early: such a head ends its connection. head NULL:
 * the library has shown the headers alone. */
void http_head_check(struct http_request *request, const struct library_head *head);
/* Says 414 or 431 in request->problem. */
void http_head_check_size(struct http_request *request);

#endif
