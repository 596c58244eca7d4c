/* A socket that listens: at an IPv4 or IPv6 address, at a path in the file system, or handed over by systemd. */
#ifndef LSTMD_SERVER_HTTP_LISTEN_H
#define LSTMD_SERVER_HTTP_LISTEN_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/un.h>

#include "base/error.h"

struct listener {
    int fd; /* non-blocking, closed on exec; -1: none */
    /* "127.0.0.1", "::1", "unix:/run/x.sock" */
    char text[sizeof "unix:" + sizeof(((struct sockaddr_un *)0)->sun_path)];
    uint16_t port; /* 0 for a path */
    bool own_path; /* listen_bind() made the socket, listen_close() removes it */
};

/* Whether `where` has the form that listen_bind() takes. */
bool listen_check(const char *setting, const char *where, struct error *err);

/* Takes the place `where`: an address (port 0 takes a free one), or "unix:" and a path, whose socket gets the
 * permissions `mode`. It replaces a socket that is there already if nobody listens at that. Nobody can connect before
 * listen_begin(). Errors name the setting: ERROR_INVALID for what is no address, ERROR_CONFLICT where somebody listens,
 * ERROR_IO. */
bool listen_bind(struct listener *listener, const char *setting, const char *where, uint16_t port, unsigned mode,
                 struct error *err);

/* Takes over a socket that systemd listens at for this process (sd_listen_fds(3): LISTEN_PID, LISTEN_FDS,
 * LISTEN_FDNAMES). admin: the one named "admin"; else the first one that is not. listener->fd is -1 where there is
 * none. False with ERROR_INVALID: the socket does not listen. */
bool listen_inherit(struct listener *listener, bool admin, struct error *err);

/* From now on clients can connect. Does nothing for a listener whose fd is -1. */
bool listen_begin(const struct listener *listener, struct error *err);

/* Does nothing for a listener whose fd is -1. */
void listen_close(struct listener *listener);

#endif
