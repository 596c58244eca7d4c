/* Which form of an answer a client prefers (Accept, Accept-Encoding), and whether it has that form (If-None-Match).
 * Pure, thread-safe. Source: RFC 9110, 12.5.1, 12.5.3 and 13.1.2.
 *
 * Types: for each form the most specific range that names it counts: "text/csv" before "text" with any subtype before
 * any type. A range with parameters is the most specific, and its parameters are not compared. The form with the
 * greatest weight wins; among equals the first. A weight of 0 excludes. A range that does not follow the grammar is
 * skipped.
 */
#ifndef LSTMD_SERVER_HTTP_NEGOTIATE_H
#define LSTMD_SERVER_HTTP_NEGOTIATE_H

#include <stdbool.h>
#include <stddef.h>

/* Returns an index into types[count] ("application/json"); `accept` NULL: none was sent. 0 where the client accepts
 * none of them: RFC 9110 lets a server disregard the header then, and a client that cannot read the answer is no worse
 * off than with 406. */
size_t accept_choose(const char *accept, const char *const *types, size_t count);

/* Whether the client takes gzip, and likes it no less than the bytes as they are. `encodings` NULL: none was sent. */
bool accept_gzip(const char *encodings);

/* Whether the client's list of entity tags ("*" is all) has this one, which includes its quotes. W/ before a tag of the
 * list is skipped: a proxy that packs an answer puts it there. `list` NULL: none was sent. */
bool etag_is_listed(const char *list, const char *etag);

#endif
