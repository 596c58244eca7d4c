/* The sandbox: a process gives up, for good, what it does not need. It does so before untrusted bytes reach third-party
 * code.
 *
 * The kernel has two means, and neither can be undone: Landlock is a list of the allowed paths, seccomp a list of the
 * allowed system calls. The kernel may refuse: old kernels have no Landlock, and a container may forbid either. A call
 * that is not on the list fails with ENOSYS, a path with EACCES.
 *
 * Builds with sanitizers or coverage get no sandbox, because their instrumentation does what a sandbox forbids.
 */
#ifndef LSTMD_BASE_SANDBOX_H
#define LSTMD_BASE_SANDBOX_H

#include <stdbool.h>
#include <stddef.h>

#include "base/error.h"

/* The beginning of the message that a program ran without a complete sandbox; its parent program looks for it. */
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
    const char *path; /* NULL, or a missing file: skipped */
    enum sandbox_access access;
};

/* Landlock for the calling thread and those that it starts later. From Linux 6.7 on it also forbids to listen at or to
 * connect to TCP ports. False: *err says what the kernel lacks. */
bool sandbox_limit_paths(const struct sandbox_path *paths, size_t count, struct error *err);

/* seccomp for all threads of a daemon that has opened its sockets. Allowed: files, memory, threads, the open sockets
 * and those accepted from them, datagrams to the service manager, and starting programs, which keep the filter.
 * Forbidden: other sockets, memory that is written and then run, other users' identities, tracing, mounting,
 * namespaces, modules, keys. */
bool sandbox_limit_daemon(struct error *err);

/* Both locks for a process that reads one stranger's file, and closes all descriptors beyond stderr. It starts no
 * programs, processes or threads, opens no sockets, and reaches into no other process. False: the kernel does not grant
 * all of it; *err says what and why, and the rest is in force. Call it while there is one thread. */
bool sandbox_enter(const struct sandbox_path *paths, size_t count, struct error *err);

#endif
