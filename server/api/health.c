/* /healthz: the process lives. /readyz: it takes generations. Both are answered by the HTTP thread, never behind
 * compute; a full queue is busy, not unready. */
#include "base/version.h"
#include "server/api/api.h"
#include "server/api/services.h"

enum http_outcome api_healthz(struct http_request *request, void *context)
{
    (void)context;
    http_reply_header(request, "Cache-Control", "no-store");
    http_reply_json(request, 200, json_pack("{s:s, s:s}", "status", "ok", "version", version_number));
    return HTTP_REPLIED;
}

enum http_outcome api_readyz(struct http_request *request, void *context)
{
    struct services *services = context;
    struct problem problem = {0};
    struct error err = {0};
    struct served *served = NULL;
    http_reply_header(request, "Cache-Control", "no-store");
    if (atomic_load(&services->draining))
        problem_set(&problem, 503, "the daemon is shutting down");
    else if (!(served = registry_acquire(services->registry, NULL, 0, &err)))
        problem_set_error(&problem, &err);
    if (served)
        http_reply_json(request, 200, json_pack("{s:s, s:s}", "status", "ready", "model", served->model.name));
    else
        http_reply_problem(request, &problem);
    registry_release(served);
    problem_close(&problem);
    return HTTP_REPLIED;
}
