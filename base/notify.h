/* Tells the service manager the daemon's state: sends one datagram to the socket that NOTIFY_SOCKET names (protocol:
 * sd_notify(3) of systemd). Does nothing if the variable is not set. */
#ifndef LSTMD_BASE_NOTIFY_H
#define LSTMD_BASE_NOTIFY_H

#include <stdbool.h>

/* "READY=1", "STOPPING=1". False if there is a socket and it does not accept the message. */
bool notify_service_manager(const char *state);

#endif
