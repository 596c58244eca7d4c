/* How long a client that guesses has to wait: failures are counted by address, and from the tenth on each makes the
 * address wait twice as long as the one before, from 1 second to 64.
 *
 * An address is forgotten when it has not failed for ten minutes. The table has 1024 places; where it is full, the
 * address that has not failed for the longest time gives way. IPv6 addresses count by their first 64 bits, which one
 * client has to itself; what is no IP address (a UNIX socket) counts as one. Time is passed in; thread-safe.
 */
#ifndef LSTMD_SERVER_THROTTLE_H
#define LSTMD_SERVER_THROTTLE_H

#include <stdint.h>

#include "base/error.h"

struct throttle;

struct throttle *throttle_new(struct error *err);
void throttle_free(struct throttle *throttle); /* NULL allowed */

/* Whole seconds (rounded up) for which the address is not to be listened to; 0: it may try. */
unsigned throttle_wait(struct throttle *throttle, const char *address, uint64_t now_ns);

/* It tried, and failed. Returns what throttle_wait() says from now on. */
unsigned throttle_failed(struct throttle *throttle, const char *address, uint64_t now_ns);

#endif
