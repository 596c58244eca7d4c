#include "server/http/refusal.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>

#define DATE_SIZE 32

/* Source: RFC 9110, 5.6.7. The library writes the date to its own answers. */
static void print_date(char date[DATE_SIZE])
{
    const time_t now = time(NULL);
    struct tm parts;
    strftime(date, DATE_SIZE, "%a, %d %b %Y %H:%M:%S GMT", gmtime_r(&now, &parts));
}

bool http_refusal_write(const struct http_request *request, const struct reply *reply)
{
    char head[2048], date[DATE_SIZE];
    print_date(date);
    size_t n = (size_t)snprintf(head, sizeof head,
                                "HTTP/1.1 %d %s\r\nDate: %s\r\nContent-Type: %s\r\nContent-Length: %zu\r\n"
                                "X-Request-Id: %s\r\nX-Content-Type-Options: nosniff\r\nConnection: close\r\n",
                                reply->status, http_status_reason(reply->status), date, reply->content_type,
                                reply->size, request->id);
    for (size_t i = 0; i < reply->header_count && n < sizeof head; i++)
        n += (size_t)snprintf(head + n, sizeof head - n, "%s: %s\r\n", reply->headers[i].name, reply->headers[i].value);
    if (n + 2 >= sizeof head) return false;
    memcpy(head + n, "\r\n", 2);
    n += 2;
    const int fd = request->owner->fd;
    const size_t size = http_request_is_head(request) ? 0 : reply->size;
    return send(fd, head, n, MSG_NOSIGNAL | (size > 0 ? MSG_MORE : 0)) == (ssize_t)n &&
           send(fd, reply->body, size, MSG_NOSIGNAL) == (ssize_t)size;
}

void http_refusal_write_problem(int fd, const char *id, const struct problem *problem)
{
    size_t size;
    char *text = problem_to_json(problem, NULL, &size);
    if (!text) return;
    char head[512], date[DATE_SIZE];
    print_date(date);
    const int n =
        snprintf(head, sizeof head,
                 "HTTP/1.1 %d %s\r\nDate: %s\r\nContent-Type: application/problem+json\r\nContent-Length: %zu\r\n"
                 "X-Request-Id: %s\r\nX-Content-Type-Options: nosniff\r\nRetry-After: 1\r\n"
                 "Connection: close\r\n\r\n",
                 problem->status, http_status_reason(problem->status), date, size, id);
    if (send(fd, head, (size_t)n, MSG_NOSIGNAL | MSG_MORE) == n) send(fd, text, size, MSG_NOSIGNAL);
    free(text);
}
