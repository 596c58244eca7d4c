/* How much memory this process may use. Reads the system; thread-safe. */
#ifndef LSTMD_BASE_MEMORY_H
#define LSTMD_BASE_MEMORY_H

#include <stddef.h>

/* The machine's memory, or the least memory.max of the control groups (cgroup v2) that the process is in, if that is
 * less. 0: not known. */
size_t memory_limit(void);

/* The same with the files that say it: cgroup is /proc/self/cgroup, root is where the groups are mounted. For tests. */
size_t memory_limit_of(const char *cgroup, const char *root, size_t physical);

#endif
