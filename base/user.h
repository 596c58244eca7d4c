/* Changes from root to another user for good, for a daemon that an init script starts as root.
 */
#ifndef LSTMD_BASE_USER_H
#define LSTMD_BASE_USER_H

#include <stdbool.h>
#include <sys/types.h>

#include "base/error.h"

struct user {
    uid_t uid;
    gid_t gid; /* the primary group */
};

/* Looks a name up in the system's list of users. ERROR_INVALID: no such user, or it is root. Reads files, and may ask
 * the network (nsswitch.conf). */
bool user_find(struct user *user, const char *name, struct error *err);

/* Becomes that user in all threads, with the user's groups, irrevocably. The process must run as root. */
bool user_become(const struct user *user, const char *name, struct error *err);

#endif
