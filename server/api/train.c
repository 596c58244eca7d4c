/* /train: jobs. The clerk of server/jobs/jobs.h runs every handler, so what a handler finds does not change meanwhile.
 */
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/json.h"
#include "base/sha256.h"
#include "server/api/api.h"
#include "server/api/completion.h"
#include "server/api/fields.h"
#include "server/api/later.h"
#include "server/api/text_reply.h"
#include "server/api/train.h"

#define KEY_MAX      128 /* bytes of an Idempotency-Key */
#define LIST_MAX     200
#define LIST_DEFAULT 50

enum http_outcome train_refuse(struct http_request *request, struct problem *problem)
{
    http_reply_problem(request, problem);
    problem_close(problem);
    return HTTP_REPLIED;
}

enum http_outcome train_refuse_error(struct http_request *request, const struct error *err)
{
    struct problem problem = {0};
    problem_set_error(&problem, err);
    return train_refuse(request, &problem);
}

enum http_outcome train_later(struct http_request *request, struct services *services, http_handler *handler)
{
    struct error err = {0};
    if (!state_dir_require(services->state, &err) || !jobs_require_open(services->jobs, &err))
        return train_refuse_error(request, &err);
    return later(jobs_clerk(services->jobs), request, handler, services);
}

bool train_job_id(struct http_request *request, int64_t *id)
{
    struct problem problem = {0};
    if (job_id_parse(http_request_parameter(request), id)) return true;
    problem_set(&problem, 404, "there is no such job");
    train_refuse(request, &problem);
    return false;
}

/* ---- what a job looks like ---- */

static json_t *text_or_null(const char *text)
{
    return *text ? json_string(text) : json_null();
}

static json_t *reference_or_null(json_t *json)
{
    return json ? json_incref(json) : json_null();
}

/* Without notes, samples and options. NULL without memory. */
static json_t *train_describe(const struct job *job)
{
    char name[JOB_ID_SIZE];
    json_t *request = job->request;
    const bool failed = job->state == JOB_FAILED;
    job_id_print(job->id, name);
    return json_pack("{s:s, s:s, s:o, s:o, s:O, s:O, s:O, s:O, s:s, s:o, s:o, s:o}", "id", name, "state",
                     job_state_names[job->state], "reason", failed ? json_null() : text_or_null(job->reason), "error",
                     failed ? text_or_null(job->reason) : json_null(), "model", json_object_get(request, "model"),
                     "dataset", json_object_get(request, "dataset"), "init_from", json_object_get(request, "init_from"),
                     "deploy", json_object_get(request, "deploy"), "created", job->created, "started",
                     text_or_null(job->started), "finished", text_or_null(job->finished), "progress",
                     reference_or_null(job->progress));
}

/* The text of a whole job, the caller's; NULL with the error. */
static char *print_job(struct jobs *jobs, int64_t id, size_t *size, struct error *err)
{
    struct job job;
    if (!jobs_get(jobs, id, &job, err)) return NULL;
    struct store *store = jobs_store(jobs);
    json_t *json = train_describe(&job);
    char *text = NULL;
    if (json_object_set_new(json, "notes", store_notes(store, id, err)) == 0 &&
        json_object_set_new(json, "samples", store_samples(store, id, err)) == 0 &&
        json_object_set(json, "options", json_object_get(job.request, "options")) == 0)
        text = json_text_print_line(json, JSON_COMPACT | JSON_REAL_PRECISION(15), size, err);
    if (!text) error_set_no_memory(err, 0, "a job");
    json_decref(json);
    store_close_job(&job);
    return text;
}

static enum http_outcome reply_job(struct http_request *request, struct jobs *jobs, int64_t id, int status)
{
    struct error err = {0};
    size_t size;
    char *text = print_job(jobs, id, &size, &err);
    if (!text) return train_refuse_error(request, &err);
    http_reply_header(request, "Cache-Control", "no-store");
    http_reply(request, status, "application/json", text, size, HTTP_TAKEN);
    return HTTP_REPLIED;
}

/* ---- POST /train ---- */

static bool check_key(const char *key, struct problem *problem)
{
    const size_t n = strlen(key);
    bool good = n > 0 && n <= KEY_MAX;
    for (size_t i = 0; i < n; i++) good = good && key[i] > ' ' && key[i] < 127;
    return good || problem_add_field(problem, "Idempotency-Key", "has 1 to %d visible ASCII characters", KEY_MAX);
}

