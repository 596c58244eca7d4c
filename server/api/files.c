/* The page and openapi.yaml: files that were embedded into the program when it was built. */
#include <string.h>

#include "server/api/api.h"
#include "server/web/embedded.h"

/* Nothing from elsewhere, nothing inline: text that a model wrote can never become markup or script. */
static const char policy[] = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; "
                             "connect-src 'self'; base-uri 'none'; form-action 'self'; frame-ancestors 'none'";

enum http_outcome api_file(struct http_request *request, void *context)
{
    (void)context;
    const struct embedded_file *file = embedded_find(http_request_path(request));
    if (!file) {
        struct problem problem = {0};
        problem_set(&problem, 404, "there is nothing at %s", http_request_path(request));
        http_reply_problem(request, &problem);
        problem_close(&problem);
        return HTTP_REPLIED;
    }
    http_reply_header(request, "Content-Security-Policy", policy);
    http_reply_header(request, "Referrer-Policy", "no-referrer");
    http_reply_header(request, "Cache-Control", "no-cache");
    http_reply(request, 200, file->content_type, file->data, (size_t)*file->size, HTTP_BORROWED);
    return HTTP_REPLIED;
}
