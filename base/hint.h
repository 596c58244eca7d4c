/* "Did you mean": finds the valid name nearest to an unknown flag, key, variable, field or command.
 *
 *     struct hint hint;
 *     hint_begin(&hint, typed);
 *     for each valid name: hint_try(&hint, name);
 *     hint.found is the name that was meant, or NULL; hint.remark is a sentence about what lstmd does not have, or
 * NULL.
 *
 * Comparing ignores case, "-", "_" and ".". A valid name matches in three ways: it is equal; both names are words for
 * the same thing (the table in hint.c has the words of other programs); or few letters differ: one for each three typed
 * letters, and at least one. A hint only changes a message. Pure, thread-safe.
 */
#ifndef LSTMD_BASE_HINT_H
#define LSTMD_BASE_HINT_H

#include <stddef.h>

#define HINT_NAME_SIZE 64 /* bytes of a name that are compared, and a NUL */

struct hint {
    const char *found, *remark;
    size_t rank;                /* of `found`; less is nearer */
    char typed[HINT_NAME_SIZE]; /* in the form that is compared */
};

void hint_begin(struct hint *hint, const char *typed);

/* "server.port" is also tried as "port". The name is borrowed. */
void hint_try(struct hint *hint, const char *name);

#endif
