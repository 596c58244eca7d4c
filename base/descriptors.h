/* How many descriptors the process may have open at a time (RLIMIT_NOFILE). */
#ifndef LSTMD_BASE_DESCRIPTORS_H
#define LSTMD_BASE_DESCRIPTORS_H

#include <stddef.h>

/* Raises the limit, as far as the system lets the process, where it is less than `wanted`. Returns it. */
size_t descriptors_raise(size_t wanted);

#endif
