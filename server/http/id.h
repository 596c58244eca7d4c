/* Ids of requests: the client's own, if it sent one, else generated ones. */
#ifndef LSTMD_SERVER_HTTP_ID_H
#define LSTMD_SERVER_HTTP_ID_H

#include "server/http/state.h"

/* Generates an id. */
void http_id_new(struct http_server *server, char id[REQUEST_ID_SIZE]);
/* Sets the request's id, and its trace's, if a valid traceparent names one. */
void http_id_choose(struct http_request *request);

#endif
