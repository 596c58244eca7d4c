/* A zip archive that a stranger made, read into memory entry by entry. Nothing is unpacked to disk.
 *
 * Opening checks the whole directory. It refuses names that are absolute, climb with "..", or come twice, encrypted
 * entries, methods other than stored and deflated, and sizes that cannot be true, whether somebody asks for the entry
 * or not. Reading takes no more memory than the caller allows, and no more bytes than the directory promised: a zip
 * bomb is ERROR_TOO_LARGE before it is unpacked. Checksums are verified. Errors name the archive and the entry; they
 * are ERROR_CORRUPT unless stated otherwise. An archive belongs to one thread at a time.
 */
#ifndef LSTMD_MODEL_INTEROP_ZIP_H
#define LSTMD_MODEL_INTEROP_ZIP_H

#include <stdbool.h>
#include <stddef.h>

#include "base/error.h"

#define INTEROP_ZIP_MAX_ENTRIES 65536

struct interop_zip;

/* Opens an archive in memory (borrowed until it is closed). `name` (a path, borrowed, too) begins messages. NULL after
 * an error. */
struct interop_zip *interop_zip_open(const char *name, const void *data, size_t size, struct error *err);
void interop_zip_close(struct interop_zip *zip); /* NULL allowed */

/* Entries in the order of the directory. A name that ends in '/' is a directory. */
size_t interop_zip_count(const struct interop_zip *zip);
const char *interop_zip_name(const struct interop_zip *zip, size_t index);

/* Whether there is an entry of exactly that name. */
bool interop_zip_has(const struct interop_zip *zip, const char *name);

/* Reads the entry of exactly that name: *size bytes and a NUL, the caller's (free()). Errors: ERROR_NOT_FOUND,
 * ERROR_TOO_LARGE beyond max_bytes (before memory is taken), ERROR_NO_MEMORY. */
bool interop_zip_read(struct interop_zip *zip, const char *name, size_t max_bytes, char **data, size_t *size,
                      struct error *err);

#endif
