#include "server/http/dispatch.h"

#include "base/clock.h"
#include "server/http/body.h"
#include "server/http/request.h"
#include "server/http/send.h"
#include "server/http/upload.h"

static void run_in_worker(struct task *task)
{
    struct http_request *request = (struct http_request *)task;
    if (request->route->handler(request, request->server->options.context) == HTTP_REPLIED)
        http_request_resume(request);
}

/* Merely parsing a large body would keep the other requests waiting. */
static void give_to_worker(struct http_request *request)
{
    request->task = (struct task){.run = run_in_worker, .size = request->body_size};
    http_request_suspend(request, &(struct http_waiter){0});
    if (worker_submit(request->server->worker, &request->task)) return;
    problem_set(&request->problem, 503, "the daemon is shutting down");
    http_reply_refusal(request);
    http_request_resume(request);
}

static void reply_options(struct http_request *request)
{
    http_reply_header(request, "Allow", request->allow);
    http_reply(request, 204, NULL, "", 0, HTTP_BORROWED);
}

bool http_dispatch(struct http_request *request)
{
    http_count_open(request);
    request->ready_ns = clock_monotonic_ns();
    if (request->refused || request->problem.status) {
        http_reply_refusal(request);
    } else if (!request->route) {
        reply_options(request); /* only OPTIONS needs no route */
    } else if (request->upload) {
        return http_upload_finish(request);
    } else if (request->body_size > HTTP_LARGE_BODY) {
        give_to_worker(request);
        return true;
    } else if (request->route->handler(request, request->server->options.context) == HTTP_LATER) {
        return true;
    }
    return http_send(request);
}

bool http_dispatch_resumed(struct http_request *request)
{
    request->suspended = false;
    if (request->reply.kind == REPLY_NONE) request->waiter.resumed(request, request->waiter.context);
    return http_send(request);
}
