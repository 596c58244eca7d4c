/* How long a client that guesses tokens has to wait. Failures count by address. The tenth makes the address wait for
 * 1 second, and each further one doubles that, up to 64 seconds.
 *
 * An IPv6 client has 64 bits to itself, and may have 48. So IPv6 addresses count by their first 64 bits, and also by
 * their first 48, where waiting begins with the hundredth failure. All clients of UNIX sockets count as one address. An
 * address is forgotten when it has not failed for ten minutes.
 *
 * Memory is bounded: there are 1024 places for addresses of each kind. If all are taken, the address with the fewest
 * failures loses its place and leaves its failures to the next one, so many addresses are no better than one. All
 * addresses together may fail a thousand times, and then ten times a second. Beyond that, only addresses that have
 * lately shown a right token are heard. Time is passed in; thread-safe.
 */
#ifndef LSTMD_SERVER_API_THROTTLE_H
#define LSTMD_SERVER_API_THROTTLE_H

#include <stdint.h>

#include "base/error.h"

struct throttle;

struct throttle *throttle_new(struct error *err);
void throttle_free(struct throttle *throttle); /* NULL allowed */

/* Whole seconds (rounded up) for which the address is not to be listened to; 0: it may try. */
unsigned throttle_wait(struct throttle *throttle, const char *address, uint64_t now_ns);

/* It tried, and failed. Returns what throttle_wait() says from now on. */
unsigned throttle_failed(struct throttle *throttle, const char *address, uint64_t now_ns);

/* It tried, and was right. */
void throttle_succeeded(struct throttle *throttle, const char *address, uint64_t now_ns);

#endif
