/* Tells the service manager how the daemon does: one datagram to the socket that NOTIFY_SOCKET names, as sd_notify(3)
 * of systemd describes the protocol. Nothing happens where the variable is not set. */
#ifndef LSTMD_BASE_NOTIFY_H
#define LSTMD_BASE_NOTIFY_H

#include <stdbool.h>

/* "READY=1", "STOPPING=1". False where there is a socket that does not take it. */
bool notify_service_manager(const char *state);

#endif
