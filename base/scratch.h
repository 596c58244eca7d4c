/* Memory that lies in a file without a name: what is too large to keep the machine's memory for, and is read again and
 * again. The system writes pages of it to disk, and reads them back, as it needs room. The file goes with the process.
 */
#ifndef LSTMD_BASE_SCRATCH_H
#define LSTMD_BASE_SCRATCH_H

#include <stdbool.h>
#include <stddef.h>

#include "base/error.h"

struct scratch {
    void *data; /* zeros at first; NULL: none */
    size_t size;
};

/* Takes room for all of it on the disk of the directory. Errors: ERROR_NO_SPACE, ERROR_IO. */
bool scratch_open(struct scratch *scratch, const char *directory, size_t size, struct error *err);
/* What was written goes to the file; it is read back when it is needed. */
void scratch_let_go(const struct scratch *scratch);
void scratch_close(struct scratch *scratch);

#endif
