/* Files that are part of the program: the page with its modules and its chart library, the client for other pages, and
 * openapi.yaml. Immutable. The build makes the list of them from the directory (scripts/embed). */
#ifndef LSTMD_SERVER_WEB_EMBEDDED_H
#define LSTMD_SERVER_WEB_EMBEDDED_H

#include <stdint.h>

/* The bytes of a file in one coding. */
struct embedded_form {
    const char *data;
    const uint64_t *size;
    const char *etag; /* with its quotes; a hash of the bytes */
};

struct embedded_file {
    const char *path; /* where it is served */
    const char *content_type;
    struct embedded_form plain, packed; /* packed: in gzip */
};

/* NULL where no file has this path. */
const struct embedded_file *embedded_find(const char *path);

#endif
