/* Replies that come in pieces (struct http_stream). */
#ifndef LSTMD_SERVER_HTTP_STREAM_H
#define LSTMD_SERVER_HTTP_STREAM_H

#include "server/http/state.h"

/* The library's handle of a reply that is a stream; NULL: memory is out. */
struct MHD_Response *http_stream_open(struct http_request *request);
/* Tells the end of a reply's stream, if it has one. */
void http_stream_close(struct http_request *request, bool complete);

#endif
