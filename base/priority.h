/* Scheduling hints for the calling thread and the threads that it starts later. If the system does not know a hint or
 * refuses it, nothing happens. Thread-safe, no errors. */
#ifndef LSTMD_BASE_PRIORITY_H
#define LSTMD_BASE_PRIORITY_H

#include <stddef.h>

/* Asks for short time slices, for a thread that waits, works briefly and waits again: when it wakes, it runs before a
 * computing thread's slice is over (some milliseconds). Its share of time does not change. Linux 6.12 and later. */
void priority_prompt(void);

/* Lowest priority: the thread runs when nothing else wants the processor. */
void priority_lowest(void);

/* Long loops call this after about `work` multiply-adds. At the lowest priority it yields the processor every 0.1 ms or
 * so. Without it, Linux may let another thread that just had more than its share wait for this one until the next tick,
 * up to 4 ms. At any other priority it does nothing, because yielding would give up the thread's share. */
void priority_give_way(size_t work);

#endif
