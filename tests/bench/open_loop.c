/* An open-loop client for `make bench`: it sends requests at a fixed rate, and does not wait for earlier answers.
 *
 *   cc -O2 tests/bench/open_loop.c -lm -o open_loop; ./open_loop PORT SECONDS RATE LENGTH
 *
 * It sends RATE requests per second for LENGTH characters each, over up to 256 connections. Their moments are those of
 * a Poisson process, the same in each run. A time runs from the moment when a request is due to the end of its answer.
 * So it includes waits for a connection or for this client. Prints one line of JSON, with times in milliseconds.
 */
#include <arpa/inet.h>
#include <math.h>
#include <netinet/tcp.h>
#include <stdbool.h>
#include <stdint.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/prctl.h>
#include <sys/socket.h>

#include <unistd.h>

#include "tests/bench/client.h"

enum { CONNECTIONS = 256, ANSWER = 65536, EVENTS = 64 };

static struct connection {
    int fd;
    double due; /* of the running request */
    char answer[ANSWER];
    size_t size;
} connections[CONNECTIONS];

static struct connection *idle[CONNECTIONS];
static size_t idle_count, opened;
static int epoll_fd;
static unsigned short port;
static unsigned length;
static double *times;
static size_t answered;
static uint64_t random_state = 1;

/* xorshift64*: 0 < x <= 1. */
static double uniform(void)
{
    random_state ^= random_state >> 12;
    random_state ^= random_state << 25;
    random_state ^= random_state >> 27;
    return ((double)((random_state * 0x2545f4914f6cdd1du) >> 11) + 1) * 0x1p-53;
}

static struct connection *open_connection(void)
{
    if (opened == CONNECTIONS) return NULL;
    struct connection *connection = &connections[opened++];
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons(port)};
    struct epoll_event event = {.events = EPOLLIN, .data.ptr = connection};
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    connection->fd = socket(AF_INET, SOCK_STREAM, 0);
    if (connection->fd < 0 || connect(connection->fd, (struct sockaddr *)&address, sizeof address) != 0)
        fail("connect");
    setsockopt(connection->fd, IPPROTO_TCP, TCP_NODELAY, &(int){1}, sizeof(int));
    if (epoll_ctl(epoll_fd, EPOLL_CTL_ADD, connection->fd, &event) != 0) fail("epoll_ctl");
    return connection;
}

/* Returns false if all connections are busy. The request then stays due. */
static bool send_request(double due)
{
    struct connection *connection = idle_count ? idle[--idle_count] : open_connection();
    char request[512], body[128];
    if (!connection) return false;
    const int size =
        snprintf(body, sizeof body, "{\"prompt\":\"%c%c%c%c\",\"length\":%u}", 'a' + (int)(uniform() * 25),
                 'a' + (int)(uniform() * 25), 'a' + (int)(uniform() * 25), 'a' + (int)(uniform() * 25), length);
    const int n = snprintf(request, sizeof request,
                           "POST /generate HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
                           "Content-Length: %d\r\n\r\n%s",
                           size, body);
    connection->due = due;
    connection->size = 0;
    if (send(connection->fd, request, (size_t)n, 0) != n) fail("send");
    return true;
}

/* Tells whether the answer is complete. Ends the program if its status is not 200. */
static bool is_whole(const struct connection *connection)
{
    const char *end = strstr(connection->answer, "\r\n\r\n"), *field;
    if (!end) return false;
    if (strncmp(connection->answer, "HTTP/1.1 200", 12) != 0) {
        fprintf(stderr, "the answer: %s\n", connection->answer);
        exit(1);
    }
    field = strcasestr(connection->answer, "Content-Length:");
    if (!field || field > end) {
        fprintf(stderr, "no Content-Length: %s\n", connection->answer);
        exit(1);
    }
    return connection->size >= (size_t)(end + 4 - connection->answer) + strtoul(field + 15, NULL, 10);
}

static void receive(struct connection *connection)
{
    const ssize_t got = recv(connection->fd, connection->answer + connection->size, ANSWER - 1 - connection->size, 0);
    if (got <= 0) fail("recv");
    connection->size += (size_t)got;
    connection->answer[connection->size] = '\0';
    if (!is_whole(connection)) return;
    times[answered++] = now_ms() - connection->due;
    idle[idle_count++] = connection;
}

/* Waits for answers until exactly that moment. epoll_wait() alone counts whole milliseconds. */
static void receive_until(double moment)
{
    struct epoll_event events[EVENTS];
    const double wait = fmax(moment - now_ms(), 0);
    const struct timespec timeout = {(time_t)(wait / 1e3), (long)(fmod(wait, 1e3) * 1e6)};
    const int n = epoll_pwait2(epoll_fd, events, EVENTS, &timeout, NULL);
    for (int i = 0; i < n; i++) receive(events[i].data.ptr);
}

int main(int argc, char **argv)
{
    if (argc != 5) return 2;
    port = (unsigned short)atoi(argv[1]);
    const double seconds = atof(argv[2]), rate = atof(argv[3]);
    length = (unsigned)atoi(argv[4]);
    const size_t most = (size_t)(2 * seconds * rate) + 1000;
    times = calloc(most, sizeof *times);
    epoll_fd = epoll_create1(0);
    if (!times || epoll_fd < 0) fail("start");
    prctl(PR_SET_TIMERSLACK, 1);
    const double begun = now_ms(), end = begun + seconds * 1e3;
    double due = begun;
    size_t sent = 0;
    while (due < end || answered < sent) {
        double now = now_ms();
        while (due < end && due <= now && sent < most && send_request(due)) {
            sent++;
            due += -log(uniform()) * 1e3 / rate;
            now = now_ms();
        }
        /* Uses the same `now`. A request that became due since then would wait for an answer, but none may be under
         * way. */
        receive_until(due < end && due > now ? due : now + 100);
        if (now > end + 60e3) {
            fprintf(stderr, "%zu answers are missing after a minute\n", sent - answered);
            return 1;
        }
    }
    qsort(times, answered, sizeof *times, compare_times);
    printf("{\"requests\":%zu,\"rate\":%.3f,\"p50\":%.4f,\"p95\":%.4f,\"p99\":%.4f}\n", answered,
           (double)answered / seconds, percentile(times, answered, 50), percentile(times, answered, 95),
           percentile(times, answered, 99));
    return 0;
}
