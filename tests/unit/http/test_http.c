#include <arpa/inet.h>
#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "server/http/http.h"
#include "tests/unit/support.h"

#define DEADLINE_MS 20000
#define MAX_SIZE    ((size_t)8 * 1024 * 1024)

/* --- A server with a route that takes large bodies --- */

/* The record of the sinks, and a gate at which write() waits. */
static struct {
    pthread_mutex_t mutex;
    pthread_cond_t changed;
    bool closed;                        /* the gate */
    size_t waiting, written, abandoned; /* written: pieces */
} sinks = {.mutex = PTHREAD_MUTEX_INITIALIZER, .changed = PTHREAD_COND_INITIALIZER};

struct sum {
    uint64_t size, sum;
    bool gated;
};

static unsigned char pattern(uint64_t i)
{
    return (unsigned char)(i * 2654435761U >> 13);
}

static bool reply_status(struct http_request *request, int status, const char *detail)
{
    struct problem problem = {0};
    problem_set(&problem, status, "%s", detail);
    http_reply_problem(request, &problem);
    problem_close(&problem);
    return false;
}

static bool sum_write(struct http_request *request, const char *data, size_t size, void *context)
{
    struct sum *sum = context;
    pthread_mutex_lock(&sinks.mutex);
    while (sum->gated && sinks.closed) {
        sinks.waiting++;
        pthread_cond_broadcast(&sinks.changed);
        pthread_cond_wait(&sinks.changed, &sinks.mutex);
        sinks.waiting--;
    }
    sinks.written++;
    pthread_cond_broadcast(&sinks.changed);
    pthread_mutex_unlock(&sinks.mutex);
    for (size_t i = 0; i < size; i++) {
        if (data[i] == '!') return reply_status(request, 422, "there is a !");
        sum->sum = sum->sum * 31 + (unsigned char)data[i];
    }
    sum->size += size;
    return true;
}

static void sum_abandon(void *context)
{
    free(context);
    pthread_mutex_lock(&sinks.mutex);
    sinks.abandoned++;
    pthread_cond_broadcast(&sinks.changed);
    pthread_mutex_unlock(&sinks.mutex);
}

static bool sum_body(struct http_request *request, struct http_sink *sink, void *context)
{
    (void)context;
    const char *name = http_request_parameter(request);
    if (strcmp(name, "forbidden") == 0) return reply_status(request, 409, "not this one");
    struct sum *sum = calloc(1, sizeof *sum);
    if (!sum) return reply_status(request, 503, "out of memory");
    sum->gated = strcmp(name, "gated") == 0;
    *sink = (struct http_sink){MAX_SIZE, "limits.sum", sum_write, sum_abandon, sum};
    return true;
}

static enum http_outcome sum_put(struct http_request *request, void *context)
{
    (void)context;
    struct sum *sum = http_request_sink(request);
    http_reply_json(request, 200, json_pack("{s:I, s:I}", "size", (json_int_t)sum->size, "sum", (json_int_t)sum->sum));
    free(sum);
    return HTTP_REPLIED;
}

static enum http_outcome echo(struct http_request *request, void *context)
{
    (void)context;
    size_t size;
    const char *body = http_request_body(request, &size);
    http_reply_json(request, 200, json_pack("{s:s%}", "body", body, size));
    return HTTP_REPLIED;
}

static bool authorise(struct http_request *request, enum http_scope scope, void *context)
{
    (void)context;
    const char *token = http_request_header(request, "authorization");
    if (scope != HTTP_ADMIN || (token && strcmp(token, "Bearer admin") == 0)) return true;
    http_reply_header(request, "WWW-Authenticate", "Bearer");
    return reply_status(request, token ? 403 : 401, "a token of scope admin is needed");
}

static const struct http_route routes[] = {
    {"PUT", "/sum/{name}", HTTP_GENERATE, sum_put, sum_body, false},
    {"PUT", "/admin/{name}", HTTP_ADMIN, sum_put, sum_body, false},
    {"POST", "/echo", HTTP_PUBLIC, echo, NULL, false},
    {"POST", "/admin", HTTP_ADMIN, echo, NULL, false},
};

