/* /models and /models/{name}: what there is, and changes of it. All of it reads files, so none runs in the HTTP thread.
 */
#include <string.h>

#include "server/api.h"
#include "server/completion.h"
#include "server/daemon.h"
#include "server/later.h"

static enum http_outcome refuse(struct http_request *request, const struct error *err)
{
    struct problem problem = {0};
    if (err->code == ERROR_CORRUPT) /* the request is right; the model's files are not */
        problem_set(&problem, 409, "%s", err->message);
    else
        problem_set_error(&problem, err);
    return completion_refuse(request, &problem);
}

static enum http_outcome list(struct http_request *request, void *context)
{
    const struct daemon *daemon = context;
    struct error err = {0};
    json_t *models = registry_list(daemon->registry, &err);
    if (!models) return refuse(request, &err);
    http_reply_json(request, 200, json_pack("{s:o}", "models", models));
    return HTTP_REPLIED;
}

static enum http_outcome describe(struct http_request *request, void *context)
{
    const struct daemon *daemon = context;
    struct error err = {0};
    json_t *model = registry_describe(daemon->registry, http_request_parameter(request), &err);
    if (!model) return refuse(request, &err);
    http_reply_json(request, 200, model);
    return HTTP_REPLIED;
}

enum http_outcome api_models(struct http_request *request, void *context)
{
    return later(((struct daemon *)context)->reader, request, list, context);
}

enum http_outcome api_model(struct http_request *request, void *context)
{
    return later(((struct daemon *)context)->reader, request, describe, context);
}
