/* One thread that runs tasks: smaller ones first, equal sizes in the order of submission. Every fourth task is the one
 * that has waited longest, so a large task does not wait for ever. Work that takes too long for the HTTP thread goes
 * here.
 *
 * The caller owns the tasks; a task's run() may free it. The queue has no limit of its own; callers bound it.
 */
#ifndef LSTMD_BASE_WORKER_H
#define LSTMD_BASE_WORKER_H

#include <stdbool.h>
#include <stddef.h>

#include "base/error.h"

struct worker;

struct task {
    void (*run)(
        struct task *task); /* called in the worker's thread, without locks; the worker no longer touches the task */
    size_t size;            /* estimated duration, in any unit; 0 keeps the order of submission */
    struct task *next;      /* the worker's link */
};

struct worker *worker_new(struct error *err);

/* Any thread. False after worker_stop(). */
bool worker_submit(struct worker *worker, struct task *task);

/* Runs the submitted tasks, refuses later ones, ends the thread. Call once, before worker_free() (NULL allowed). */
void worker_stop(struct worker *worker);
void worker_free(struct worker *worker);

#endif
