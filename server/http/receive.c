#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "server/http/internal.h"

#define LARGE_BODY   ((size_t)64 * 1024)          /* bytes beyond which the worker handles a request */
#define LINGER_BYTES ((uint64_t)16 * 1024 * 1024) /* read and thrown away behind an early refusal */

static void count_open(struct http_request *request)
{
    if (request->counted) return;
    atomic_fetch_add(&request->server->open, 1);
    request->counted = true;
}

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

/* --- The memory of bodies ---
 *
 * Small bodies are bounded by the number of connections. They do not count, so that nobody who holds large ones back
 * keeps a small one out. */

static size_t counted(size_t capacity)
{
    return capacity > LARGE_BODY ? capacity : 0;
}

static size_t most_memory(const struct http_options *options)
{
    return options->max_body_memory > options->max_body ? options->max_body_memory : options->max_body;
}

/* Whether the body may have this capacity. */
static bool is_room(const struct http_request *request, size_t capacity)
{
    const struct http_server *server = request->server;
    const size_t others = atomic_load(&server->body_memory) - counted(request->body_capacity);
    return counted(capacity) <= most_memory(&server->options) - others;
}

static void set_capacity(struct http_request *request, size_t capacity)
{
    atomic_fetch_sub(&request->server->body_memory, counted(request->body_capacity));
    atomic_fetch_add(&request->server->body_memory, counted(capacity));
    request->body_capacity = capacity;
}

static void set_crowded_out(struct http_request *request)
{
    problem_set(
        &request->problem, 503,
        "bodies of more than 64 KiB have limits.max_body_memory together, %zu bytes, and others take so much that "
        "this one does not fit",
        most_memory(&request->server->options));
    http_drop_body(request);
    request->early = true;
}

void http_drop_body(struct http_request *request)
{
    free(request->body);
    request->body = NULL;
    request->body_size = 0;
    set_capacity(request, 0);
}

/* --- The head --- */

static void authorise(struct http_request *request)
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
    count_open(request);
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
    else if (!request->upload && !is_room(request, (size_t)size))
        set_crowded_out(request);
}

static bool refuse_early(struct http_request *request)
{
    http_set_refusal(request);
    return http_send_early(request);
}

/* Where no body comes (RFC 9110, 10.1.1). The library (0.9.75) would still say "100 Continue", and take the next
 * request for the body; so it must not find the header. */
static void ignore_expectation(struct http_request *request)
{
    char *expect = (char *)(uintptr_t)http_request_header(request, "Expect");
    if (expect) *expect = '\0';
}

bool http_begin(struct http_request *request, const struct http_head *head)
{
    if (!request->target || !request->parameter) return false;
    snprintf(request->method, sizeof request->method, "%s", head->method);
    http_choose_id(request);
    http_check_head(request, head);
    http_check_host(request);
    http_find_client(request);
    http_check_head_size(request);
    http_find_route(request);
    http_cors(request);
    http_pool_begin(request);
    authorise(request);
    http_check_query(request);
    http_check_content(request);
    open_sink(request);
    check_length(request);
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
    http_set_refusal(request);
    return http_send(request);
}

/* In the place of http_begin(). What made the library refuse a head that it had read is its length or a cookie. */
static void find_head_fault(struct http_request *request, int status)
{
    struct problem *problem = &request->problem;
    snprintf(request->method, sizeof request->method, "-"); /* not known: HEAD gets a body, too, and then the end */
    http_choose_id(request);
    if (http_head_size(request) == 0)
        problem_set(problem, status, "request line and headers take more than limits.max_header, %zu bytes",
                    request->server->options.max_header);
    http_check_head(request, NULL);
    http_find_client(request);
    http_check_head_size(request);
    problem_set(problem, status == 431 ? 400 : status, "the header %s cannot be read",
                status == 431 ? "Cookie" : "Content-Length");
    http_find_route(request);
}

void http_refuse_unread(struct http_request *request, int status)
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

/* At least 1 KiB, doubled as it grows, and no more than a body may have. */
static size_t choose_capacity(const struct http_request *request, size_t wanted)
{
    const size_t most = request->server->options.max_body;
    size_t capacity = request->body_capacity ? request->body_capacity : 1024;
    while (capacity < wanted) capacity *= 2;
    return capacity > most && wanted <= most ? most : capacity;
}

static bool grow(struct http_request *request, size_t wanted)
{
    const size_t capacity = choose_capacity(request, wanted);
    if (!is_room(request, capacity)) {
        set_crowded_out(request);
        return false;
    }
    char *body = realloc(request->body, capacity);
    if (!body) {
        problem_set(&request->problem, 503, "out of memory");
        return false;
    }
    request->body = body;
    set_capacity(request, capacity);
    return true;
}

static void keep(struct http_request *request, const char *data, size_t size)
{
    const size_t wanted = request->body_size + size;
    if (wanted > request->body_capacity && !grow(request, wanted)) return;
    memcpy(request->body + request->body_size, data, size);
    request->body_size = wanted;
}

bool http_receive(struct http_request *request, const char *data, size_t size, size_t *taken)
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
        keep(request, data, size);
    return !request->early || refuse_early(request);
}

/* --- The handler --- */

static void run_in_worker(struct task *task)
{
    struct http_request *request = (struct http_request *)task;
    if (request->route->handler(request, request->server->options.context) == HTTP_REPLIED)
        http_request_resume(request);
}

/* A reply that the HTTP thread knows itself, or the route's handler. */
bool http_dispatch(struct http_request *request)
{
    struct http_server *server = request->server;
    count_open(request);
    request->ready_ns = clock_monotonic_ns();
    if (request->refused || request->problem.status) {
        http_set_refusal(request);
    } else if (!request->route) { /* OPTIONS */
        http_reply_header(request, "Allow", request->allow);
        http_reply(request, 204, NULL, "", 0, HTTP_BORROWED);
    } else if (request->upload) {
        return http_upload_finish(request);
    } else if (request->body_size > LARGE_BODY) {
        request->task = (struct task){.run = run_in_worker, .size = request->body_size};
        http_request_suspend(request, &(struct http_waiter){0});
        if (worker_submit(server->worker, &request->task)) return true;
        problem_set(&request->problem, 503, "the daemon is shutting down");
        http_set_refusal(request);
        http_request_resume(request);
        return true;
    } else if (request->route->handler(request, server->options.context) == HTTP_LATER) {
        return true;
    }
    return http_send(request);
}

bool http_wake(struct http_request *request)
{
    request->suspended = false;
    if (request->reply.kind == REPLY_NONE) request->waiter.resumed(request, request->waiter.context);
    return http_send(request);
}
