#include "server/engine_queue.h"

static void append(struct engine_queue *queue, struct engine_group *group)
{
    group->next = NULL;
    *(queue->last ? &queue->last->next : &queue->first) = group;
    queue->last = group;
}

static size_t job_count(const struct engine_group *group)
{
    size_t n = 0;
    for (const struct engine_job *job = group->first; job; job = job->next) n++;
    return n;
}

void engine_queue_push(struct engine_queue *queue, struct engine_job *job)
{
    struct engine_group *group = job->group;
    const bool listed = group->first != NULL;
    job->next = NULL;
    *(group->last ? &group->last->next : &group->first) = job;
    group->last = job;
    queue->waiting++;
    if (!group->held) queue->ready++;
    if (listed) return;
    if (group->held) {
        group->next = queue->held;
        queue->held = group;
    } else {
        append(queue, group);
    }
}

struct engine_job *engine_queue_pop(struct engine_queue *queue, bool (*hold)(const struct engine_job *job))
{
    struct engine_group *group = queue->first;
    if (!group) return NULL;
    struct engine_job *job = group->first;
    queue->first = group->next;
    if (!queue->first) queue->last = NULL;
    group->first = job->next;
    if (!group->first) group->last = NULL;
    queue->waiting--;
    queue->ready--;
    job->leads = group->first && hold(job);
    if (job->leads) {
        group->held = true;
        group->next = queue->held;
        queue->held = group;
        queue->ready -= job_count(group);
    } else if (group->first) {
        append(queue, group);
    }
    return job;
}

void engine_queue_release(struct engine_queue *queue, struct engine_group *group)
{
    group->held = false;
    struct engine_group **link = &queue->held;
    while (*link && *link != group) link = &(*link)->next;
    if (!*link) return; /* all its jobs were swept out */
    *link = group->next;
    append(queue, group);
    queue->ready += job_count(group);
}

/* Takes jobs that are over out of a group; returns how many. */
static size_t sweep_group(struct engine_group *group, bool (*ended)(struct engine_job *job, void *context),
                          void *context, struct engine_job **swept)
{
    size_t n = 0;
    struct engine_job **link = &group->first;
    group->last = NULL;
    while (*link) {
        struct engine_job *job = *link;
        if (!ended(job, context)) {
            group->last = job;
            link = &job->next;
            continue;
        }
        *link = job->next;
        job->next = *swept;
        *swept = job;
        n++;
    }
    return n;
}

struct engine_job *engine_queue_sweep(struct engine_queue *queue, bool (*ended)(struct engine_job *job, void *context),
                                      void *context)
{
    struct engine_job *swept = NULL;
    struct engine_group **const lists[] = {&queue->first, &queue->held};
    queue->last = NULL;
    for (size_t i = 0; i < 2; i++) {
        struct engine_group **link = lists[i];
        while (*link) {
            struct engine_group *group = *link;
            const size_t n = sweep_group(group, ended, context, &swept);
            queue->waiting -= n;
            if (i == 0) queue->ready -= n;
            if (!group->first) {
                *link = group->next;
                continue;
            }
            if (i == 0) queue->last = group;
            link = &group->next;
        }
    }
    return swept;
}