/* Equal documents have equal hashes, however their text is laid out. */
static bool hash_body(const json_t *body, char hash[SHA256_TEXT_SIZE])
{
    size_t n;
    char *text = json_text_print(body, JSON_COMPACT | JSON_SORT_KEYS, &n, NULL);
    if (!text) return false;
    sha256_text(text, n, hash);
    free(text);
    return true;
}

static bool reply_accepted(struct http_request *request, struct jobs *jobs, int64_t id, struct error *err)
{
    const size_t most = sizeof "/train/" + JOB_ID_SIZE;
    char name[JOB_ID_SIZE], *location = malloc(most);
    size_t size;
    if (!location) return error_set_no_memory(err, most, "an answer");
    job_id_print(id, name);
    snprintf(location, most, "/train/%s", name);
    char *text = print_job(jobs, id, &size, err);
    if (!text) {
        free(location);
        return false;
    }
    http_request_on_release(request, free, location);
    http_reply_header(request, "Location", location);
    http_reply_header(request, "Cache-Control", "no-store");
    http_reply(request, 202, "application/json", text, size, HTTP_TAKEN);
    return true;
}

/* A client sends a failed request again. So a new job is taken back if there is no memory for its answer. */
static void accept_job(struct http_request *request, struct jobs *jobs, int64_t id, bool added, struct problem *problem)
{
    struct error err = {0}, kept = {0};
    char name[JOB_ID_SIZE];
    if (!reply_accepted(request, jobs, id, &err) && added && !jobs_withdraw(jobs, id, &kept)) {
        job_id_print(id, name);
        error_add_context(&err, "job %s is queued, but", name);
    }
    if (err.code) problem_set_error(problem, &err);
    jobs_schedule(jobs);
}

/* Finds the job that the key began: *id, or 0. False with the problem: the key came with another body. */
static bool find_earlier(struct jobs *jobs, const char *key, const char *hash, int64_t *id, struct problem *problem)
{
    char known[SHA256_TEXT_SIZE] = "", name[JOB_ID_SIZE];
    struct error err = {0};
    if (!store_find_key(jobs_store(jobs), key, id, known, &err)) return problem_set_error(problem, &err);
    if (*id == 0 || strcmp(hash, known) == 0) return true;
    job_id_print(*id, name);
    return problem_set(problem, 409, "this Idempotency-Key belongs to job %s, which another body began", name);
}

static void add_job(struct http_request *request, struct services *services, const json_t *body, const char *key,
                    struct problem *problem)
{
    char hash[SHA256_TEXT_SIZE];
    struct train_request wanted;
    struct error err = {0};
    int64_t id = 0;
    bool added = false;
    if (key && !hash_body(body, hash)) {
        problem_set(problem, 503, "out of memory");
        return;
    }
    if (key && !find_earlier(services->jobs, key, hash, &id, problem)) return;
    if (id == 0 && train_request_read(services, body, &wanted, problem)) {
        const struct job_order order = {
            .request = wanted.request, .text = wanted.text, .key = key, .hash = key ? hash : NULL};
        added = jobs_add(services->jobs, &order, &id, &err);
        if (!added) problem_set_error(problem, &err);
        json_decref(wanted.request);
    }
    if (!problem->status) accept_job(request, services->jobs, id, added, problem);
}

static enum http_outcome train_post(struct http_request *request, void *context)
{
    struct problem problem = {0};
    size_t size;
    const char *text = http_request_body(request, &size), *key = http_request_header(request, "Idempotency-Key");
    json_t *body = fields_parse_body(text, size, &problem);
    if (body && (!key || check_key(key, &problem))) add_job(request, context, body, key, &problem);
    json_decref(body);
    return problem.status ? train_refuse(request, &problem) : HTTP_REPLIED;
}

enum http_outcome api_train_post(struct http_request *request, void *context)
{
    if (completion_is_draining(request, context)) return HTTP_REPLIED;
    return train_later(request, context, train_post);
}

/* ---- GET /train ---- */

struct list_fields {
    int state;
    uint64_t limit;
    struct field_text after;
};

#define MEMBER(name) offsetof(struct list_fields, name)

