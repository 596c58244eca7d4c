#include "base/user.h"

#include <errno.h>
#include <grp.h>
#include <pwd.h>
#include <unistd.h>

#define RECORD_SIZE 16384 /* bytes for the texts of a user's record */

bool user_find(struct user *user, const char *name, struct error *err)
{
    char texts[RECORD_SIZE];
    struct passwd record, *found;
    const int problem = getpwnam_r(name, &record, texts, sizeof texts, &found);
    if (problem != 0) return error_set_errno(err, problem, "cannot look up the user \"%s\"", name);
    if (!found) return error_set(err, ERROR_INVALID, "there is no user \"%s\"", name);
    if (record.pw_uid == 0) return error_set(err, ERROR_INVALID, "the user \"%s\" is root", name);
    *user = (struct user){.uid = record.pw_uid, .gid = record.pw_gid};
    return true;
}

/* Groups first, because only root may set them. The last call tries to become root again; it must fail.
 */
bool user_become(const struct user *user, const char *name, struct error *err)
{
    if (initgroups(name, user->gid) != 0 || setresgid(user->gid, user->gid, user->gid) != 0 ||
        setresuid(user->uid, user->uid, user->uid) != 0)
        return error_set_errno(err, errno, "cannot become the user \"%s\"", name);
    return setuid(0) != 0 || error_set(err, ERROR_IO, "the user \"%s\" may become root again", name);
}
