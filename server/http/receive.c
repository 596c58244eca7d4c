#include "server/http/receive.h"

#include <stdio.h>
#include <stdlib.h>

#include "server/http/body.h"
#include "server/http/client.h"
#include "server/http/cors.h"
#include "server/http/guard.h"
#include "server/http/head.h"
#include "server/http/host.h"
#include "server/http/id.h"
#include "server/http/pool.h"
#include "server/http/request.h"
#include "server/http/route.h"
#include "server/http/send.h"
#include "server/http/upload.h"

#define LINGER_BYTES ((uint64_t)16 * 1024 * 1024) /* read and thrown away behind an early refusal */

static uint64_t body_limit(const struct http_request *request, const char **setting)
{
    if (request->upload) return http_upload_limit(request->upload, setting);
    *setting = "limits.max_body";
    return request->server->options.max_body;
}

static void set_too_large(struct http_request *request)
{
    const char *setting;
    const uint64_t limit = body_limit(request, &setting);
    problem_set(&request->problem, 413, "the body is larger than %s, %llu bytes", setting, (unsigned long long)limit);
    http_upload_abandon(request);
    request->early = true;
}

/* --- The head --- */

static void authorise_request(struct http_request *request)
{
    const struct http_options *options = &request->server->options;
    if (!request->route || !options->authorise || request->early) return;
    request->refused = !options->authorise(request, request->route->scope, options->context);
}

static void open_sink(struct http_request *request)
{
    if (request->refused || request->problem.status || !request->route || !request->route->body) return;
    struct http_sink sink = {0};
    if (!request->route->body(request, &sink, request->server->options.context)) {
        request->refused = true;
        return;
    }
    request->sink_context = sink.context;
    http_count_open(request);
    if (http_upload_begin(request, &sink)) return;
    sink.abandon(sink.context);
    problem_set(&request->problem, 503, "the daemon takes limits.max_uploads bodies of this kind at a time, %zu",
                request->server->options.max_uploads);
}

static void check_length(struct http_request *request)
{
    const char *setting;
    const char *length = http_request_header(request, "Content-Length");
    const unsigned long long size = length ? strtoull(length, NULL, 10) : 0;
    if (size > body_limit(request, &setting))
        set_too_large(request);
    else if (!request->upload)
        http_body_check_room(request, (size_t)size);
}

static bool refuse_early(struct http_request *request)
{
    http_reply_refusal(request);
    return http_send_early(request);
}

/* Hides Expect from the library if the request has no body (RFC 9110, 10.1.1). The library (0.9.75) would otherwise
 * answer "100 Continue" and take the next request for the body. */
static void ignore_expectation(struct http_request *request)
{
    char *expect = (char *)(uintptr_t)http_request_header(request, "Expect");
    if (expect) *expect = '\0';
}

/* In this order: whoever sets request->problem first says what the answer is. */
static void check_head(struct http_request *request, const struct library_head *head)
{
    http_id_choose(request);
    http_head_check(request, head);
    http_host_check(request);
    http_client_find(request);
    http_head_check_size(request);
    http_route_find(request);
    http_cors_add_headers(request);
    http_pool_begin(request);
    authorise_request(request);
    http_route_check_query(request);
    http_route_check_content(request);
    open_sink(request);
    check_length(request);
}

bool http_receive_head(struct http_request *request, const struct library_head *head)
{
    if (!request->target || !request->parameter) return false; /* memory is out */
    snprintf(request->method, sizeof request->method, "%s", head->method);
    check_head(request, head);
    request->stage = STAGE_BODY;
    if (http_has_body(request))
        http_guard_body(request);
    else
        ignore_expectation(request);
    if (!request->refused && !request->problem.status) return true;
    const char *expect = http_request_header(request, "Expect");
    const bool waits = expect && *expect; /* nothing of the body is on its way */
    if (request->early || request->crowded) return refuse_early(request) && !waits;
    if (!waits) return true;
    http_reply_refusal(request);
    return http_send(request);
}

/* In the place of http_receive_head(). Where the library had read the head, it refuses the length or a cookie. */
static void find_head_fault(struct http_request *request, int status)
{
    struct problem *problem = &request->problem;
    snprintf(request->method, sizeof request->method, "-"); /* not known: HEAD gets a body, too, and then the end */
    http_id_choose(request);
    if (library_head_size(request->connection) == 0)
        problem_set(problem, status, "request line and headers take more than limits.max_header, %zu bytes",
                    request->server->options.max_header);
    http_head_check(request, NULL);
    http_client_find(request);
    http_head_check_size(request);
    problem_set(problem, status == 431 ? 400 : status, "the header %s cannot be read",
                status == 431 ? "Cookie" : "Content-Length");
    http_route_find(request);
}

void http_receive_unreadable(struct http_request *request, int status)
{
    if (!request->target || !request->parameter) return;
    if (request->stage == STAGE_HEADERS)
        find_head_fault(request, status);
    else
        problem_set(&request->problem, status, "the chunks of the body, or the lines behind them, cannot be read");
    http_upload_abandon(request);
    refuse_early(request);
}

/* --- The body --- */

bool http_receive_body(struct http_request *request, const char *data, size_t size, size_t *taken)
{
    const char *setting;
    if (request->upload && request->received + size <= body_limit(request, &setting)) {
        const bool good = http_upload_receive(request, data, size, taken);
        request->received += *taken;
        if (request->stage == STAGE_BODY) http_guard_progress(request);
        return good;
    }
    *taken = size;
    request->received += size;
    http_guard_progress(request);
    if (request->stage == STAGE_LINGER) return request->received < LINGER_BYTES;
    if (request->received > body_limit(request, &setting))
        set_too_large(request);
    else if (!request->refused && !request->problem.status)
        http_body_keep(request, data, size);
    return !request->early || refuse_early(request);
}
