/* Giving up what a process does not need, before it reads what a stranger wrote through other people's code.
 *
 * Two locks of the kernel, neither of which can be opened again: a list of the system calls that stay (seccomp), which
 * has none that starts programs, processes or threads, opens sockets, makes memory executable or reaches into other
 * processes; and a list of the paths that stay (Landlock). It is the kernel's to grant: older ones have no Landlock,
 * and a container may refuse either.
 */
#ifndef LSTMD_BASE_SANDBOX_H
#define LSTMD_BASE_SANDBOX_H

#include <stdbool.h>
#include <stddef.h>

#include "base/error.h"

/* How a program begins to say that something was not done in a whole sandbox; another may look for it. */
#define SANDBOX_LACKING "there was no complete sandbox"

struct sandbox {
    const char *const *readable; /* files, and directories with all that is in them; NULL: no file. Those that are not
                                    there are passed over */
    size_t readable_count;
    const char *writable; /* a directory: files and directories in it are read, made, written and removed */
};

/* Enters it for good, and closes all descriptors beyond stderr. A call that is not on the list fails with ENOSYS, a
 * path with EACCES. False: the kernel does not grant all of it, *err says what and why, and what it does grant is in
 * force. Builds with sanitizers or coverage, which do in a process what a sandbox forbids, get none of it. Threads: to
 * be called while there is one. Landlock is for the calling thread and those that it starts, and another would be a way
 * around it. */
bool sandbox_enter(const struct sandbox *sandbox, struct error *err);

#endif
