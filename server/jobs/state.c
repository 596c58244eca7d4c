/* A job's state: how it is written, who is told, and what an ended job leaves. */
#include <stdlib.h>

#include "base/file.h"
#include "base/log.h"
#include "server/jobs/internal.h"

const char *request_text(const json_t *request, const char *key)
{
    return json_string_value(json_object_get(request, key));
}

bool job_is_final(enum job_state state)
{
    return state == JOB_SUCCEEDED || state == JOB_FAILED || state == JOB_CANCELLED;
}

bool jobs_is_passing(const struct error *err)
{
    return err->code == ERROR_NO_MEMORY || err->code == ERROR_UNAVAILABLE;
}

char *jobs_path(const struct jobs *jobs, int64_t id, struct error *err)
{
    char name[JOB_ID_SIZE];
    job_id_print(id, name);
    return path_join(state_dir_jobs(jobs->options.state), name, err);
}

/* ---- listeners ---- */

void jobs_listen(struct jobs *jobs, struct job_listener *listener)
{
    LIST_INSERT_HEAD(&jobs->listeners, listener, link);
}

void jobs_forget(struct jobs *jobs, struct job_listener *listener)
{
    (void)jobs;
    LIST_REMOVE(listener, link);
}

void jobs_tell_listeners(struct jobs *jobs, int64_t id)
{
    struct job_listener *listener;
    LIST_FOREACH(listener, &jobs->listeners, link)
    if (id == 0 || listener->id == id) listener->told(listener);
}

/* ---- states ---- */

static void log_job_state(int64_t id, const struct job_change *change)
{
    char name[JOB_ID_SIZE];
    job_id_print(id, name);
    log_event(change->state == JOB_FAILED ? LOG_WARNING : LOG_INFO, "job", LOG_TEXT("job", name),
              LOG_TEXT("state", job_state_names[change->state]), LOG_TEXT("reason", change->reason));
}

bool jobs_set_state(struct jobs *jobs, int64_t id, const struct job_change *change, struct error *err)
{
    if (!store_set_state(jobs->store, id, change, err)) return false;
    log_job_state(id, change);
    if (job_is_final(change->state) && jobs->options.ended) jobs->options.ended(jobs->options.context, change->state);
    jobs_tell_listeners(jobs, id);
    return true;
}

void jobs_clear_away(struct jobs *jobs, int64_t id)
{
    char *path = jobs_path(jobs, id, NULL);
    if (path) directory_remove(path, NULL);
    free(path);
    hold_release(jobs, id);
}

bool jobs_fail(struct jobs *jobs, int64_t id, const char *reason, struct error *err)
{
    const struct job_change failed = {.state = JOB_FAILED, .reason = reason};
    if (!jobs_set_state(jobs, id, &failed, err)) return false;
    jobs_clear_away(jobs, id);
    return true;
}