static bool start(void *context, struct error *err)
{
    struct http_server **server = context;
    const struct http_options options = {.listen = "127.0.0.1",
                                         .max_body = 100000,
                                         .max_url = 1000,
                                         .max_header = 10000,
                                         .max_connections = 100,
                                         .max_uploads = 3,
                                         .idle_timeout = 60,
                                         .body_timeout = 60,
                                         .write_timeout = 60,
                                         .routes = routes,
                                         .route_count = sizeof routes / sizeof *routes,
                                         .authorise = authorise};
    *server = http_server_new(&options, err);
    if (*server && http_server_start(*server, err)) return true;
    http_server_free(*server);
    *server = NULL;
    return false;
}

static struct http_server *server;

static int set_up(void **state)
{
    (void)state;
    struct error err = {0};
    sinks.abandoned = sinks.written = 0;
    sinks.closed = false;
    return start(&server, &err) ? 0 : -1;
}

static int tear_down(void **state)
{
    (void)state;
    http_server_free(server);
    return 0;
}

/* --- A client --- */

static int dial(void)
{
    const int fd = socket(AF_INET, SOCK_STREAM, 0);
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons(http_server_port(server))};
    inet_pton(AF_INET, "127.0.0.1", &address.sin_addr);
    assert_int_equal(connect(fd, (struct sockaddr *)&address, sizeof address), 0);
    return fd;
}

static void send_all(int fd, const void *data, size_t size)
{
    for (const char *at = data; size > 0;) {
        const ssize_t n = send(fd, at, size, MSG_NOSIGNAL);
        assert_true(n > 0);
        at += n;
        size -= (size_t)n;
    }
}

static void send_text(int fd, const char *text)
{
    send_all(fd, text, strlen(text));
}

static void send_head(int fd, const char *line, size_t length, const char *more)
{
    char head[512];
    snprintf(head, sizeof head, "%s HTTP/1.1\r\nHost: localhost\r\nContent-Length: %zu\r\n%s\r\n", line, length, more);
    send_text(fd, head);
}

static bool readable(int fd)
{
    return poll(&(struct pollfd){.fd = fd, .events = POLLIN}, 1, DEADLINE_MS) == 1;
}

/* Reads a head and the body that belongs to it; returns the status. `text` keeps head and body. */
static int answer(int fd, char text[4096])
{
    size_t used = 0, whole = 4095;
    while (used < whole) {
        assert_true(readable(fd));
        const ssize_t n = recv(fd, text + used, whole - used, 0);
        if (n <= 0) break;
        used += (size_t)n;
        text[used] = '\0';
        const char *body = strstr(text, "\r\n\r\n");
        const char *length = strcasestr(text, "content-length:");
        if (body) whole = (size_t)(body + 4 - text) + (length && length < body ? strtoul(length + 15, NULL, 10) : 0);
    }
    text[used] = '\0';
    return strncmp(text, "HTTP/1.1 ", 9) == 0 ? (int)strtol(text + 9, NULL, 10) : 0;
}

static int answer_and_close(int fd, const char *wanted)
{
    char text[4096];
    const int status = answer(fd, text);
    if (wanted && !strstr(text, wanted)) fail_msg("no \"%s\" in: %s", wanted, text);
    close(fd);
    return status;
}

static char *patterned(size_t size)
{
    char *data = malloc(size);
    for (size_t i = 0; i < size; i++) data[i] = (char)(pattern(i) == '!' ? '?' : pattern(i));
    return data;
}

static void expected_sum(const char *data, size_t size, char out[100])
{
    uint64_t sum = 0;
    for (size_t i = 0; i < size; i++) sum = sum * 31 + (unsigned char)data[i];
    snprintf(out, 100, "{\"size\":%zu,\"sum\":%lld}", size, (long long)sum);
}

