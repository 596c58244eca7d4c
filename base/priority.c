#include "base/priority.h"

#include <sched.h>
#include <stdint.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <unistd.h>

#define SLICE_NS       100000 /* the least that Linux accepts */
#define WORST_NICENESS 19
#define WORK           4000000 /* multiply-adds: some 0.1 ms of a processor */

/* sched_setattr(2), first version; Debian 12's libc does not declare it. */
struct scheduling {
    uint32_t size, policy;
    uint64_t flags;
    int32_t nice;
    uint32_t priority;
    uint64_t runtime, deadline, period;
};

void priority_prompt(void)
{
    const int nice = getpriority(PRIO_PROCESS, (id_t)gettid());
    const struct scheduling wanted = {.size = sizeof wanted, .policy = SCHED_OTHER, .nice = nice, .runtime = SLICE_NS};
    syscall(SYS_sched_setattr, 0, &wanted, 0);
}

void priority_lowest(void)
{
    const struct sched_param none = {0};
    setpriority(PRIO_PROCESS, (id_t)gettid(), WORST_NICENESS);
    sched_setscheduler(0, SCHED_IDLE, &none);
}

void priority_give_way(size_t work)
{
    static _Thread_local size_t done;
    done += work;
    if (done < WORK) return;
    done = 0;
    if (sched_getscheduler(0) == SCHED_IDLE) sched_yield();
}
