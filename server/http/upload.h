/* Bodies that are streamed into a sink, each by a thread of its own. */
#ifndef LSTMD_SERVER_HTTP_UPLOAD_H
#define LSTMD_SERVER_HTTP_UPLOAD_H

#include "server/http/state.h"

struct uploads *http_uploads_new(size_t limit, struct error *err);
/* No piece is written afterwards. */
void http_uploads_stop(struct uploads *uploads);
/* Waits for what is left. After http_uploads_stop() and the end of all connections; NULL allowed. */
void http_uploads_free(struct uploads *uploads);

/* Starts the thread of a request whose body() gave a sink. False: there are too many, and the sink is the caller's. */
bool http_upload_begin(struct http_request *request, const struct http_sink *sink);
/* The most bytes that the sink takes, and the setting that says so. */
uint64_t http_upload_limit(const struct upload *upload, const char **setting);
/* Takes *taken of `size` bytes. May suspend the request (STAGE_PIECE), which then takes nothing. */
bool http_upload_receive(struct http_request *request, const char *data, size_t size, size_t *taken);
/* Suspends the request until the rest is written and the handler has replied. */
bool http_upload_finish(struct http_request *request);
/* The body will not be complete. Nothing for a request without an upload. */
void http_upload_abandon(struct http_request *request);

#endif
