/* Reads the target of a request: "/models/a%20b?length=10" -> path segments and query parameters.
 *
 * Percent-decoding is strict ("%" needs two hex digits). Results carry their sizes, so decoded NUL bytes are safe. Pure
 * functions, thread-safe.
 */
#ifndef LSTMD_SERVER_HTTP_QUERY_H
#define LSTMD_SERVER_HTTP_QUERY_H

#include <stdbool.h>
#include <stddef.h>

#include "base/error.h"

struct query_pair {
    const char *name, *value; /* decoded, NUL-terminated; owned by the query */
    size_t name_size, value_size;
};

struct query {
    struct query_pair *pairs;
    size_t count;
    char *text;
};

/* Parses what follows the "?"; "+" is a space. An empty text has no pairs; a pair without "=" has an empty value.
 * Errors: ERROR_INVALID with the byte offset of a wrong escape, ERROR_NO_MEMORY. Close with query_close(), also after a
 * failure. */
bool query_parse(struct query *query, const char *text, struct error *err);
void query_close(struct query *query);

/* Decodes text[0..n) into `out` (room for n + 1 bytes, NUL-terminated; may be `text`). Returns false and sets *size to
 * the offset of the wrong escape where there is one; else *size is the number of bytes written. */
bool percent_decode(const char *text, size_t n, bool plus_is_space, char *out, size_t *size);

/* Whether the raw path has the form of the pattern ("/models/{name}/load"; one placeholder at most). The
 * placeholder's decoded text is written to `parameter` (room for strlen(path) + 1 bytes; "" where there is none). */
bool path_match(const char *pattern, const char *path, char *parameter);

#endif
