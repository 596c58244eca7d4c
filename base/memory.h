/* How much memory this process may use. Reads the system; thread-safe. */
#ifndef LSTMD_BASE_MEMORY_H
#define LSTMD_BASE_MEMORY_H

#include <stddef.h>

/* The machine's memory, or the least memory.max of the control groups (cgroup v2) that the process is in, if that is
 * less. 0: not known. */
size_t memory_limit(void);

/* The same with the files that say it: cgroup is /proc/self/cgroup, root is where the groups are mounted. For tests. */
size_t memory_limit_of(const char *cgroup, const char *root, size_t physical);

/* From now on a block of 128 KiB or more is a mapping of its own, so it goes back to the system when it is freed. glibc
 * would raise that size to that of the largest block that was freed (up to 32 MiB) and keep later ones. Once, before
 * there are threads. */
void memory_return_large_blocks(void);

#endif
