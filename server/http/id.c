#include "server/http/id.h"

#include <stdio.h>
#include <string.h>

static bool id_is_sane(const char *id)
{
    size_t n = id ? strlen(id) : 0;
    return n > 0 && n < REQUEST_ID_SIZE &&
           strspn(id, "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789._-") == n;
}

/* Source: https://www.w3.org/TR/trace-context/. "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"; a version
 * that we do not know may have more behind. */
static void read_trace(struct http_request *request)
{
    static const char digits[] = "0123456789abcdef", form[] = "vv-tttttttttttttttttttttttttttttttt-pppppppppppppppp-ff";
    const char *text = http_request_header(request, "traceparent");
    if (!text || strlen(text) < sizeof form - 1) return;
    for (size_t i = 0; i < sizeof form - 1; i++)
        if (form[i] == '-' ? text[i] != '-' : !strchr(digits, text[i])) return;
    const char end = text[sizeof form - 1];
    const bool known = strncmp(text, "00", 2) == 0;
    if (strncmp(text, "ff", 2) == 0 || (known ? end != '\0' : end != '\0' && end != '-')) return;
    if (strspn(text + 3, "0") >= 32 || strspn(text + 36, "0") >= 16) return;
    memcpy(request->trace, text + 3, 32);
}

void http_id_new(struct http_server *server, char id[REQUEST_ID_SIZE])
{
    snprintf(id, REQUEST_ID_SIZE, "%08x-%08llx", server->boot,
             (unsigned long long)atomic_fetch_add(&server->serial, 1) + 1);
}

void http_id_choose(struct http_request *request)
{
    read_trace(request);
    const char *given = http_request_header(request, "X-Request-Id");
    if (id_is_sane(given))
        strcpy(request->id, given);
    else
        http_id_new(request->server, request->id);
}
