/* How much memory this process may use. Reads the system; thread-safe. */
#ifndef LSTMD_BASE_MEMORY_H
#define LSTMD_BASE_MEMORY_H

#include <stddef.h>

/* Bytes: the machine's memory, or, if less, the smallest memory.max of the process's control groups (cgroup v2). 0: not
 * known. */
size_t memory_limit(void);

/* The same with other files, for tests: cgroup stands for /proc/self/cgroup, root for the directory where the groups
 * are mounted. */
size_t memory_limit_of(const char *cgroup, const char *root, size_t physical);

/* From now on malloc() maps each block of 128 KiB or more separately, so free() gives it back to the system. Without
 * this, glibc raises that size to the largest freed block (up to 32 MiB) and keeps later blocks. Call once, before
 * threads start. */
void memory_return_large_blocks(void);

#endif
