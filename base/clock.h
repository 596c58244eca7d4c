/* The two clocks: monotonic for durations, UTC for what people read. Thread-safe. */
#ifndef LSTMD_BASE_CLOCK_H
#define LSTMD_BASE_CLOCK_H

#include <stddef.h>
#include <stdint.h>

/* Nanoseconds since an arbitrary start; never goes back. */
uint64_t clock_monotonic_ns(void);

/* "2026-11-23T21:44:05.123Z" and a NUL. */
#define CLOCK_UTC_SIZE 25
void clock_utc_text(char out[CLOCK_UTC_SIZE]);

#endif
