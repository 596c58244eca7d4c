/* A request from its head to the end of its body. The HTTP thread. */
#ifndef LSTMD_SERVER_HTTP_RECEIVE_H
#define LSTMD_SERVER_HTTP_RECEIVE_H

#include "server/http/state.h"

/* The head is complete: checks it, finds its route, and answers now what does not wait for the body. */
bool http_receive_head(struct http_request *request, const struct library_head *head);
/* A piece of the body; takes *taken of its `size` bytes. */
bool http_receive_body(struct http_request *request, const char *data, size_t size, size_t *taken);
/* The library has refused the head, or a chunk of the body, with this status: answers in its place. */
void http_receive_unreadable(struct http_request *request, int status);

#endif
