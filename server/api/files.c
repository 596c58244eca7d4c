/* The page, client.js with its types, and openapi.yaml: files that were embedded into the program when it was built, as
 * they are and in gzip. A client that has the bytes (If-None-Match) gets 304.
 * The page makes a part of its forms from /web/sampler.json and /web/training.json, the tables of the sampler's and of
 * the trainer's options. */
#include <jansson.h>
#include <string.h>

#include "model/generate/sampler_options.h"
#include "server/api/api.h"
#include "server/api/train.h"
#include "server/http/negotiate.h"
#include "server/web/embedded.h"

/* Nothing from elsewhere, nothing inline: text that a model wrote can never become markup or script. */
static const char policy[] = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; "
                             "connect-src 'self'; base-uri 'none'; form-action 'self'; frame-ancestors 'none'";

/* The option as JSON Schema has it, with the names of openapi.yaml; "off" says that its default does nothing. */
static json_t *option_schema(const struct sampler_option *option)
{
    const bool is_count = option->type == SAMPLER_COUNT;
    const char *minimum = option->flags & SAMPLER_ABOVE ? "exclusiveMinimum" : "minimum";
    const char *maximum = option->flags & SAMPLER_BELOW ? "exclusiveMaximum" : "maximum";
    if (is_count)
        return json_pack("{s:s, s:s, s:I, s:I, s:I, s:b}", "type", "integer", "description", option->help, minimum,
                         (json_int_t)option->minimum, maximum, (json_int_t)option->maximum, "default",
                         (json_int_t)option->fallback, "off", option->flags & SAMPLER_OFF);
    return json_pack("{s:s, s:s, s:f, s:f, s:f, s:b}", "type", "number", "description", option->help, minimum,
                     option->minimum, maximum, option->maximum, "default", option->fallback, "off",
                     option->flags & SAMPLER_OFF);
}

/* NULL without memory, which http_reply_json() answers with 503. */
static json_t *sampler_schema(void)
{
    json_t *schema = json_object();
    for (size_t i = 0; i < sampler_option_count; i++) {
        const struct sampler_option *option = &sampler_option_rows[i];
        if (json_object_set_new(schema, option->name, option_schema(option)) == 0) continue;
        json_decref(schema);
        return NULL;
    }
    return schema;
}

static void file_reply(struct http_request *request, const struct embedded_file *file)
{
    const bool packed = accept_gzip(http_request_header(request, "Accept-Encoding"));
    const struct embedded_form *form = packed ? &file->packed : &file->plain;
    http_reply_header(request, "Vary", "Accept-Encoding");
    http_reply_header(request, "ETag", form->etag);
    const bool known = etag_is_listed(http_request_header(request, "If-None-Match"), form->etag);
    if (packed && !known) http_reply_header(request, "Content-Encoding", "gzip");
    http_reply(request, known ? 304 : 200, known ? NULL : file->content_type, form->data, (size_t)*form->size,
               HTTP_BORROWED);
}

enum http_outcome api_file(struct http_request *request, void *context)
{
    (void)context;
    const char *path = http_request_path(request);
    const bool is_sampler = strcmp(path, "/web/sampler.json") == 0;
    const bool is_training = strcmp(path, "/web/training.json") == 0;
    const struct embedded_file *file = embedded_find(path);
    if (!file && !is_sampler && !is_training) {
        struct problem problem = {0};
        problem_set(&problem, 404, "there is nothing at %s", path);
        http_reply_problem(request, &problem);
        problem_close(&problem);
        return HTTP_REPLIED;
    }
    http_reply_header(request, "Content-Security-Policy", policy);
    http_reply_header(request, "Referrer-Policy", "no-referrer");
    http_reply_header(request, "Cache-Control", "no-cache");
    if (file)
        file_reply(request, file);
    else
        http_reply_json(request, 200, is_sampler ? sampler_schema() : train_options_schema());
    return HTTP_REPLIED;
}
