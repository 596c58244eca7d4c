/* /models and /models/{name}: what is served. The descriptions were made when the model was loaded. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "server/api.h"
#include "server/daemon.h"

enum http_outcome api_models(struct http_request *request, void *context)
{
    const struct registry *registry = &((struct daemon *)context)->registry;
    json_t *model = json_loadb(registry->description, registry->description_size, 0, NULL);
    json_object_del(model, "tensors");
    json_object_del(model, "training");
    http_reply_json(request, 200, json_pack("{s:[o]}", "models", model));
    return HTTP_REPLIED;
}

enum http_outcome api_model(struct http_request *request, void *context)
{
    const struct registry *registry = &((struct daemon *)context)->registry;
    const char *name = http_request_parameter(request);
    if (registry_has(registry, name, strlen(name))) {
        http_reply(request, 200, "application/json", registry->description, registry->description_size, HTTP_BORROWED);
        return HTTP_REPLIED;
    }
    struct problem problem = {0};
    problem_set(&problem, 404, "there is no model \"%s\"; there is \"%s\"", name, registry->model.name);
    http_reply_problem(request, &problem);
    problem_close(&problem);
    return HTTP_REPLIED;
}