static void wait_until(const size_t *number, size_t value)
{
    struct timespec end;
    clock_gettime(CLOCK_REALTIME, &end);
    end.tv_sec += DEADLINE_MS / 1000;
    pthread_mutex_lock(&sinks.mutex);
    int code = 0;
    while (*number != value && code == 0) code = pthread_cond_timedwait(&sinks.changed, &sinks.mutex, &end);
    pthread_mutex_unlock(&sinks.mutex);
    assert_int_equal(code, 0);
}

static void set_gate(bool closed)
{
    pthread_mutex_lock(&sinks.mutex);
    sinks.closed = closed;
    pthread_cond_broadcast(&sinks.changed);
    pthread_mutex_unlock(&sinks.mutex);
}

/* --- Tests --- */

static void put_and_check(size_t size, const char *more)
{
    char *data = patterned(size), wanted[100];
    expected_sum(data, size, wanted);
    const int fd = dial();
    send_head(fd, "PUT /sum/a", size, more);
    send_all(fd, data, size);
    assert_int_equal(answer_and_close(fd, wanted), 200);
    free(data);
}

static void test_http_upload_pieces_are_the_body(void **state)
{
    (void)state;
    put_and_check(0, "");
    put_and_check(1, "");
    put_and_check((size_t)64 * 1024, ""); /* exactly a piece */
    put_and_check((size_t)64 * 1024 + 1, "");
    put_and_check(MAX_SIZE, "");
    assert_int_equal(sinks.abandoned, 0);
}

static void test_http_upload_chunked_ends_its_connection(void **state)
{
    (void)state;
    const size_t size = 300000;
    char *data = patterned(size), wanted[100], text[4096], line[32];
    expected_sum(data, size, wanted);
    const int fd = dial();
    send_text(fd, "PUT /sum/a HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n");
    for (size_t at = 0, n = 1; at < size; at += n, n = 3 * n + 1) {
        if (n > size - at) n = size - at;
        snprintf(line, sizeof line, "%zx\r\n", n);
        send_text(fd, line);
        send_all(fd, data + at, n);
        send_text(fd, "\r\n");
    }
    send_text(fd, "0\r\n\r\n");
    assert_int_equal(answer(fd, text), 200);
    assert_non_null(strstr(text, wanted));
    assert_true(readable(fd) && recv(fd, text, sizeof text, 0) == 0);
    close(fd);
    free(data);
}

static void test_http_upload_on_one_connection(void **state)
{
    (void)state;
    const size_t size = 300000;
    char *data = patterned(size), wanted[100], text[4096];
    expected_sum(data, size, wanted);
    const int fd = dial();
    for (int round = 0; round < 3; round++) {
        send_head(fd, "PUT /sum/a", size, "");
        send_all(fd, data, size);
        assert_int_equal(answer(fd, text), 200);
        assert_non_null(strstr(text, wanted));
    }
    close(fd);
    free(data);
}

static void test_http_upload_waits_for_its_sink_and_nobody_else_does(void **state)
{
    (void)state;
    static char block[1 << 16];
    set_gate(true);
    const int fd = dial();
    send_head(fd, "PUT /sum/gated", MAX_SIZE, "");
    /* Unread bytes stay in the buffers of two sockets. The system's limit for them is far below the body. */
    setsockopt(fd, SOL_SOCKET, SO_SNDBUF, &(int){1 << 16}, sizeof(int));
    send_all(fd, block, sizeof block);
    send_all(fd, block, 1);
    size_t sent = sizeof block + 1;
    wait_until(&sinks.waiting, 1);
    for (ssize_t n; (n = send(fd, block, sizeof block, MSG_NOSIGNAL | MSG_DONTWAIT)) > 0; sent += (size_t)n)
        assert_true(sent < MAX_SIZE);
    put_and_check(1000000, "");
    const int other = dial();
    send_head(other, "POST /echo", 2, "Content-Type: application/json\r\n");
    send_text(other, "{}");
    assert_int_equal(answer_and_close(other, "{\"body\":\"{}\"}"), 200);
    set_gate(false);
    for (size_t n; sent < MAX_SIZE; sent += n) {
        n = MAX_SIZE - sent < sizeof block ? MAX_SIZE - sent : sizeof block;
        send_all(fd, block, n);
    }
    assert_int_equal(answer_and_close(fd, "{\"size\":8388608,"), 200);
}

