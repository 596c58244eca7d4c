/* The daemon's own confinement: what it gives up at its start, so that a fault in it, or in a library that it uses, is
 * worth little to an attacker (SECURITY.md).
 *
 * First the user, if root started it and server.user names another. Then paths, while there is one thread, since
 * Landlock holds for that thread and those that it starts. Last, when all is open, system calls, for all threads.
 */
#ifndef LSTMD_SERVER_CONFINE_H
#define LSTMD_SERVER_CONFINE_H

#include <stdbool.h>

#include "base/error.h"
#include "base/user.h"
#include "config/config.h"

/* Finds the user of server.user, which is set. Errors: the user is unknown, is root, or this process may not become it.
 */
bool confine_find_user(const struct config *config, struct user *user, struct error *err);

/* Becomes server.user. Before, makes the state directory and gives it, and the sockets with a path, to that user;
 * `sockets`: what http_server_address() and http_server_admin_address() say. Nothing where server.user is not set, or
 * is who runs this already. */
bool confine_user(const struct config *config, const char *const sockets[2], struct error *err);

/* Leaves the daemon the paths that it needs: its state directory to write; models, configuration and tokens to read,
 * with all that lies in their directories, since files are replaced by renaming; itself and its libraries to run. To be
 * called after the state directory was made, and before any thread. What the kernel lacks is
 * put into *lacking, for the log, or with server.sandbox=require an error. */
bool confine_paths(const struct config *config, const char *const sockets[2], struct error *lacking, struct error *err);

/* Leaves the daemon the system calls that it needs (base/sandbox.h). Once every socket is open. The same for what the
 * kernel lacks. */
bool confine_calls(const struct config *config, struct error *lacking, struct error *err);

#endif
