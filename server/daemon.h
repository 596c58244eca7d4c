/* The daemon: the models that are served, the HTTP server in front, and the order in which they start and stop.
 *
 * Life cycle: daemon_open() serves; daemon_drain() refuses new generations while running ones go on; daemon_close()
 * ends what is left. Lock order: none of the parts calls another one while it holds a lock.
 */
#ifndef LSTMD_SERVER_DAEMON_H
#define LSTMD_SERVER_DAEMON_H

#include <stdatomic.h>
#include <stdbool.h>

#include "base/error.h"
#include "base/worker.h"
#include "config/config.h"
#include "server/api/services.h"

struct daemon {
    struct services services; /* what handlers get to see; owned */
    size_t max_connections;   /* limits.max_connections, or what the system allows */
    struct error lacking[2];  /* what the kernel did not grant when the daemon confined itself: paths, calls */
    struct task reload;       /* the loader's, while `reloading` */
    atomic_bool reloading;
};

/* Loads the default model, listens. config: borrowed. Close with daemon_close(), also after a failure. */
bool daemon_open(struct daemon *daemon, const struct config *config, struct error *err);

/* Applies what can change without a restart. Tokens change at once; a thread of the daemon loads changed models later.
 * Logs each other key that changed, because it needs a restart. Any thread. */
void daemon_reload(struct daemon *daemon, const struct config *config);
/* Logs and counts a reload that failed. Everything stays as it is. Any thread. */
void daemon_refuse_reload(struct daemon *daemon, const struct error *err);

/* /readyz answers 503 and new generations are refused from now on. Any thread. */
void daemon_drain(struct daemon *daemon);

/* Ends running generations (their clients get 503), then everything else. */
void daemon_close(struct daemon *daemon);

#endif
