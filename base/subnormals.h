/* Subnormal numbers: those so near to zero (below 1e-38 as float) that processors compute with them many times slower.
 *
 * A thread may say that they are zero, as operands and as results, for as long as it computes. x86-64 (MXCSR) and
 * aarch64 (FPCR) can do that; elsewhere nothing happens, and such numbers cost time. The mode is the thread's own,
 * whatever instructions it uses: portable and vector kernels compute the same bits under it as beside each other.
 * Thread-safe, no errors. */
#ifndef LSTMD_BASE_SUBNORMALS_H
#define LSTMD_BASE_SUBNORMALS_H

#include <stdint.h>

/* From here to subnormals_restore() subnormals are zero in this thread. Returns the mode that it had. */
uint64_t subnormals_flush(void);
void subnormals_restore(uint64_t mode);

#endif
