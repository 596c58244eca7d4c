/* What the server's own files ask of a request and set in it; http.h has what handlers do. */
#ifndef LSTMD_SERVER_HTTP_REQUEST_H
#define LSTMD_SERVER_HTTP_REQUEST_H

#include "server/http/state.h"

/* The head announces a body. */
bool http_has_body(const struct http_request *request);
/* Chunks of the body are awaited. */
bool http_comes_in_chunks(const struct http_request *request);
/* Counts the request among the open ones, once: its handler begins. */
void http_count_open(struct http_request *request);
/* Makes request->problem the reply, unless a function of the route's has set one. */
void http_reply_refusal(struct http_request *request);

#endif
