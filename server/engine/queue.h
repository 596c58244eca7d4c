/* The engine's waiting jobs. There are two rings: one of new jobs, one of jobs that were set aside. A ring has a line
 * for each group. Each pop takes one job from the line whose turn it is, so groups advance at the same pace however
 * many jobs they have. If neither ring is empty, they take turns. A held group keeps its new jobs and its turn, and
 * pops pass it over until it is released. Not thread-safe: the engine's mutex guards it.
 */
#ifndef LSTMD_SERVER_ENGINE_QUEUE_H
#define LSTMD_SERVER_ENGINE_QUEUE_H

#include <stdbool.h>
#include <stddef.h>

#include "server/engine/engine.h"

/* Lines that are not empty. */
struct engine_ring {
    struct engine_line *first, *last;
};

struct engine_queue {
    struct engine_ring fresh, aside; /* those whose turn comes */
    struct engine_line *held;        /* of new jobs that wait for the first of their group */
    size_t waiting, ready;           /* jobs; of them those in the rings */
    bool aside_next;                 /* a new job had the last turn */
};

/* A new job; job->group is set. */
void engine_queue_push(struct engine_queue *queue, struct engine_job *job);

/* A job that was popped and goes on later. */
void engine_queue_set_aside(struct engine_queue *queue, struct engine_job *job);

/* The next job; NULL where none is ready. hold: decides whether the others of its group wait until it is released;
 * asked for new jobs only. */
struct engine_job *engine_queue_pop(struct engine_queue *queue, bool (*hold)(const struct engine_job *job));

void engine_queue_release(struct engine_queue *queue, struct engine_group *group);

/* Takes out, held or not, the jobs that `ended` says are over; they are linked by `next`. */
struct engine_job *engine_queue_sweep(struct engine_queue *queue, bool (*ended)(struct engine_job *job, void *context),
                                      void *context);

#endif
