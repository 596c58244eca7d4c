#include "server/http/http.h"

#include <errno.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <sys/random.h>
#include <unistd.h>

#include "server/http/accept.h"
#include "server/http/exchange.h"
#include "server/http/linger.h"
#include "server/http/loop.h"
#include "server/http/pool.h"
#include "server/http/upload.h"

static bool bind_listeners(struct http_server *server, struct error *err)
{
    const struct http_options *options = &server->options;
    if (!listen_inherit(&server->listener, false, err) || !listen_inherit(&server->admin, true, err)) return false;
    if (server->listener.fd < 0 &&
        !listen_bind(&server->listener, "server.listen", options->listen, options->port, options->socket_mode, err))
        return false;
    return server->admin.fd >= 0 || !options->admin_listen ||
           listen_bind(&server->admin, "admin.listen", options->admin_listen, options->admin_port, options->socket_mode,
                       err);
}

bool http_server_check_listen(const struct http_options *options, struct error *err)
{
    return listen_check("server.listen", options->listen, err) &&
           (!options->admin_listen || listen_check("admin.listen", options->admin_listen, err));
}

static bool parse_proxies(struct address_set *set, const struct http_options *options, struct error *err)
{
    return address_set_parse(set, "server.trusted_proxies", options->trusted_proxies, options->trusted_proxy_count,
                             err);
}

bool http_server_check_proxies(const struct http_options *options, struct error *err)
{
    struct address_set set = {0};
    const bool good = parse_proxies(&set, options, err);
    address_set_close(&set);
    return good;
}

struct http_server *http_server_new(const struct http_options *options, struct error *err)
{
    struct http_server *server = calloc(1, sizeof *server);
    if (!server) {
        error_set_no_memory(err, sizeof *server, "the HTTP server");
        return NULL;
    }
    server->options = *options;
    server->listener.fd = server->admin.fd = -1;
    TAILQ_INIT(&server->requests);
    http_pool_open(&server->pools[HTTP_PUBLIC_POOL], &server->listener, "limits.max_connections",
                   options->max_connections);
    http_pool_open(&server->pools[HTTP_ADMIN_POOL], &server->admin, "admin.max_connections",
                   options->max_admin_connections);
    http_accept_open(server);
    server->idle_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (server->idle_fd < 0 || getrandom(&server->boot, sizeof server->boot, 0) != (ssize_t)sizeof server->boot)
        error_set_errno(err, errno, "cannot start the HTTP server");
    else if (parse_proxies(&server->trusted, options, err) && http_cors_check(options, err) &&
             http_hosts_check(options, err) && bind_listeners(server, err))
        return server;
    http_server_free(server);
    return NULL;
}

static bool open_library(struct http_server *server, struct error *err)
{
    server->library = library_new(&(struct library_options){.max_header = server->options.max_header,
                                                            .max_connections = http_pool_capacity(&server->options),
                                                            .events = http_exchange_events(server)},
                                  err);
    return server->library;
}

bool http_server_start(struct http_server *server, struct error *err)
{
    return (server->watch = watch_new(err)) && (server->worker = worker_new(err)) &&
           (server->uploads = http_uploads_new(server->options.max_uploads, err)) &&
           listen_begin(&server->listener, err) && listen_begin(&server->admin, err) && open_library(server, err) &&
           http_loop_start(server, err);
}

void http_server_free(struct http_server *server)
{
    if (!server) return;
    if (server->worker) worker_stop(server->worker);
    if (server->uploads) http_uploads_stop(server->uploads);
    http_loop_stop(server);
    library_free(server->library);
    http_linger_end(server);
    http_uploads_free(server->uploads);
    worker_free(server->worker);
    watch_free(server->watch);
    listen_close(&server->listener);
    listen_close(&server->admin);
    address_set_close(&server->trusted);
    if (server->idle_fd >= 0) close(server->idle_fd);
    if (server->spare_fd >= 0) close(server->spare_fd);
    free(server);
}

const char *http_server_address(const struct http_server *server)
{
    return server->listener.text;
}

uint16_t http_server_port(const struct http_server *server)
{
    return server->listener.port;
}

const char *http_server_admin_address(const struct http_server *server)
{
    return server->admin.fd >= 0 ? server->admin.text : NULL;
}

uint16_t http_server_admin_port(const struct http_server *server)
{
    return server->admin.port;
}

size_t http_server_open_requests(struct http_server *server)
{
    return atomic_load(&server->open);
}

struct http_connection_numbers http_server_connections(const struct http_server *server, bool admin)
{
    return http_pool_numbers(&server->pools[admin ? HTTP_ADMIN_POOL : HTTP_PUBLIC_POOL]);
}

size_t http_server_body_memory(const struct http_server *server)
{
    return atomic_load(&server->body_memory);
}

int http_server_idle_fd(const struct http_server *server)
{
    return server->idle_fd;
}

void http_server_drain(struct http_server *server)
{
    atomic_store(&server->draining, true);
}
