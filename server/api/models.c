/* /models: lists, describes and changes models. Handlers read files, so none runs in the HTTP thread: the daemon's
 * loader runs changes of the registry, one after the other, the reader runs descriptions. A change answers with the
 * model as it is then. */
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include "server/api/api.h"
#include "server/api/completion.h"
#include "server/api/later.h"
#include "server/api/services.h"
#include "server/api/text_reply.h"

static void set_problem(struct problem *problem, const struct error *err)
{
    if (err->code == ERROR_CORRUPT) /* the request is right; the model's files are not */
        problem_set(problem, 409, "%s", err->message);
    else
        problem_set_error(problem, err);
}

static enum http_outcome models_refuse(struct http_request *request, const struct error *err)
{
    struct problem problem = {0};
    set_problem(&problem, err);
    return completion_refuse(request, &problem);
}

/* A list that is being written, a model at a time. */
struct models_listing {
    struct registry *registry;
    const void *position;
};

static enum text_state write_model(void *context, struct json_writer *out, struct error *err)
{
    struct models_listing *listing = context;
    const bool first = !listing->position;
    struct error own = {0};
    json_t *model;
    if (first) json_write_literal(out, "{\"models\":[");
    if (registry_next(listing->registry, &listing->position, &model, &own)) {
        if (!first) json_write_literal(out, ",");
        text_write_json(out, model);
        return TEXT_MORE;
    }
    json_write_literal(out, "]}\n");
    if (!own.code) return TEXT_END;
    error_set(err, own.code, "%s", own.message);
    return TEXT_BROKEN;
}

static enum http_outcome models_list(struct http_request *request, void *context)
{
    const struct services *services = context;
    struct error err = {0};
    struct models_listing *listing = calloc(1, sizeof *listing);
    if (!listing) {
        error_set_no_memory(&err, sizeof *listing, "the list of models");
        return models_refuse(request, &err);
    }
    listing->registry = services->registry;
    const struct text_source source = {
        .write = write_model, .release = free, .context = listing, .worker = services->reader};
    text_reply(request, 200, "application/json", &source);
    return HTTP_REPLIED;
}

enum http_outcome api_models(struct http_request *request, void *context)
{
    return later(((struct services *)context)->reader, request, models_list, context);
}

static enum http_outcome models_describe(struct http_request *request, const struct services *services,
                                         const char *name)
{
    struct error err = {0};
    json_t *model = registry_describe(services->registry, name, &err);
    if (!model) return models_refuse(request, &err);
    http_reply_json(request, 200, model);
    return HTTP_REPLIED;
}

static enum http_outcome describe_one(struct http_request *request, void *context)
{
    return models_describe(request, context, http_request_parameter(request));
}

enum http_outcome api_model(struct http_request *request, void *context)
{
    return later(((struct services *)context)->reader, request, describe_one, context);
}

/* --- Changes --- */

static enum http_outcome models_change(struct http_request *request, const struct services *services,
                                       bool (*what)(struct registry *registry, const char *name, struct error *err))
{
    struct error err = {0};
    const char *name = http_request_parameter(request);
    return what(services->registry, name, &err) ? models_describe(request, services, name)
                                                : models_refuse(request, &err);
}

/* The two that take no fields. */
static enum http_outcome change_later(struct http_request *request, const struct services *services,
                                      http_handler *handler)
{
    struct problem problem = {0};
    size_t size;
    http_request_body(request, &size);
    if (size == 0) return later(services->loader, request, handler, (void *)(uintptr_t)services);
    problem_set(&problem, 422, "this request takes no body");
    return completion_refuse(request, &problem);
}

static enum http_outcome models_load(struct http_request *request, void *context)
{
    return models_change(request, context, registry_load);
}

enum http_outcome api_model_load(struct http_request *request, void *context)
{
    return change_later(request, context, models_load);
}

static enum http_outcome models_unload(struct http_request *request, void *context)
{
    return models_change(request, context, registry_unload);
}

enum http_outcome api_model_unload(struct http_request *request, void *context)
{
    return change_later(request, context, models_unload);
}

static enum http_outcome delete (struct http_request *request, void *context) {
    const struct services *services = context; struct error err = {0};
    if (!registry_remove(services->registry, http_request_parameter(request), &err)) return models_refuse(request,
                                                                                                          &err);
    http_reply(request, 204, NULL, "", 0, HTTP_BORROWED);
    return HTTP_REPLIED;
}

enum http_outcome api_model_delete(struct http_request *request, void *context)
{
    return change_later(request, context, delete);
}

struct default_fields {
    struct field_text name;
};

static const struct field rows[] = {
    {"name", FIELD_TEXT, offsetof(struct default_fields, name), 0, 0, NULL, 0},
};

static enum http_outcome put_default(struct http_request *request, void *context)
{
    const struct services *services = context;
    static const struct field_table table = {rows, sizeof rows / sizeof *rows};
    struct default_fields fields = {0};
    struct problem problem = {0};
    struct error err = {0};
    size_t size;
    const char *text = http_request_body(request, &size);
    json_t *body = fields_parse_body(text, size, &problem);
    if (body) fields_read_json(&table, &fields, body, NULL, &problem);
    if (!problem.status && (!fields.name.data || strlen(fields.name.data) != fields.name.size))
        problem_add_field(&problem, "name", "must be the name of a model");
    if (!problem.status && !registry_set_default(services->registry, fields.name.data, &err)) {
        if (err.code == ERROR_NOT_FOUND)
            problem_add_field(&problem, "name", "%s", err.message);
        else
            set_problem(&problem, &err);
    }
    const enum http_outcome outcome =
        problem.status ? completion_refuse(request, &problem) : models_describe(request, services, fields.name.data);
    json_decref(body);
    return outcome;
}

enum http_outcome api_default_put(struct http_request *request, void *context)
{
    return later(((struct services *)context)->loader, request, put_default, context);
}
