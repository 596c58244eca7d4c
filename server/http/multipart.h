/* Reads a multipart/form-data body that comes in pieces, and passes on the parts of the form. Source: RFC 7578.
 *
 * It keeps a buffer of a few kilobytes alone, so a part may be of any size. Belongs to one thread.
 */
#ifndef LSTMD_SERVER_HTTP_MULTIPART_H
#define LSTMD_SERVER_HTTP_MULTIPART_H

#include <stdbool.h>
#include <stddef.h>

#include "base/error.h"

/* If a function fails, multipart_write() fails with its error. */
struct multipart_sink {
    bool (*part)(const char *name, void *context, struct error *err); /* a part begins */
    bool (*data)(const char *data, size_t size, void *context, struct error *err);
    void *context;
};

struct multipart;

/* `content_type` is the request's. Errors: ERROR_INVALID where it has no boundary. */
struct multipart *multipart_new(const char *content_type, const struct multipart_sink *sink, struct error *err);
void multipart_free(struct multipart *multipart); /* NULL allowed */

/* The next piece of the body. Errors: ERROR_INVALID for what is no form. */
bool multipart_write(struct multipart *multipart, const char *data, size_t size, struct error *err);

/* Whether the form came to its end. */
bool multipart_finish(const struct multipart *multipart, struct error *err);

#endif
