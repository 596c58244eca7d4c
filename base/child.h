/* Another run of this program, for what must not be done in the daemon: reading files of strangers through other
 * people's parsers. Whatever they do to the child, the daemon lives on.
 */
#ifndef LSTMD_BASE_CHILD_H
#define LSTMD_BASE_CHILD_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>

#include "base/error.h"

struct child_options {
    const char *const *arguments; /* after the program's name; NULL-terminated */
    const char *directory;        /* where it runs */
    double seconds;               /* it is killed after so long */
    const atomic_bool *cancelled; /* ... or when this becomes true */
};

struct child_result {
    int exit_code;      /* -1: it was killed, or died */
    char message[1024]; /* the end of what it wrote to stderr */
};

/* Runs it to its end, with nothing open but /dev/null and a pipe. Any thread; waits. False: it could not be run, or was
 * cancelled (ERROR_UNAVAILABLE). */
bool child_run(const struct child_options *options, struct child_result *result, struct error *err);

#endif