static void test_http_upload_refused_by_its_sink_in_the_middle(void **state)
{
    (void)state;
    char *data = patterned(MAX_SIZE);
    data[200000] = '!';
    const int fd = dial();
    send_head(fd, "PUT /sum/a", MAX_SIZE, "");
    send_all(fd, data, MAX_SIZE); /* all of it can be sent, and the answer arrives */
    assert_int_equal(answer_and_close(fd, "there is a !"), 422);
    const int last = dial(); /* in the last piece: the connection is kept */
    char text[4096];
    send_head(last, "PUT /sum/a", 5, "");
    send_text(last, "abcd!");
    assert_int_equal(answer(last, text), 422);
    send_head(last, "PUT /sum/a", 4, "");
    send_text(last, "abcd");
    assert_int_equal(answer_and_close(last, "\"size\":4"), 200);
    wait_until(&sinks.abandoned, 2);
    free(data);
}

static void test_http_upload_refused_before_it_comes(void **state)
{
    (void)state;
    const size_t far = (size_t)1 << 30;
    int fd = dial();
    send_head(fd, "PUT /sum/forbidden", far, "");
    assert_int_equal(answer_and_close(fd, "not this one"), 409);
    fd = dial();
    send_head(fd, "PUT /sum/forbidden", far, "Expect: 100-continue\r\n");
    assert_int_equal(answer_and_close(fd, "not this one"), 409);
    assert_int_equal(sinks.abandoned, 0);
    fd = dial();
    send_head(fd, "PUT /sum/a", MAX_SIZE + 1, "");
    assert_int_equal(answer_and_close(fd, "larger than limits.sum, 8388608 bytes"), 413);
    wait_until(&sinks.abandoned, 1);
}

static void test_http_upload_chunked_beyond_its_limit(void **state)
{
    (void)state;
    char *data = patterned(MAX_SIZE + 1);
    const int fd = dial();
    send_text(fd, "PUT /sum/a HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n800001\r\n");
    send_all(fd, data, MAX_SIZE + 1);
    send_text(fd, "\r\n0\r\n\r\n");
    assert_int_equal(answer_and_close(fd, "larger than limits.sum, 8388608 bytes"), 413);
    wait_until(&sinks.abandoned, 1);
    free(data);
}

static void test_http_upload_expect_continue(void **state)
{
    (void)state;
    char text[4096];
    const int fd = dial();
    send_head(fd, "PUT /sum/a", 3, "Expect: 100-continue\r\n");
    assert_int_equal(answer(fd, text), 100);
    send_text(fd, "abc");
    assert_int_equal(answer_and_close(fd, "\"size\":3"), 200);
}

static void test_http_upload_client_leaves(void **state)
{
    (void)state;
    char *data = patterned(MAX_SIZE);
    for (size_t i = 1; i <= 3; i++) {
        const int fd = dial();
        send_head(fd, "PUT /sum/a", MAX_SIZE, "");
        send_all(fd, data, i * 100000);
        if (i == 2) wait_until(&sinks.written, 1 + 3); /* a reset may overtake what is not read */
        if (i == 2) setsockopt(fd, SOL_SOCKET, SO_LINGER, &(struct linger){1, 0}, sizeof(struct linger));
        close(fd);
        wait_until(&sinks.abandoned, i);
    }
    put_and_check(100, ""); /* threads are there again */
    free(data);
}

static void test_http_upload_more_than_there_may_be(void **state)
{
    (void)state;
    int fds[3];
    for (size_t i = 0; i < 3; i++) {
        char text[4096];
        fds[i] = dial();
        send_head(fds[i], "PUT /sum/a", 1, "Expect: 100-continue\r\n");
        assert_int_equal(answer(fds[i], text), 100);
    }
    const int fd = dial();
    send_head(fd, "PUT /sum/a", MAX_SIZE, "");
    assert_int_equal(answer_and_close(fd, "Retry-After: 1"), 503);
    for (size_t i = 0; i < 3; i++) {
        send_text(fds[i], "x");
        assert_int_equal(answer_and_close(fds[i], "\"size\":1"), 200);
    }
    wait_until(&sinks.abandoned, 1);
}

