/* Requests that wait: http_request_suspend() and http_request_resume() of http.h. */
#include "server/http/guard.h"

void http_request_suspend(struct http_request *request, const struct http_waiter *waiter)
{
    request->waiter = *waiter;
    if (!request->suspended) {
        request->suspended = true;
        request->stage = STAGE_WAITING;
        library_suspend(request->connection);
    }
    http_guard_calls(request, &(struct watch_calls){.gone = waiter->gone, .context = waiter->context});
}

void http_request_resume(struct http_request *request)
{
    http_guard_calls(request, NULL);
    library_resume(request->server->library, request->connection);
}
