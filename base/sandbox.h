/* Giving up what a process does not need: for good, and before a stranger's bytes reach other people's code.
 *
 * The kernel has two locks for it, and neither can be opened again. Landlock is a list of the paths that stay. seccomp
 * is a list of the system calls that stay. The kernel may refuse: older ones have no Landlock, and a container may
 * forbid either. A call that is not on the list fails with ENOSYS, a path with EACCES.
 *
 * Builds with sanitizers or coverage get no sandbox: what instruments a program does in it what a sandbox forbids.
 */
#ifndef LSTMD_BASE_SANDBOX_H
#define LSTMD_BASE_SANDBOX_H

#include <stdbool.h>
#include <stddef.h>

#include "base/error.h"

/* How a program begins to say that something was not done in a whole sandbox; another may look for it. */
#define SANDBOX_LACKING "there was no complete sandbox"

/* Values of the settings --sandbox and server.sandbox, in the order of sandbox_choices. */
enum sandbox_choice {
    SANDBOX_AUTO,    /* as far as the kernel grants it */
    SANDBOX_REQUIRE, /* all of it, or an error */
    SANDBOX_OFF,     /* none */
};
extern const char *const sandbox_choices[];

enum sandbox_access {
    SANDBOX_READ,   /* a file, or a directory and all that is in it */
    SANDBOX_WRITE,  /* read, make, change, move and remove */
    SANDBOX_RUN,    /* read, and run as a program or map as a library */
    SANDBOX_REMOVE, /* remove files from the directory, nothing else */
};

struct sandbox_path {
    const char *path; /* NULL, or nothing there: passed over */
    enum sandbox_access access;
};

/* Landlock for the calling thread and those that it starts later. Nothing listens at or connects to a TCP port
 * afterwards, where the kernel can forbid it (Linux 6.7). False: *err says what the kernel lacks. */
bool sandbox_limit_paths(const struct sandbox_path *paths, size_t count, struct error *err);

/* seccomp for all threads of a daemon that has opened its sockets. What stays: files, memory, threads, the sockets that
 * are there and those accepted from them, datagrams to the service manager, and starting programs, which keep the
 * filter. What goes: other sockets, memory that is written and then run, other users' identities, tracing, mounting,
 * namespaces, modules, keys. */
bool sandbox_limit_daemon(struct error *err);

/* Both locks for a process that reads one stranger's file, and closes all descriptors beyond stderr. It starts no
 * programs, processes or threads, opens no sockets, and reaches into no other process. False: the kernel does not grant
 * all of it, *err says what and why, and what it grants is in force. To be called while there is one thread. */
bool sandbox_enter(const struct sandbox_path *paths, size_t count, struct error *err);

#endif
