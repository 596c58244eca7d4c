/* Source: https://fetch.spec.whatwg.org/#http-cors-protocol. Scripts set the header with the token themselves, and
 * there are no cookies, so no answer allows credentials. "*" stands for all other headers, whichever are asked for. */
#include "server/http/cors.h"

#include <string.h>

#define ORIGIN_BYTES 200 /* longest; a reply's head has so much room (REPLY_MEMORY in library.c) */

static bool is_origin(const char *text)
{
    if (strcmp(text, "*") == 0) return true;
    const size_t scheme = strspn(text, "abcdefghijklmnopqrstuvwxyz0123456789+-.");
    if (scheme == 0 || strncmp(text + scheme, "://", 3) != 0 || strlen(text) > ORIGIN_BYTES) return false;
    const char *host = text + scheme + 3;
    return *host && host[strspn(host, "abcdefghijklmnopqrstuvwxyz0123456789.-_:[]")] == '\0';
}

bool http_cors_check(const struct http_options *options, struct error *err)
{
    for (size_t i = 0; i < options->cors_origin_count; i++)
        if (!is_origin(options->cors_origins[i]))
            return error_set(err, ERROR_INVALID,
                             "server.cors_origins: \"%s\" is neither an origin, such as https://app.example.org or "
                             "http://localhost:3000 (in small letters, no path, %d bytes at most), nor *",
                             options->cors_origins[i], ORIGIN_BYTES);
    return true;
}

static const char *find_allowed(const struct http_options *options, const char *origin)
{
    for (size_t i = 0; i < options->cors_origin_count; i++) {
        const char *allowed = options->cors_origins[i];
        if (strcmp(allowed, "*") == 0 || strcmp(allowed, origin) == 0) return allowed;
    }
    return NULL;
}

void http_cors_add_headers(struct http_request *request)
{
    const struct http_options *options = &request->server->options;
    if (options->cors_origin_count == 0) return;
    http_reply_header(request, "Vary", "Origin");
    const char *origin = http_request_header(request, "Origin");
    const char *allowed = origin ? find_allowed(options, origin) : NULL;
    if (!allowed) return;
    http_reply_header(request, "Access-Control-Allow-Origin", allowed);
    if (strcmp(request->method, "OPTIONS") != 0 || !http_request_header(request, "Access-Control-Request-Method")) {
        http_reply_header(request, "Access-Control-Expose-Headers", "*");
        return;
    }
    http_reply_header(request, "Access-Control-Allow-Methods", request->allow);
    http_reply_header(request, "Access-Control-Allow-Headers", "*, Authorization"); /* which "*" does not include */
    http_reply_header(request, "Access-Control-Max-Age", "600");
}
