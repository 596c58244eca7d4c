/* Subnormal numbers are very near to zero (below 1e-38 as float); processors compute with them many times slower.
 *
 * A thread may treat them as zero, as operands and as results, while it computes. x86-64 (MXCSR) and aarch64 (FPCR) can
 * do that; on other processors nothing happens, and subnormals stay slow. The mode belongs to the thread and holds for
 * scalar and vector instructions, so portable and vector kernels still compute the same bits. Thread-safe, no
 * errors. */
#ifndef LSTMD_BASE_SUBNORMALS_H
#define LSTMD_BASE_SUBNORMALS_H

#include <stdint.h>

/* From here to subnormals_restore() subnormals are zero in this thread. Returns the mode that it had. */
uint64_t subnormals_flush(void);
void subnormals_restore(uint64_t mode);

#endif
