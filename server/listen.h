/* A TCP socket that listens. */
#ifndef LSTMD_SERVER_LISTEN_H
#define LSTMD_SERVER_LISTEN_H

#include <stdint.h>

#include "base/error.h"

struct listen_address {
    char text[64]; /* "127.0.0.1", "::1" */
    uint16_t port;
};

/* Listens at an IPv4 or IPv6 address; port 0 takes a free one. Returns the descriptor (non-blocking, closed on exec)
 * and where it really listens, or -1: ERROR_INVALID for what is not an address, ERROR_IO naming address and port. */
int listen_open(const char *address, uint16_t port, struct listen_address *actual, struct error *err);

#endif
