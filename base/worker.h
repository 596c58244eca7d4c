/* One thread that runs tasks: smaller ones first, and those of one size in the order they came. Each fourth is the one
 * that has waited longest, so that a large one is not kept waiting for ever. What is too long for the HTTP thread goes
 * here.
 *
 * Tasks are memory of the caller and may be freed by their own run(). The queue is as long as the callers let it be.
 */
#ifndef LSTMD_BASE_WORKER_H
#define LSTMD_BASE_WORKER_H

#include <stdbool.h>
#include <stddef.h>

#include "base/error.h"

struct worker;

struct task {
    void (*run)(struct task *task); /* worker's thread, without locks; the task is no longer the worker's */
    size_t size;                    /* how long it may take, in any unit; 0 where the order shall be kept */
    struct task *next;              /* the worker's */
};

struct worker *worker_new(struct error *err);

/* Any thread. False after worker_stop(). */
bool worker_submit(struct worker *worker, struct task *task);

/* Runs what was submitted, refuses what comes later, ends the thread. Once, before worker_free() (NULL allowed). */
void worker_stop(struct worker *worker);
void worker_free(struct worker *worker);

#endif
