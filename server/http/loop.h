/* The HTTP thread: waits for something to happen, accepts connections, runs the library. */
#ifndef LSTMD_SERVER_HTTP_LOOP_H
#define LSTMD_SERVER_HTTP_LOOP_H

#include "server/http/state.h"

/* Starts the thread. */
bool http_loop_start(struct http_server *server, struct error *err);
/* Ends it. Nothing where it was not started. */
void http_loop_stop(struct http_server *server);

#endif
