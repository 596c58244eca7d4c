/* Sends the reply that a request has. */
#ifndef LSTMD_SERVER_HTTP_SEND_H
#define LSTMD_SERVER_HTTP_SEND_H

#include "server/http/state.h"

bool http_send(struct http_request *request);
/* Sends the reply before the body has come, and closes the connection when it has. */
bool http_send_early(struct http_request *request);

#endif
