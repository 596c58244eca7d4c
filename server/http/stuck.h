/* Ends requests on which the library loops for ever. The HTTP thread. */
#ifndef LSTMD_SERVER_HTTP_STUCK_H
#define LSTMD_SERVER_HTTP_STUCK_H

#include "server/http/state.h"

/* Looks at each request, and ends those on which the library is stuck. Call it as long as the library asks to be run
 * again at once. */
void http_stuck_end(struct http_server *server);

#endif
