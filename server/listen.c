#include "server/listen.h"

#include <errno.h>
#include <netdb.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

static void read_address(int fd, struct listen_address *actual)
{
    struct sockaddr_storage address = {0};
    socklen_t size = sizeof address;
    char service[8] = "0";
    getsockname(fd, (struct sockaddr *)&address, &size);
    getnameinfo((struct sockaddr *)&address, size, actual->text, sizeof actual->text, service, sizeof service,
                NI_NUMERICHOST | NI_NUMERICSERV);
    actual->port = (uint16_t)strtoul(service, NULL, 10);
}

int listen_open(const char *address, uint16_t port, struct listen_address *actual, struct error *err)
{
    char service[8];
    snprintf(service, sizeof service, "%u", port);
    const struct addrinfo hints = {
        .ai_family = AF_UNSPEC, .ai_socktype = SOCK_STREAM, .ai_flags = AI_NUMERICHOST | AI_NUMERICSERV | AI_PASSIVE};
    struct addrinfo *found;
    if (getaddrinfo(address, service, &hints, &found) != 0) {
        error_set(err, ERROR_INVALID, "server.listen: \"%s\" is not an IPv4 or IPv6 address", address);
        return -1;
    }
    int fd = socket(found->ai_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    bool good = fd >= 0 && setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &(int){1}, sizeof(int)) == 0 &&
                bind(fd, found->ai_addr, found->ai_addrlen) == 0 && listen(fd, SOMAXCONN) == 0;
    if (!good) error_set_errno(err, errno, "cannot listen on %s port %u", address, port);
    freeaddrinfo(found);
    if (good) {
        read_address(fd, actual);
        return fd;
    }
    if (fd >= 0) close(fd);
    return -1;
}
