/* The end of a run: its model is published, and the job's next state is decided and written. */
#include <stdlib.h>

#include "base/file.h"
#include "model/files/checkpoint.h"
#include "server/jobs/internal.h"

static bool settle_publish(struct jobs *jobs, const struct job_run *run, const struct job *job, struct error *err)
{
    const char *model = request_text(job->request, "model");
    char *path = path_join(state_dir_models(jobs->options.state), model, err);
    bool ok = path && state_dir_check_file(path, err) && checkpoint_copy(job_run_model(run), path, err);
    free(path);
    if (!ok || !jobs->options.published) return ok;
    const bool deploy = json_is_true(json_object_get(job->request, "deploy"));
    return jobs->options.published(jobs->options.context, model, deploy, err);
}

/* Decides what becomes of a job whose run is over. False: the model cannot be published yet. */
static bool settle_decide(struct active_job *active, const struct job *job, struct error *err)
{
    switch (job_run_end(active->run)) {
    case RUN_DONE:
        active->change = (struct job_change){.state = JOB_SUCCEEDED};
        if (settle_publish(active->jobs, active->run, job, err)) break;
        if (jobs_is_passing(err)) return false;
        active_decide_stop(active, err->code == ERROR_NO_SPACE, err->message);
        break;
    case RUN_INTERRUPTED:
        active->change = (struct job_change){.state = JOB_QUEUED};
        break;
    case RUN_NO_ROOM:
    case RUN_FAILED:
        active_decide_stop(active, job_run_end(active->run) == RUN_NO_ROOM, job_run_reason(active->run));
        break;
    }
    active->decided = true;
    return true;
}

/* Writes the next state of a job that runs for all that the store knows. */
static bool settle_running(struct active_job *active, const struct job *job, struct error *err)
{
    return (active->decided || settle_decide(active, job, err)) &&
           jobs_set_state(active->jobs, active->id, &active->change, err);
}

void jobs_settle(struct active_job *active)
{
    struct jobs *jobs = active->jobs;
    struct error err = {0}, cause = {0};
    struct job job;
    if (!store_get_job(jobs->store, active->id, &job, &err) && err.code != ERROR_NOT_FOUND) {
        active_warn_once(active, &err);
        return;
    }
    const bool gone = err.code == ERROR_NOT_FOUND, running = !gone && job.state == JOB_RUNNING;
    const bool settled = !running || settle_running(active, &job, &cause);
    const enum job_state state = running ? active->change.state : job.state;
    store_close_job(&job);
    if (!settled) {
        active_warn_once(active, &cause);
        return;
    }
    active->waits_for_room = running && active->change.waits_for_room;
    if (gone || job_is_final(state)) jobs_clear_away(jobs, active->id);
    if (!active->waits_for_room) active_drop(active);
}