static const struct field list_rows[] = {
    {"state", FIELD_CHOICE, MEMBER(state), 0, 0, job_state_names, 0},
    {"limit", FIELD_INTEGER, MEMBER(limit), 1, LIST_MAX, NULL, 0},
    {"after", FIELD_TEXT, MEMBER(after), 0, 0, NULL, 0},
};
static const struct field_table list_table = {list_rows, sizeof list_rows / sizeof *list_rows};

#define PAGE_JOBS 8 /* that are read at once; a piece of the answer */

/* A list that is being written, in the clerk's thread. */
struct jobs_listing {
    struct jobs *jobs;
    struct json_writer *out; /* of the page that is being read */
    enum job_state state;
    int64_t before; /* the job that was written last */
    size_t left, page;
    bool begun;
};

static bool write_job(void *context, const struct job *job)
{
    struct jobs_listing *listing = context;
    if (listing->begun) json_write_literal(listing->out, ",");
    text_write_json(listing->out, train_describe(job));
    listing->before = job->id;
    listing->begun = true;
    listing->page++;
    return true;
}

static enum text_state write_page(void *context, struct json_writer *out, struct error *err)
{
    struct jobs_listing *listing = context;
    const size_t most = listing->left < PAGE_JOBS ? listing->left : PAGE_JOBS;
    listing->out = out;
    listing->page = 0;
    if (!listing->begun) json_write_literal(out, "{\"jobs\":[");
    const struct job_filter filter = {.state = listing->state, .before = listing->before, .limit = most};
    if (!store_list_jobs(jobs_store(listing->jobs), &filter, write_job, listing, err)) return TEXT_BROKEN;
    listing->left -= listing->page;
    if (listing->page == most && listing->left > 0) return TEXT_MORE;
    json_write_literal(out, "]}\n");
    return TEXT_END;
}

static enum http_outcome train_list(struct http_request *request, void *context)
{
    struct services *services = context;
    struct list_fields fields = {.state = JOB_STATES, .limit = LIST_DEFAULT};
    struct problem problem = {0};
    int64_t before = 0;
    fields_read_query(&list_table, &fields, http_request_query(request), NULL, &problem);
    if (fields.after.data && !job_id_parse(fields.after.data, &before))
        problem_add_field(&problem, "after", "must be the id of a job");
    struct jobs_listing *listing = problem.status ? NULL : malloc(sizeof *listing);
    if (!listing) {
        problem_set(&problem, 503, "out of memory");
        return train_refuse(request, &problem);
    }
    *listing = (struct jobs_listing){
        .jobs = services->jobs, .state = (enum job_state)fields.state, .before = before, .left = (size_t)fields.limit};
    http_reply_header(request, "Cache-Control", "no-store");
    text_reply(request, 200, "application/json",
               &(struct text_source){
                   .write = write_page, .release = free, .context = listing, .worker = jobs_clerk(services->jobs)});
    return HTTP_REPLIED;
}

enum http_outcome api_train_list(struct http_request *request, void *context)
{
    return train_later(request, context, train_list);
}

/* ---- one job ---- */

static enum http_outcome train_get(struct http_request *request, void *context)
{
    int64_t id;
    if (!train_job_id(request, &id)) return HTTP_REPLIED;
    return reply_job(request, ((struct services *)context)->jobs, id, 200);
}

enum http_outcome api_train_get(struct http_request *request, void *context)
{
    return train_later(request, context, train_get);
}

static enum http_outcome train_act(struct http_request *request, struct services *services, enum job_action action)
{
    int64_t id;
    struct error err = {0};
    if (!train_job_id(request, &id)) return HTTP_REPLIED;
    if (!jobs_act(services->jobs, id, action, &err)) return train_refuse_error(request, &err);
    if (action != JOB_DELETE) return reply_job(request, services->jobs, id, 200);
    http_reply(request, 204, NULL, "", 0, HTTP_BORROWED);
    return HTTP_REPLIED;
}

#define ACTION(name, action)                                                                                           \
    static enum http_outcome name(struct http_request *request, void *context)                                         \
    {                                                                                                                  \
        return train_act(request, context, action);                                                                    \
    }                                                                                                                  \
    enum http_outcome api_train_##name(struct http_request *request, void *context)                                    \
    {                                                                                                                  \
        return train_later(request, context, name);                                                                    \
    }

ACTION(pause, JOB_PAUSE)
ACTION(resume, JOB_RESUME)
ACTION(cancel, JOB_CANCEL)
ACTION(delete, JOB_DELETE)
