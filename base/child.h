/* Runs this program once more as a child process. The daemon uses it for work that it must not do itself: reading
 * untrusted files through third-party parsers. If such a file breaks the child, the daemon goes on.
 */
#ifndef LSTMD_BASE_CHILD_H
#define LSTMD_BASE_CHILD_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>

#include "base/error.h"

struct child_options {
    const char *const *arguments; /* after the program's name; NULL-terminated */
    const char *directory;        /* the child's working directory */
    double seconds;               /* it is killed after this time */
    const atomic_bool *cancelled; /* ... or when this becomes true */
};

struct child_result {
    int exit_code;      /* -1: it was killed, or died */
    char message[1024]; /* the end of what it wrote to stderr */
};

/* Runs the child and waits for its end. The child has only /dev/null and a pipe open. Any thread. False: it could not
 * be started, or it was cancelled (ERROR_UNAVAILABLE). */
bool child_run(const struct child_options *options, struct child_result *result, struct error *err);

#endif
