#include "server/engine/queue.h"

static void queue_append_line(struct engine_ring *ring, struct engine_line *line)
{
    line->next = NULL;
    *(ring->last ? &ring->last->next : &ring->first) = line;
    ring->last = line;
}

static struct engine_line *take_first(struct engine_ring *ring)
{
    struct engine_line *line = ring->first;
    ring->first = line->next;
    if (!ring->first) ring->last = NULL;
    return line;
}

static size_t job_count(const struct engine_line *line)
{
    size_t n = 0;
    for (const struct engine_job *job = line->first; job; job = job->next) n++;
    return n;
}

static void append_job(struct engine_line *line, struct engine_job *job)
{
    job->next = NULL;
    *(line->last ? &line->last->next : &line->first) = job;
    line->last = job;
}

static struct engine_job *take_first_job(struct engine_line *line)
{
    struct engine_job *job = line->first;
    line->first = job->next;
    if (!line->first) line->last = NULL;
    return job;
}

static void hold_line(struct engine_queue *queue, struct engine_line *line)
{
    line->next = queue->held;
    queue->held = line;
}

void engine_queue_push(struct engine_queue *queue, struct engine_job *job)
{
    struct engine_group *group = job->group;
    const bool listed = group->fresh.first;
    append_job(&group->fresh, job);
    queue->waiting++;
    if (!group->held) queue->ready++;
    if (listed) return;
    if (group->held)
        hold_line(queue, &group->fresh);
    else
        queue_append_line(&queue->fresh, &group->fresh);
}

void engine_queue_set_aside(struct engine_queue *queue, struct engine_job *job)
{
    struct engine_line *line = &job->group->aside;
    if (!line->first) queue_append_line(&queue->aside, line);
    append_job(line, job);
    queue->waiting++;
    queue->ready++;
}

struct engine_job *engine_queue_pop(struct engine_queue *queue, bool (*hold)(const struct engine_job *job))
{
    if (!queue->fresh.first && !queue->aside.first) return NULL;
    const bool fresh = queue->fresh.first && !(queue->aside.first && queue->aside_next);
    struct engine_ring *ring = fresh ? &queue->fresh : &queue->aside;
    struct engine_line *line = take_first(ring);
    struct engine_job *job = take_first_job(line);
    queue->aside_next = fresh;
    queue->waiting--;
    queue->ready--;
    if (fresh) job->leads = line->first && hold(job);
    if (fresh && job->leads) {
        job->group->held = true;
        hold_line(queue, line);
        queue->ready -= job_count(line);
    } else if (line->first) {
        queue_append_line(ring, line);
    }
    return job;
}

void engine_queue_release(struct engine_queue *queue, struct engine_group *group)
{
    group->held = false;
    struct engine_line **link = &queue->held;
    while (*link && *link != &group->fresh) link = &(*link)->next;
    if (!*link) return; /* all its jobs were swept out */
    *link = group->fresh.next;
    queue_append_line(&queue->fresh, &group->fresh);
    queue->ready += job_count(&group->fresh);
}

/* Takes jobs that are over out of a line; returns how many. */
static size_t sweep_line(struct engine_line *line, bool (*ended)(struct engine_job *job, void *context), void *context,
                         struct engine_job **swept)
{
    size_t n = 0;
    struct engine_job **link = &line->first;
    line->last = NULL;
    while (*link) {
        struct engine_job *job = *link;
        if (!ended(job, context)) {
            line->last = job;
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

/* The same for all lines of a list, of which empty ones leave it; `last` is then the last of them. */
static size_t sweep_list(struct engine_line **list, struct engine_line **last,
                         bool (*ended)(struct engine_job *job, void *context), void *context, struct engine_job **swept)
{
    size_t n = 0;
    struct engine_line **link = list;
    *last = NULL;
    while (*link) {
        struct engine_line *line = *link;
        n += sweep_line(line, ended, context, swept);
        if (!line->first) {
            *link = line->next;
            continue;
        }
        *last = line;
        link = &line->next;
    }
    return n;
}

struct engine_job *engine_queue_sweep(struct engine_queue *queue, bool (*ended)(struct engine_job *job, void *context),
                                      void *context)
{
    struct engine_job *swept = NULL;
    struct engine_line *last_held;
    const size_t ready = sweep_list(&queue->fresh.first, &queue->fresh.last, ended, context, &swept) +
                         sweep_list(&queue->aside.first, &queue->aside.last, ended, context, &swept);
    queue->ready -= ready;
    queue->waiting -= ready + sweep_list(&queue->held, &last_held, ended, context, &swept);
    return swept;
}
