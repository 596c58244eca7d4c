/* The start of a job: its files are laid into its directory, then its run begins. */
#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "base/file.h"
#include "model/files/checkpoint.h"
#include "server/jobs/internal.h"

#define TEXT_FILE "corpus.txt" /* the corpus that came with the request */
#define INIT      "init"       /* the model that is fine-tuned */

static const struct job_figures no_figures = {"", NAN, NAN, NAN, NAN, NAN};

/* The attempt to start one job: what its steps share. */
struct job_start {
    struct jobs *jobs;
    struct active_job *active;
    const struct run_callbacks *callbacks;
    struct job job;
    char *directory;
};

/* Writes the corpus that came with the request into a file; its path, free() it. */
static char *start_write_text(const struct job_start *start, struct error *err)
{
    char *path = path_join(start->directory, TEXT_FILE, err);
    char *text = path ? store_job_text(start->jobs->store, start->job.id, err) : NULL;
    const bool ok = text && file_publish(path, text, strlen(text), err);
    free(text);
    if (ok) return path;
    free(path);
    return NULL;
}

/* The path of what the job trains on; free() it. */
static char *start_find_data(const struct job_start *start, struct error *err)
{
    const char *dataset = request_text(start->job.request, "dataset");
    if (!dataset) return start_write_text(start, err);
    char *place = path_join(state_dir_datasets(start->jobs->options.state), dataset, err), *path = NULL;
    if (place && state_dir_check_entry(place, err)) {
        path = strdup(hold_find(start->jobs, start->job.id)->path);
        if (!path) error_set_no_memory(err, 0, "a path");
    }
    free(place);
    return path;
}

/* Copies the model that is fine-tuned, so that a resumed run reads the same one. *init: the path of the copy, free()
 * it; NULL: there is none. */
static bool start_copy_init(const struct job_start *start, char **init, struct error *err)
{
    const struct jobs_options *options = &start->jobs->options;
    const char *name = request_text(start->job.request, "init_from");
    *init = NULL;
    if (!name) return true;
    *init = path_join(start->directory, INIT, err);
    struct stat there;
    if (*init && stat(*init, &there) == 0) return true;
    char *from = *init ? options->find_model(options->context, name, err) : NULL;
    const bool ok = from && checkpoint_copy(from, *init, err);
    free(from);
    return ok;
}

static struct job_run *start_new_run(const struct job_start *start, const char *data, const char *init,
                                     struct error *err)
{
    char name[JOB_ID_SIZE];
    job_id_print(start->job.id, name);
    const struct run_order order = {.name = name,
                                    .directory = start->directory,
                                    .init_from = init,
                                    .request = start->job.request,
                                    .progress = start->job.progress,
                                    .data = data,
                                    .snapshot_seconds = start->jobs->options.snapshot_seconds,
                                    .clerk = start->jobs->clerk,
                                    .told = start->callbacks->told,
                                    .ended = start->callbacks->ended,
                                    .context = start->active};
    return job_run_new(&order, err);
}

/* First takes all that a run needs, then promises in the store that it runs: after that nothing can fail. */
static bool start_run(const struct job_start *start, struct error *err)
{
    static const struct job_change running = {.state = JOB_RUNNING};
    char *init = NULL, *data = NULL;
    struct job_run *run = NULL;
    if (state_dir_check_entry(start->directory, err) && start_copy_init(start, &init, err) &&
        (data = start_find_data(start, err)))
        run = start_new_run(start, data, init, err);
    free(data);
    free(init);
    if (!run) return false;
    if (!jobs_set_state(start->jobs, start->job.id, &running, err)) {
        job_run_free(run);
        return false;
    }
    start->active->run = run;
    job_run_start(run);
    return true;
}

/* Pauses a job that the disk has no room for, before it begins to fill it. */
static bool start_pause(const struct job_start *start, uint64_t needed, struct error *err)
{
    struct active_job *active = start->active;
    char reason[ERROR_MESSAGE_SIZE];
    snprintf(
        reason, sizeof reason,
        "No space left on device: while it trains on this dataset it takes %.1f MB of the disk, and %.1f MB are free",
        (double)needed * 1e-6, (double)room_free(start->jobs) * 1e-6);
    active_decide_stop(active, true, reason);
    if (!jobs_set_state(start->jobs, active->id, &active->change, err)) return false;
    active->room_needed = needed;
    active->over = active->decided = true;
    active->waits_for_room = true;
    return true;
}

static bool start_make_directory(const char *path, struct error *err)
{
    return mkdir(path, 0700) == 0 || errno == EEXIST ||
           error_set_errno(err, errno, "%s: cannot make this directory", path);
}

static bool start_read_job(struct job_start *start, int64_t id, struct error *err)
{
    start->directory = jobs_path(start->jobs, id, err);
    return start->directory && start_make_directory(start->directory, err) &&
           store_get_job(start->jobs->store, id, &start->job, err);
}

bool jobs_start(struct jobs *jobs, int64_t id, const struct run_callbacks *callbacks, struct error *err)
{
    struct active_job *active = calloc(1, sizeof *active);
    if (!active) return error_set_no_memory(err, sizeof *active, "a job");
    struct job_start start = {.jobs = jobs, .active = active, .callbacks = callbacks};
    bool done = start_read_job(&start, id, err);
    if (done) {
        *active = (struct active_job){.id = id, .jobs = jobs, .figures = no_figures};
        snprintf(active->figures.model, sizeof active->figures.model, "%s", request_text(start.job.request, "model"));
        const uint64_t needed = room_needed(hold_find(jobs, id), start.job.request);
        done = needed > room_free(jobs) ? start_pause(&start, needed, err) : start_run(&start, err);
    }
    if (done)
        active_add(jobs, active);
    else
        free(active);
    store_close_job(&start.job);
    free(start.directory);
    return done;
}
