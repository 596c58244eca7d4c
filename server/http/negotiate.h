/* Which form of an answer a client prefers: the header Accept (RFC 9110, 12.5.1). Pure, thread-safe.
 *
 * For each form the most specific range that names it counts ("text/csv" before "text" with any subtype before any
 * type; one with parameters is the most specific, and its parameters are not compared), and the form with the greatest
 * weight wins; among equals the first. A weight of 0 excludes. What is not of the grammar is passed over, range by
 * range.
 */
#ifndef LSTMD_SERVER_HTTP_NEGOTIATE_H
#define LSTMD_SERVER_HTTP_NEGOTIATE_H

#include <stddef.h>

/* The index into types[count] ("application/json"); `accept` NULL: none was sent. Where the client accepts none of them
 * the answer is 0: RFC 9110 lets a server disregard the header then, and a client that cannot read the answer is no
 * worse off than with 406. */
size_t accept_choose(const char *accept, const char *const *types, size_t count);

#endif
