/* How the scheduler treats the thread that calls, and those that it starts afterwards. Hints: where a system does not
 * know one, or refuses it, nothing happens. Thread-safe, no errors. */
#ifndef LSTMD_BASE_PRIORITY_H
#define LSTMD_BASE_PRIORITY_H

#include <stddef.h>

/* Short slices, for a thread that waits, does a little and waits again: it need not wait, when it wakes, until the
 * slice of a thread that computes is over (some milliseconds). Linux 6.12 and later; its share of time is that of any
 * thread. */
void priority_prompt(void);

/* The time that nothing else wants. */
void priority_lowest(void);

/* For loops that compute for long, after about so many multiply-adds. At the lowest priority, whoever waits for this
 * processor gets it, every tenth of a millisecond or so. Left alone, Linux lets a thread that had more than its share
 * of the moment before wait for one of the lowest priority, and looks again at its next tick, up to 4 ms later. Nothing
 * happens at any other priority, where giving way would be giving up one's share. */
void priority_give_way(size_t work);

#endif
