/* Handlers that wait for files, or for a model to be loaded. The HTTP thread never waits, so it suspends the request,
 * and a worker runs the handler.
 */
#ifndef LSTMD_SERVER_API_LATER_H
#define LSTMD_SERVER_API_LATER_H

#include "base/worker.h"
#include "server/http/http.h"

/* For a handler to return: runs `handler`, which must reply (HTTP_REPLIED), in the worker and resumes the request. */
enum http_outcome later(struct worker *worker, struct http_request *request, http_handler *handler, void *context);

#endif
