/* How long a client that guesses has to wait: failures are counted by address, and from the tenth on each makes the
 * address wait twice as long as the one before, from 1 second to 64.
 *
 * IPv6 addresses count by their first 64 bits, which one client has to itself, and in the same way by the first 48,
 * which one may have, too: there from the hundredth failure on. What is no IP address (a UNIX socket) counts as one. An
 * address is forgotten when it has not failed for ten minutes.
 *
 * Memory is bounded: of each kind 1024 addresses have a place. If all are taken, the one with the fewest failures
 * gives way and leaves its failures to the next: many addresses are no better than one. All addresses together may fail
 * a thousand times, and then ten times a second; beyond that, only addresses that have lately shown a right token are
 * heard. Time is passed in; thread-safe.
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
