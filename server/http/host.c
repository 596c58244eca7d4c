/* A stranger's page can give its own name the address of this machine ("DNS rebinding"), and then reads here what its
 * visitor may read. But the browser still says that name in Host, so the daemon answers to its own names alone. An
 * address is nobody's name, and is always answered: a browser that says one has loaded the page from there. */
#include "server/http/host.h"

#include <string.h>
#include <strings.h>

static const char host_letters[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-._~%!$&'()*+,;=";

struct host {
    const char *name; /* without the dot at the end of a full name */
    size_t size;
    bool is_address;
};

/* Later versions of IP have another form ("[v7.a:b]"), and nobody uses them. */
static bool is_ipv6(const char *text, size_t n)
{
    struct address address;
    return memchr(text, ':', n) && address_parse(text, n, &address);
}

/* "localhost", "example.org:80", "192.0.2.1", "[::1]:80" (RFC 9110, 7.2); it may be empty. */
static bool parse_host(const char *text, size_t n, struct host *host)
{
    size_t size = n > 0 && *text == '[' ? 1 : strspn(text, host_letters);
    if (size > n) size = n;
    host->is_address = n > 0 && *text == '[';
    if (host->is_address) {
        const char *bracket = memchr(text, ']', n);
        size = bracket ? (size_t)(bracket - text) + 1 : 0;
        if (size < 2 || !is_ipv6(text + 1, size - 2)) return false;
    }
    if (size < n && (text[size] != ':' || strspn(text + size + 1, "0123456789") < n - size - 1)) return false;
    struct address address;
    host->name = text;
    host->size = size > 0 && text[size - 1] == '.' ? size - 1 : size;
    host->is_address |= address_parse(text, size, &address) && address.kind == ADDRESS_IP;
    return true;
}

static bool is_name(const struct host *host, const char *name, size_t size)
{
    return host->size == size && strncasecmp(host->name, name, size) == 0;
}

/* --- The names of the configuration: several may stand in one value, as a variable of the environment has them --- */

static const char separators[] = ", ";

/* The next name of a value, or NULL; *n: its length. */
static const char *next_name(const char *text, size_t *n)
{
    text += strspn(text, separators);
    *n = strcspn(text, separators);
    return *n > 0 ? text : NULL;
}

static bool check_name(const char *name, size_t n, struct error *err)
{
    struct host host;
    if ((n == 1 && *name == '*') || (parse_host(name, n, &host) && host.size > 0 && !memchr(name, '*', n))) return true;
    return error_set(err, ERROR_INVALID, "server.hosts: \"%.*s\" is neither a name, such as lstmd.example.org, nor *",
                     (int)(n < 200 ? n : 200), name);
}

bool http_hosts_check(const struct http_options *options, struct error *err)
{
    size_t n;
    for (size_t i = 0; i < options->host_count; i++)
        for (const char *name = next_name(options->hosts[i], &n); name; name = next_name(name + n, &n))
            if (!check_name(name, n, err)) return false;
    return true;
}

static bool is_ours(const struct http_options *options, const struct host *host)
{
    size_t n;
    struct host ours;
    if (host->size == 0 || host->is_address || is_name(host, "localhost", strlen("localhost"))) return true;
    for (size_t i = 0; i < options->host_count; i++)
        for (const char *name = next_name(options->hosts[i], &n); name; name = next_name(name + n, &n))
            if (*name == '*' || (parse_host(name, n, &ours) && is_name(host, ours.name, ours.size))) return true;
    return false;
}

/* --- Requests --- */

const char *http_host_of_target(const char *target)
{
    static const char scheme[] = "http://";
    return strncasecmp(target, scheme, sizeof scheme - 1) == 0 ? target + sizeof scheme - 1 : NULL;
}

/* The host of a target such as http://host/path, which replaces the header Host (RFC 9112, 3.2.2); otherwise that of
 * Host. */
static const char *find_host(const struct http_request *request, size_t *n)
{
    const char *absolute = http_host_of_target(request->target);
    const char *text = absolute ? absolute : http_request_header(request, "Host");
    *n = absolute ? strcspn(absolute, "/?") : text ? strlen(text) : 0;
    while (*n > 0 && strchr(" \t", text[*n - 1])) (*n)--;
    return text ? text : "";
}

void http_host_check(struct http_request *request)
{
    size_t n;
    struct host host;
    const char *text = find_host(request, &n);
    if (request->problem.status) return;
    if (!parse_host(text, n, &host))
        problem_set(&request->problem, 400, "\"%.*s\" is no host: a name or an address, and a port",
                    (int)(n < 200 ? n : 200), text);
    else if (request->owner->peer.kind != ADDRESS_LOCAL && !is_ours(&request->server->options, &host))
        problem_set(&request->problem, 421,
                    "this daemon does not answer to the name \"%.*s\"; if it is one of its names, add it to "
                    "server.hosts (LSTMD_SERVER_HOSTS)",
                    (int)(host.size < 200 ? host.size : 200), host.name);
    if (request->problem.status) request->early = true;
}
