#include "server/http/body.h"

#include <stdlib.h>
#include <string.h>

#define SMALLEST_CAPACITY ((size_t)1024)

static size_t size_that_counts(size_t capacity)
{
    return capacity > HTTP_LARGE_BODY ? capacity : 0;
}

static size_t most_memory(const struct http_options *options)
{
    return options->max_body_memory > options->max_body ? options->max_body_memory : options->max_body;
}

/* Whether the body may have this capacity. */
static bool body_has_room(const struct http_request *request, size_t capacity)
{
    const struct http_server *server = request->server;
    const size_t others = atomic_load(&server->body_memory) - size_that_counts(request->body_capacity);
    return size_that_counts(capacity) <= most_memory(&server->options) - others;
}

static void set_capacity(struct http_request *request, size_t capacity)
{
    atomic_fetch_sub(&request->server->body_memory, size_that_counts(request->body_capacity));
    atomic_fetch_add(&request->server->body_memory, size_that_counts(capacity));
    request->body_capacity = capacity;
}

void http_body_drop(struct http_request *request)
{
    free(request->body);
    request->body = NULL;
    request->body_size = 0;
    set_capacity(request, 0);
}

/* Whether it has; else says 503. */
static bool check_room(struct http_request *request, size_t capacity)
{
    if (body_has_room(request, capacity)) return true;
    problem_set(
        &request->problem, 503,
        "bodies of more than 64 KiB have limits.max_body_memory together, %zu bytes, and others take so much that "
        "this one does not fit",
        most_memory(&request->server->options));
    http_body_drop(request);
    request->early = true;
    return false;
}

void http_body_check_room(struct http_request *request, size_t size)
{
    check_room(request, size);
}

/* At least 1 KiB, doubled as it grows, and no more than a body may have. */
static size_t choose_capacity(const struct http_request *request, size_t wanted)
{
    const size_t most = request->server->options.max_body;
    size_t capacity = request->body_capacity ? request->body_capacity : SMALLEST_CAPACITY;
    while (capacity < wanted) capacity *= 2;
    return capacity > most && wanted <= most ? most : capacity;
}

static bool body_grow(struct http_request *request, size_t wanted)
{
    const size_t capacity = choose_capacity(request, wanted);
    if (!check_room(request, capacity)) return false;
    char *body = realloc(request->body, capacity);
    if (!body) {
        problem_set(&request->problem, 503, "out of memory");
        return false;
    }
    request->body = body;
    set_capacity(request, capacity);
    return true;
}

void http_body_keep(struct http_request *request, const char *data, size_t size)
{
    const size_t wanted = request->body_size + size;
    if (wanted > request->body_capacity && !body_grow(request, wanted)) return;
    memcpy(request->body + request->body_size, data, size);
    request->body_size = wanted;
}
