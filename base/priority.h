/* How the scheduler treats the thread that calls, and those that it starts afterwards. Hints: where a system does not
 * know one, or refuses it, nothing happens. Thread-safe, no errors. */
#ifndef LSTMD_BASE_PRIORITY_H
#define LSTMD_BASE_PRIORITY_H

/* Short slices, for a thread that waits, does a little and waits again: it need not wait, when it wakes, until the
 * slice of a thread that computes is over (some milliseconds). Linux 6.12 and later; its share of time is that of any
 * thread. */
void priority_prompt(void);

/* The time that nothing else wants. */
void priority_lowest(void);

#endif
