#include "server/http/route.h"

#include <stdio.h>
#include <string.h>
#include <strings.h>

#include "base/hint.h"
#include "server/http/host.h"
#include "server/http/request.h"

/* "/a?b" -> "/a" and "b"; "http://host/a" -> "/a". */
static void split_target(struct http_request *request)
{
    char *question = strchr(request->target, '?');
    if (question) *question = '\0';
    request->query_text = question ? question + 1 : "";
    const char *absolute = http_host_of_target(request->target);
    if (!absolute) return;
    const char *slash = strchr(absolute, '/');
    request->path = slash ? slash : "/";
}

static void add_allowed(struct http_request *request, const char *method)
{
    size_t used = strlen(request->allow);
    if (strstr(request->allow, method)) return;
    snprintf(request->allow + used, sizeof request->allow - used, "%s%s", used ? ", " : "", method);
    if (strcmp(method, "GET") == 0) add_allowed(request, "HEAD");
}

/* Administration may have a listener of its own, and is then served there alone. */
static bool is_served_here(const struct http_request *request, const struct http_route *route)
{
    return route->scope != HTTP_ADMIN || request->server->admin.fd < 0 || request->owner->admin;
}

static void refuse_path(struct http_request *request)
{
    const struct http_options *options = &request->server->options;
    struct hint hint;
    hint_begin(&hint, request->path);
    for (size_t i = 0; i < options->route_count; i++)
        if (is_served_here(request, &options->routes[i]) && !strchr(options->routes[i].pattern, '{') &&
            options->routes[i].pattern[1])
            hint_try(&hint, options->routes[i].pattern);
    if (hint.remark)
        problem_set(&request->problem, 404, "there is nothing at %s; %s", request->path, hint.remark);
    else if (hint.found)
        problem_set(&request->problem, 404, "there is nothing at %s; did you mean %s?", request->path, hint.found);
    else
        problem_set(&request->problem, 404, "there is nothing at %s; /openapi.yaml lists all there is", request->path);
}

static void match_routes(struct http_request *request)
{
    const struct http_options *options = &request->server->options;
    const char *method = strcmp(request->method, "HEAD") == 0 ? "GET" : request->method;
    const bool everything = strcmp(request->path, "*") == 0 && strcmp(method, "OPTIONS") == 0;
    for (size_t i = 0; i < options->route_count; i++) {
        const struct http_route *route = &options->routes[i];
        if (!is_served_here(request, route)) continue;
        if (!everything && !path_match(route->pattern, request->path, request->parameter)) continue;
        add_allowed(request, route->method);
        request->pattern = route->pattern;
        if (!request->route && strcmp(route->method, method) == 0) request->route = route;
    }
    /* Match again: later patterns have written to the parameter, too. */
    if (request->route) path_match(request->route->pattern, request->path, request->parameter);
    if (!*request->allow)
        refuse_path(request);
    else if (!request->route && strcmp(method, "OPTIONS") != 0)
        problem_set(&request->problem, 405, "%s does not serve %s; it serves %s", request->path, request->method,
                    request->allow);
    add_allowed(request, "OPTIONS");
}

void http_route_find(struct http_request *request)
{
    struct error err = {0};
    split_target(request);
    match_routes(request);
    if (!request->problem.status && !query_parse(&request->query, request->query_text, &err))
        problem_set(&request->problem, err.code == ERROR_INVALID ? 400 : 503, "%s", err.message);
}

static bool is_json(const char *type)
{
    static const char wanted[] = "application/json";
    if (!type || strncasecmp(type, wanted, sizeof wanted - 1) != 0) return false;
    const char *rest = type + sizeof wanted - 1;
    rest += strspn(rest, " \t");
    return *rest == '\0' || *rest == ';';
}

/* Refuses a query on a route that takes none, instead of ignoring it silently. Public routes accept one, because
 * browsers and balancers add queries to them. */
void http_route_check_query(struct http_request *request)
{
    const struct http_route *route = request->route;
    if (!route || route->query || request->problem.status || request->query.count == 0) return;
    if (route->scope != HTTP_GENERATE && route->scope != HTTP_ADMIN) return;
    if (strcmp(route->method, "POST") == 0 || strcmp(route->method, "PUT") == 0)
        problem_set(&request->problem, 422, "%s %s takes its fields from the body, not from the query string",
                    route->method, route->pattern);
    else
        problem_set(&request->problem, 422, "%s %s takes no query string; it has \"%.64s\"", route->method,
                    route->pattern, request->query.pairs[0].name);
}

void http_route_check_content(struct http_request *request)
{
    const struct http_route *route = request->route;
    if (!route || request->problem.status || strcmp(route->method, "GET") == 0 || !http_has_body(request)) return;
    const char *type = http_request_header(request, "Content-Type");
    if (request->encoding) {
        http_reply_header(request, "Accept-Encoding", "identity");
        problem_set(&request->problem, 415, "the body must come as it is; it has the Content-Encoding %.60s",
                    request->encoding);
    } else if (!route->body && !is_json(type)) {
        problem_set(&request->problem, 415, "the body must have the header Content-Type: application/json; it has %s",
                    type ? type : "none");
    }
}
