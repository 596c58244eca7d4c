/* A client of streams for `make bench`: it measures the time to the first event and between events.
 *
 *   cc -O2 -pthread tests/bench/stream_client.c -o stream_client; ./stream_client PORT SECONDS LENGTH PROMPT_BYTES
 *
 * It asks for one stream of LENGTH characters after the other on one connection. With PROMPT_BYTES, a second thread
 * sends prompts of that size all the time. A time is taken when read() returns, so events in one piece count once.
 * Prints one line of JSON, with times in milliseconds.
 */
#include <arpa/inet.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <string.h>
#include <sys/socket.h>

#include <unistd.h>

#include "tests/bench/client.h"

static unsigned short port;
static size_t prompt_bytes;
static atomic_bool reading; /* the first prompt is under way */
static atomic_bool ending;
static atomic_int prompts;

struct times {
    double *values;
    size_t count, capacity;
};

static void add(struct times *times, double value)
{
    if (times->count == times->capacity) {
        times->capacity = times->capacity ? 2 * times->capacity : 4096;
        times->values = realloc(times->values, times->capacity * sizeof *times->values);
        if (times->values == NULL) fail("memory");
    }
    times->values[times->count++] = value;
}

static int open_connection(void)
{
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons(port)};
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    const int fd = socket(AF_INET, SOCK_STREAM, 0);
    if (fd < 0 || connect(fd, (struct sockaddr *)&address, sizeof address) != 0) fail("connect");
    return fd;
}

static void post(int fd, const char *body, size_t size)
{
    char head[200];
    const int n = snprintf(head, sizeof head,
                           "POST /generate HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
                           "Content-Length: %zu\r\n\r\n",
                           size);
    if (send(fd, head, (size_t)n, MSG_MORE) != n) fail("send");
    for (size_t sent = 0; sent < size;) {
        const ssize_t some = send(fd, body + sent, size - sent, 0);
        if (some <= 0) fail("send");
        sent += (size_t)some;
    }
}

static void *read_prompts(void *unused)
{
    char *body = malloc(prompt_bytes + 100), answer[65536];
    if (body == NULL) fail("memory");
    int n = sprintf(body, "{\"length\":1,\"cache_prompt\":false,\"prompt\":\"");
    for (size_t i = 0; i < prompt_bytes; i++) body[n++] = (char)('a' + i % 26);
    n += sprintf(body + n, "\"}");
    while (!atomic_load(&ending)) {
        const int fd = open_connection();
        post(fd, body, (size_t)n);
        atomic_store(&reading, true);
        const ssize_t got = read(fd, answer, sizeof answer - 1);
        if (got < 12 || strncmp(answer, "HTTP/1.1 200", 12) != 0) {
            fprintf(stderr, "the prompt: %.*s\n", got > 0 ? (int)got : 0, answer);
            exit(1);
        }
        atomic_fetch_add(&prompts, 1);
        close(fd);
    }
    free(body);
    return unused;
}

/* Reads one stream and adds its times. */
static void stream(int fd, unsigned length, unsigned seed, struct times *first, struct times *gaps)
{
    static const char end[] = "data: [DONE]\n\n\r\n0\r\n\r\n";
    static char answer[1 << 20];
    char body[128];
    size_t size = 0;
    double last = 0;
    const int n =
        snprintf(body, sizeof body, "{\"prompt\":\"a\",\"stream\":true,\"length\":%u,\"seed\":%u}", length, seed);
    const double begun = now_ms();
    post(fd, body, (size_t)n);
    while (size < sizeof end || memcmp(answer + size - (sizeof end - 1), end, sizeof end - 1) != 0) {
        const ssize_t got = read(fd, answer + size, sizeof answer - 1 - size);
        const double now = now_ms();
        if (got <= 0) fail("read");
        answer[size + (size_t)got] = '\0';
        const bool event = strstr(answer + size, "data: ") != NULL;
        size += (size_t)got;
        if (strncmp(answer, "HTTP/1.1 200", 12) != 0) {
            fprintf(stderr, "the stream: %s\n", answer);
            exit(1);
        }
        if (!event) continue; /* only the head */
        if (last > 0)
            add(gaps, now - last);
        else
            add(first, now - begun);
        last = now;
    }
}

int main(int argc, char **argv)
{
    pthread_t reader;
    struct times first = {0}, gaps = {0};
    if (argc != 5) return 2;
    port = (unsigned short)atoi(argv[1]);
    const double seconds = atof(argv[2]);
    const unsigned length = (unsigned)atoi(argv[3]);
    prompt_bytes = (size_t)atol(argv[4]);
    if (prompt_bytes > 0 && pthread_create(&reader, NULL, read_prompts, NULL) != 0) fail("pthread_create");
    while (prompt_bytes > 0 && !atomic_load(&reading)) sched_yield();
    const int fd = open_connection();
    const double begun = now_ms();
    for (unsigned i = 0; now_ms() - begun < seconds * 1e3; i++) stream(fd, length, i, &first, &gaps);
    close(fd);
    atomic_store(&ending, true);
    qsort(first.values, first.count, sizeof *first.values, compare_times);
    qsort(gaps.values, gaps.count, sizeof *gaps.values, compare_times);
    printf("{\"streams\":%zu,\"first_p50\":%.4f,\"first_p99\":%.4f,\"gaps\":%zu,\"gap_p50\":%.4f,\"gap_p99\":%.4f,"
           "\"prompts\":%d}\n",
           first.count, percentile(first.values, first.count, 50), percentile(first.values, first.count, 99),
           gaps.count, percentile(gaps.values, gaps.count, 50), percentile(gaps.values, gaps.count, 99),
           atomic_load(&prompts));
    return 0; /* if a prompt is still running, it ends with the process */
}
