/* Holds: a dataset stays as it is from the request for a job to the job's end, restarts included. */
#include <stdlib.h>

#include "server/jobs/internal.h"

bool hold_take(struct jobs *jobs, const json_t *request, struct hold **held, struct error *err)
{
    const char *name = json_string_value(json_object_get(request, "dataset"));
    *held = NULL;
    if (!name) return true;
    struct hold *hold = malloc(sizeof *hold);
    if (!hold) return error_set_no_memory(err, sizeof *hold, "a job");
    *hold = (struct hold){.dataset = datasets_acquire(jobs->options.datasets, name, err)};
    if (!hold->dataset) {
        free(hold);
        return false;
    }
    *held = hold;
    return true;
}

void hold_give(struct jobs *jobs, struct hold *held, int64_t id)
{
    if (!held) return;
    held->id = id;
    LIST_INSERT_HEAD(&jobs->holds, held, link);
}

void hold_drop(struct jobs *jobs, struct hold *held)
{
    if (!held) return;
    datasets_release(jobs->options.datasets, held->dataset);
    free(held);
}

static struct hold *hold_of(const struct jobs *jobs, int64_t id)
{
    struct hold *held = LIST_FIRST(&jobs->holds);
    while (held && held->id != id) held = LIST_NEXT(held, link);
    return held;
}

void hold_release(struct jobs *jobs, int64_t id)
{
    struct hold *held = hold_of(jobs, id);
    if (!held) return;
    LIST_REMOVE(held, link);
    hold_drop(jobs, held);
}

void hold_release_all(struct jobs *jobs)
{
    while (!LIST_EMPTY(&jobs->holds)) {
        struct hold *held = LIST_FIRST(&jobs->holds);
        LIST_REMOVE(held, link);
        hold_drop(jobs, held);
    }
}

const struct stored_dataset *hold_find(const struct jobs *jobs, int64_t id)
{
    const struct hold *held = hold_of(jobs, id);
    return held ? held->dataset : NULL;
}
