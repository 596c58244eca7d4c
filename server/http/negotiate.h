/* Which form of an answer a client prefers: the header Accept. Source: RFC 9110, 12.5.1. Pure, thread-safe.
 *
 * For each form the most specific range that names it counts: "text/csv" before "text" with any subtype before any
 * type. A range with parameters is the most specific, and its parameters are not compared. The form with the greatest
 * weight wins; among equals the first. A weight of 0 excludes. A range that does not follow the grammar is skipped.
 */
#ifndef LSTMD_SERVER_HTTP_NEGOTIATE_H
#define LSTMD_SERVER_HTTP_NEGOTIATE_H

#include <stddef.h>

/* Returns an index into types[count] ("application/json"); `accept` NULL: none was sent. 0 where the client accepts
 * none of them: RFC 9110 lets a server disregard the header then, and a client that cannot read the answer is no worse
 * off than with 406. */
size_t accept_choose(const char *accept, const char *const *types, size_t count);

#endif
