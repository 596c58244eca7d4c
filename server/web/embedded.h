/* Files that are part of the program: the page, the client for other pages, and openapi.yaml. Immutable. */
#ifndef LSTMD_SERVER_WEB_EMBEDDED_H
#define LSTMD_SERVER_WEB_EMBEDDED_H

#include <stdint.h>

struct embedded_file {
    const char *path; /* where it is served */
    const char *content_type;
    const char *data;
    const uint64_t *size;
};

/* NULL where no file has this path. */
const struct embedded_file *embedded_find(const char *path);

#endif
