/* Memory that lies in a file without a name once it is large: what a corpus of gigabytes leaves of itself is read again
 * and again, and must not take the machine's memory. The system writes pages of such a file to disk, and reads them
 * back, as it needs room. The file goes with the process.
 *
 * `struct scratch s = {0};` is empty; scratch_close() returns it to that.
 */
#ifndef LSTMD_BASE_SCRATCH_H
#define LSTMD_BASE_SCRATCH_H

#include <stdbool.h>
#include <stddef.h>

#include "base/error.h"

#define SCRATCH_IN_MEMORY ((size_t)8 << 20) /* bytes; what is larger goes to the disk */

struct scratch {
    void *data;  /* NULL: none */
    size_t size; /* bytes */
    bool mapped; /* a file is */
    int file;
};

/* Makes it at least so large, and keeps what is there; what is new may hold anything. `what` stands in messages.
 * directory: where the file is made, and takes room on the disk for all of it; NULL: it stays in memory, however large.
 * Errors: ERROR_NO_MEMORY, ERROR_NO_SPACE, ERROR_IO and those of opening a file; they leave it as it was. */
bool scratch_reserve(struct scratch *scratch, size_t size, const char *directory, const char *what, struct error *err);
/* As scratch_reserve() for `count` elements. */
bool scratch_reserve_array(struct scratch *scratch, size_t count, size_t element, const char *directory,
                           const char *what, struct error *err);
/* What was written goes to the file; it is read back when it is needed. */
void scratch_let_go(const struct scratch *scratch);
void scratch_close(struct scratch *scratch);

#endif
