/* The engine's waiting jobs: groups in a ring, each with its jobs in order. Every pop takes one job from the group
 * whose turn it is, so groups advance at the same pace however many jobs they have. A held group keeps its jobs and its
 * claim to a turn, and is passed over until it is released. Not thread-safe: the engine's mutex guards it.
 */
#ifndef LSTMD_SERVER_ENGINE_QUEUE_H
#define LSTMD_SERVER_ENGINE_QUEUE_H

#include <stdbool.h>
#include <stddef.h>

#include "server/engine.h"

struct engine_queue {
    struct engine_group *first, *last; /* those whose turn comes */
    struct engine_group *held;         /* those that wait for their first job */
    size_t waiting, ready;             /* jobs; of them those in groups that are not held */
};

/* job->group is set. */
void engine_queue_push(struct engine_queue *queue, struct engine_job *job);

/* The next job; NULL where none is ready. hold: decides whether the others of its group wait until it is released. */
struct engine_job *engine_queue_pop(struct engine_queue *queue, bool (*hold)(const struct engine_job *job));

void engine_queue_release(struct engine_queue *queue, struct engine_group *group);

/* Takes out, held or not, the jobs that `ended` says are over; they are linked by `next`. */
struct engine_job *engine_queue_sweep(struct engine_queue *queue, bool (*ended)(struct engine_job *job, void *context),
                                      void *context);

#endif
