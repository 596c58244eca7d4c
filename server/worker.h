/* One thread that runs tasks in the order they came. What is too long for the HTTP thread goes here.
 *
 * Tasks are memory of the caller and may be freed by their own run(). The queue is as long as the callers let it be.
 */
#ifndef LSTMD_SERVER_WORKER_H
#define LSTMD_SERVER_WORKER_H

#include <stdbool.h>

#include "base/error.h"

struct worker;

struct task {
    void (*run)(struct task *task); /* worker's thread, without locks; the task is no longer the worker's */
    struct task *next;              /* the worker's */
};

struct worker *worker_new(struct error *err);

/* Any thread. False after worker_stop(). */
bool worker_submit(struct worker *worker, struct task *task);

/* Runs what was submitted, refuses what comes later, ends the thread. Once, before worker_free() (NULL allowed). */
void worker_stop(struct worker *worker);
void worker_free(struct worker *worker);

#endif
