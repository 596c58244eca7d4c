/* lstmd healthcheck: asks the daemon of this configuration whether it is ready; for container probes. */
#include <errno.h>
#include <netdb.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <sys/un.h>
#include <unistd.h>

#include "cli/arguments.h"
#include "cli/commands.h"
#include "config/config.h"

struct flags {
    const char *config;
    struct option_list set;
    double timeout;
};

static const struct option rows[] = {
    {"config", OPTION_TEXT, offsetof(struct flags, config), NULL, 1, 4095, NULL, NULL,
     "YAML file of the daemon; default: the file that LSTMD_CONFIG names."},
    {"set", OPTION_LIST, offsetof(struct flags, set), NULL, 0, 0, NULL, NULL,
     "key=value, wins over the file and the environment; may be repeated."},
    {"timeout", OPTION_REAL, offsetof(struct flags, timeout), "5", 0.1, 3600, NULL, "s",
     "How long to wait for each part of the answer."},
};

static const struct command_line line = {
    .usage = "lstmd healthcheck [--config FILE] [--set KEY=VALUE]... [--timeout SECONDS]",
    .description = "Asks the daemon at server.listen and server.port for /readyz. Exit code 0: ready; 1: not.",
    .table = {rows, sizeof rows / sizeof rows[0], NULL, NULL},
};

/* An address for connect(), and its name in messages. */
struct target {
    union {
        struct sockaddr any;
        struct sockaddr_un local;
        struct sockaddr_storage storage;
    } address;
    socklen_t size;
    char name[288];
};

static bool find_path(struct target *target, const char *path, struct error *err)
{
    struct sockaddr_un *local = &target->address.local;
    const size_t size = strlen(path);
    if (size == 0 || size >= sizeof local->sun_path)
        return error_set(err, ERROR_INVALID, "server.listen: a path of 1 to %zu bytes must follow \"unix:\"",
                         sizeof local->sun_path - 1);
    local->sun_family = AF_UNIX;
    memcpy(local->sun_path, path, size);
    target->size = sizeof *local;
    snprintf(target->name, sizeof target->name, "%s", path);
    return true;
}

/* The address at which a client reaches a daemon that listens at `listen`; "all interfaces" becomes this machine. */
static const char *client_address(const char *listen)
{
    if (strcmp(listen, "0.0.0.0") == 0) return "127.0.0.1";
    return strcmp(listen, "::") == 0 ? "::1" : listen;
}

static bool find_address(struct target *target, const char *listen, unsigned port, struct error *err)
{
    char service[8];
    snprintf(service, sizeof service, "%u", port);
    const char *host = client_address(listen);
    const struct addrinfo hints = {.ai_socktype = SOCK_STREAM, .ai_flags = AI_NUMERICHOST | AI_NUMERICSERV};
    struct addrinfo *found;
    const int problem = getaddrinfo(host, service, &hints, &found);
    if (problem == EAI_MEMORY) return error_set_no_memory(err, 0, "an address");
    if (problem != 0)
        return error_set(err, ERROR_INVALID, "server.listen: \"%s\" is neither an IPv4 or IPv6 address nor unix:/path",
                         host);
    memcpy(&target->address, found->ai_addr, found->ai_addrlen);
    target->size = found->ai_addrlen;
    snprintf(target->name, sizeof target->name, "%s port %s", host, service);
    freeaddrinfo(found);
    return true;
}

/* A connected socket, or -1. */
static int connect_to(const struct config *config, double timeout, struct error *err)
{
    struct target target = {0};
    if (strncmp(config->listen, "unix:", 5) == 0 ? !find_path(&target, config->listen + 5, err)
                                                 : !find_address(&target, config->listen, (unsigned)config->port, err))
        return -1;
    const struct timeval limit = {(time_t)timeout, (suseconds_t)((timeout - (double)(time_t)timeout) * 1e6)};
    const int fd = socket(target.address.any.sa_family, SOCK_STREAM | SOCK_CLOEXEC, 0);
    const bool good = fd >= 0 && setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &limit, sizeof limit) == 0 &&
                      setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof limit) == 0 &&
                      connect(fd, &target.address.any, target.size) == 0;
    if (good) return fd;
    error_set_errno(err, errno, "cannot connect to %s", target.name);
    if (fd >= 0) close(fd);
    return -1;
}

/* The status of GET /readyz, or 0 with an error. */
static int healthcheck_ask(int fd, struct error *err)
{
    static const char request[] = "GET /readyz HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n";
    if (send(fd, request, sizeof request - 1, MSG_NOSIGNAL) != (ssize_t)sizeof request - 1) {
        error_set_errno(err, errno, "cannot send the request");
        return 0;
    }
    char answer[16] = ""; /* only the beginning counts: "HTTP/1.1 200 " */
    size_t have = 0;
    while (have < sizeof answer - 1) {
        ssize_t n = recv(fd, answer + have, sizeof answer - 1 - have, 0);
        if (n <= 0) {
            error_set_errno(err, n < 0 ? errno : ECONNRESET, "no answer");
            return 0;
        }
        have += (size_t)n;
    }
    long status = strncmp(answer, "HTTP/1.", 7) == 0 && answer[8] == ' ' ? strtol(answer + 9, NULL, 10) : 0;
    if (status >= 100 && status <= 999) return (int)status;
    error_set(err, ERROR_INVALID, "the answer is not HTTP");
    return 0;
}

static int healthcheck_run(const struct config *config, double timeout, struct error *err)
{
    int fd = connect_to(config, timeout, err);
    if (fd < 0) return 1;
    int status = healthcheck_ask(fd, err);
    close(fd);
    if (status == 200) return 0;
    error_set(err, ERROR_UNAVAILABLE, "not ready: /readyz answered %d", status);
    return 1;
}

int cmd_healthcheck(int argc, char **argv)
{
    struct arena arena = {0};
    struct flags flags;
    struct config config = {0};
    struct error err = {0};
    int exit_code;
    if (arguments_parse(&line, argc, argv, &flags, &arena, &exit_code)) {
        if (config_load(&config, flags.config, environ, flags.set.items, flags.set.count, &err))
            exit_code = healthcheck_run(&config, flags.timeout, &err);
        if (err.code) exit_code = command_fail(&err);
    }
    config_close(&config);
    arena_free(&arena);
    return exit_code;
}
