#include "server/http/listen.h"

#include <errno.h>
#include <fcntl.h>
#include <netdb.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#define FIRST_INHERITED 3

static void read_address(struct listener *listener)
{
    union {
        struct sockaddr any;
        struct sockaddr_un local;
        struct sockaddr_storage storage;
    } address = {0};
    socklen_t size = sizeof address;
    char service[8] = "0";
    getsockname(listener->fd, &address.any, &size);
    if (address.any.sa_family == AF_UNIX) {
        snprintf(listener->text, sizeof listener->text, "unix:%s", address.local.sun_path);
        return;
    }
    getnameinfo(&address.any, size, listener->text, sizeof listener->text, service, sizeof service,
                NI_NUMERICHOST | NI_NUMERICSERV);
    listener->port = (uint16_t)strtoul(service, NULL, 10);
}

/* --- A path --- */

static bool somebody_listens(const struct sockaddr_un *address)
{
    const int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    const bool connected = fd >= 0 && connect(fd, (const struct sockaddr *)address, sizeof *address) == 0;
    const bool refused = fd >= 0 && errno == ECONNREFUSED;
    if (fd >= 0) close(fd);
    return connected || !refused;
}

static bool remove_stale(const struct sockaddr_un *address, const char *setting, struct error *err)
{
    struct stat status;
    if (lstat(address->sun_path, &status) != 0) return true; /* bind() says what is wrong, if anything is */
    if (!S_ISSOCK(status.st_mode))
        return error_set(err, ERROR_CONFLICT, "%s: %s is there and is not a socket", setting, address->sun_path);
    if (somebody_listens(address))
        return error_set(err, ERROR_CONFLICT, "%s: somebody listens at %s already", setting, address->sun_path);
    if (unlink(address->sun_path) == 0) return true;
    return error_set_errno(err, errno, "%s: cannot remove the stale socket %s", setting, address->sun_path);
}

static bool read_path(struct sockaddr_un *address, const char *setting, const char *path, struct error *err)
{
    const size_t size = strlen(path);
    *address = (struct sockaddr_un){.sun_family = AF_UNIX};
    if (size == 0 || size >= sizeof address->sun_path)
        return error_set(err, ERROR_INVALID, "%s: a path of 1 to %zu bytes must follow \"unix:\"", setting,
                         sizeof address->sun_path - 1);
    memcpy(address->sun_path, path, size);
    return true;
}

static bool open_path(struct listener *listener, const char *setting, const char *path, unsigned mode,
                      struct error *err)
{
    struct sockaddr_un address;
    if (!read_path(&address, setting, path, err) || !remove_stale(&address, setting, err)) return false;
    listener->fd = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    listener->own_path = listener->fd >= 0 && bind(listener->fd, (struct sockaddr *)&address, sizeof address) == 0;
    if (listener->own_path) read_address(listener);
    if (listener->own_path && chmod(path, (mode_t)mode) == 0) return true;
    error_set_errno(err, errno, "%s: cannot listen at %s", setting, path);
    listen_close(listener);
    return false;
}

/* --- An address --- */

/* freeaddrinfo() the result; NULL on failure. */
static struct addrinfo *find_address(const char *setting, const char *where, uint16_t port, struct error *err)
{
    char service[8];
    snprintf(service, sizeof service, "%u", port);
    const struct addrinfo hints = {
        .ai_family = AF_UNSPEC, .ai_socktype = SOCK_STREAM, .ai_flags = AI_NUMERICHOST | AI_NUMERICSERV | AI_PASSIVE};
    struct addrinfo *found;
    const int problem = getaddrinfo(where, service, &hints, &found);
    if (problem == 0) return found;
    if (problem == EAI_MEMORY)
        error_set_no_memory(err, 0, "an address");
    else
        error_set(err, ERROR_INVALID, "%s: \"%s\" is neither an IPv4 or IPv6 address nor unix:/path", setting, where);
    return NULL;
}

static bool open_address(struct listener *listener, const char *setting, const char *where, uint16_t port,
                         struct error *err)
{
    struct addrinfo *found = find_address(setting, where, port, err);
    if (!found) return false;
    const int fd = listener->fd = socket(found->ai_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    const bool good = fd >= 0 && setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &(int){1}, sizeof(int)) == 0 &&
                      bind(fd, found->ai_addr, found->ai_addrlen) == 0;
    if (!good) error_set_errno(err, errno, "cannot listen on %s port %u", where, port);
    freeaddrinfo(found);
    if (good)
        read_address(listener);
    else
        listen_close(listener);
    return good;
}

bool listen_check(const char *setting, const char *where, struct error *err)
{
    struct sockaddr_un path;
    if (strncmp(where, "unix:", 5) == 0) return read_path(&path, setting, where + 5, err);
    struct addrinfo *found = find_address(setting, where, 0, err);
    if (!found) return false;
    freeaddrinfo(found);
    return true;
}

bool listen_bind(struct listener *listener, const char *setting, const char *where, uint16_t port, unsigned mode,
                 struct error *err)
{
    *listener = (struct listener){.fd = -1};
    if (strncmp(where, "unix:", 5) == 0) return open_path(listener, setting, where + 5, mode, err);
    return open_address(listener, setting, where, port, err);
}

/* --- systemd --- */

/* Whether the n-th name of "a:b:c" is "admin". */
static bool is_admin(const char *names, int n)
{
    for (; names && n > 0; n--) {
        names = strchr(names, ':');
        if (names) names++;
    }
    return names && strcspn(names, ":") == 5 && strncmp(names, "admin", 5) == 0;
}

bool listen_inherit(struct listener *listener, bool admin, struct error *err)
{
    *listener = (struct listener){.fd = -1};
    const char *process = getenv("LISTEN_PID"), *number = getenv("LISTEN_FDS");
    if (!process || !number || strtol(process, NULL, 10) != getpid()) return true;
    const int count = (int)strtol(number, NULL, 10);
    int n = 0;
    while (n < count && is_admin(getenv("LISTEN_FDNAMES"), n) != admin) n++;
    if (n >= count) return true;
    const int fd = FIRST_INHERITED + n, flags = fcntl(fd, F_GETFL);
    int listens = 0;
    socklen_t size = sizeof listens;
    if (getsockopt(fd, SOL_SOCKET, SO_ACCEPTCONN, &listens, &size) != 0 || !listens)
        return error_set(err, ERROR_INVALID, "LISTEN_FDS: descriptor %d is not a socket that listens", fd);
    if (fcntl(fd, F_SETFL, flags | O_NONBLOCK) != 0 || fcntl(fd, F_SETFD, FD_CLOEXEC) != 0)
        return error_set_errno(err, errno, "LISTEN_FDS: cannot use descriptor %d", fd);
    listener->fd = fd;
    read_address(listener);
    return true;
}

bool listen_begin(const struct listener *listener, struct error *err)
{
    return listener->fd < 0 || listen(listener->fd, SOMAXCONN) == 0 ||
           error_set_errno(err, errno, "cannot listen on %s port %u", listener->text, listener->port);
}

void listen_close(struct listener *listener)
{
    if (listener->fd < 0) return;
    close(listener->fd);
    if (listener->own_path) unlink(listener->text + strlen("unix:"));
    listener->fd = -1;
}