static void test_http_upload_server_ends_in_the_middle(void **state)
{
    (void)state;
    static char block[200000];
    const int fd = dial();
    set_gate(true);
    send_head(fd, "PUT /sum/gated", MAX_SIZE, "");
    send_all(fd, block, sizeof block);
    wait_until(&sinks.waiting, 1);
    assert_int_equal(http_server_open_requests(server), 1);
    set_gate(false);
    http_server_free(server);
    server = NULL;
    assert_int_equal(sinks.abandoned, 1);
    close(fd);
}

static void test_http_authorise_is_asked_before_the_body(void **state)
{
    (void)state;
    int fd = dial();
    send_head(fd, "PUT /admin/a", MAX_SIZE, "");
    assert_int_equal(answer_and_close(fd, "WWW-Authenticate: Bearer"), 401);
    fd = dial();
    send_head(fd, "PUT /admin/a", MAX_SIZE, "Authorization: Bearer other\r\n");
    assert_int_equal(answer_and_close(fd, "a token of scope admin"), 403);
    fd = dial();
    send_head(fd, "PUT /admin/a", 2, "Authorization: Bearer admin\r\n");
    send_text(fd, "ab");
    assert_int_equal(answer_and_close(fd, "\"size\":2"), 200);
    fd = dial();
    char text[4096];
    send_head(fd, "POST /admin", 2, ""); /* no content type either: that is not what is said */
    send_text(fd, "{}");
    assert_int_equal(answer(fd, text), 401);
    send_text(fd, "OPTIONS /admin HTTP/1.1\r\nHost: localhost\r\n\r\n"); /* the same connection */
    assert_int_equal(answer(fd, text), 204);
    send_head(fd, "POST /admin", 0, "Authorization: Bearer admin\r\n"); /* no body, no type */
    assert_int_equal(answer_and_close(fd, "{\"body\":\"\"}"), 200);
}

static bool start_and_end(void *context, struct error *err)
{
    struct http_server *other = NULL;
    (void)context;
    if (!start(&other, err)) return false;
    http_server_free(other);
    return true;
}

static void test_http_server_without_memory(void **state)
{
    (void)state;
    assert_survives_failing_allocations(start_and_end, NULL);
}

/* With each allocation failing in turn, an upload is answered or its connection closed, and its sink is not forgotten.
 */
static void test_http_upload_without_memory(void **state)
{
    (void)state;
    char text[4096];
    bool failed = true;
    for (size_t n = 1; failed; n++) {
        fail_allocation(n);
        const int fd = dial();
        static const char request[] = "PUT /sum/a HTTP/1.1\r\nHost: localhost\r\nContent-Length: 10\r\n\r\n0123456789";
        send(fd, request, sizeof request - 1, MSG_NOSIGNAL); /* fails if it is already closed */
        const int status = answer(fd, text);
        assert_true(status == 200 || status == 503 || status == 0);
        failed = fail_allocation_done();
        assert_true(failed || status == 200);
        close(fd);
    }
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(test_http_upload_pieces_are_the_body),
        TEST(test_http_upload_chunked_ends_its_connection),
        TEST(test_http_upload_on_one_connection),
        TEST(test_http_upload_waits_for_its_sink_and_nobody_else_does),
        TEST(test_http_upload_refused_by_its_sink_in_the_middle),
        TEST(test_http_upload_refused_before_it_comes),
        TEST(test_http_upload_chunked_beyond_its_limit),
        TEST(test_http_upload_expect_continue),
        TEST(test_http_upload_client_leaves),
        TEST(test_http_upload_more_than_there_may_be),
        TEST(test_http_upload_server_ends_in_the_middle),
        TEST(test_http_authorise_is_asked_before_the_body),
        TEST(test_http_upload_without_memory),
        cmocka_unit_test(test_http_server_without_memory),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
