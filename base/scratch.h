/* Scratch memory: once it is large, it is a mapped file without a name. Training reads the tokens of a corpus of
 * gigabytes again and again; they must not fill the machine's memory. The system writes pages of the file to disk and
 * reads them back as it needs room. The file is gone when the process ends.
 *
 * `struct scratch s = {0};` is empty; scratch_close() makes it empty again.
 */
#ifndef LSTMD_BASE_SCRATCH_H
#define LSTMD_BASE_SCRATCH_H

#include <stdbool.h>
#include <stddef.h>

#include "base/error.h"

#define SCRATCH_IN_MEMORY ((size_t)8 << 20) /* bytes; a larger scratch is a file */

struct scratch {
    void *data;  /* NULL: none */
    size_t size; /* bytes */
    bool mapped; /* true: a file; false: from malloc() */
    int file;
};

/* Makes it at least `size` bytes and keeps its content; new bytes have any value. Messages name `what`. directory:
 * where the file is made; the file takes room on the disk for all bytes. NULL: it stays in memory, however large.
 * Errors: ERROR_NO_MEMORY, ERROR_NO_SPACE, ERROR_IO and those of opening a file; the scratch is then unchanged. */
bool scratch_reserve(struct scratch *scratch, size_t size, const char *directory, const char *what, struct error *err);
/* As scratch_reserve() for `count` elements. */
bool scratch_reserve_array(struct scratch *scratch, size_t count, size_t element, const char *directory,
                           const char *what, struct error *err);
/* Lets the system write the content to the file and free its memory; the next access reads it back. */
void scratch_let_go(const struct scratch *scratch);
void scratch_close(struct scratch *scratch);

#endif
