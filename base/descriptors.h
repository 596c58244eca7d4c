/* How many descriptors the process may have open at a time (RLIMIT_NOFILE). */
#ifndef LSTMD_BASE_DESCRIPTORS_H
#define LSTMD_BASE_DESCRIPTORS_H

#include <stddef.h>

/* Raises the limit to `wanted` if it is lower, as far as the system allows. Returns the limit. */
size_t descriptors_raise(size_t wanted);

#endif
