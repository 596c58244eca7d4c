#include "server/api/completion.h"

#include <stdlib.h>
#include <time.h>

#include "base/clock.h"
#include "model/generate/answer.h"
#include "server/api/completion_internal.h"

void completion_unref(struct completion *completion)
{
    if (atomic_fetch_sub(&completion->references, 1) > 1) return;
    for (size_t i = 0; i < completion->count; i++) generation_close(&completion->parts[i].job.generation);
    for (size_t i = 0; i < completion->prompt_count; i++) {
        free(completion->prompts[i].ids);
        free(completion->prompts[i].own_text);
    }
    free(completion->prompts);
    free(completion->choices);
    for (size_t i = 0; i < completion->pattern_count; i++) pattern_free(completion->patterns[i]);
    free(completion->patterns);
    completion_free_states(completion);
    json_decref(completion->fields.prompt);
    json_decref(completion->fields.choices);
    json_decref(completion->fields.logit_bias);
    json_decref(completion->fields.stream_options);
    json_decref(completion->body);
    free(completion->bias);
    free(completion->parts);
    free(completion->answer);
    json_writer_close(&completion->event);
    registry_release(completion->served);
    free(completion);
}

static void completion_released(void *context)
{
    completion_unref(context);
}

struct completion *completion_new(struct http_request *request, struct services *services,
                                  const struct completion_dialect *dialect, json_t *body)
{
    struct completion *completion = calloc(1, sizeof *completion);
    if (!completion) {
        json_decref(body);
        return NULL;
    }
    const uint64_t most = (uint64_t)services->config->max_length;
    completion->request = request;
    completion->services = services;
    completion->dialect = dialect;
    completion->body = body;
    completion->created = (int64_t)time(NULL);
    completion->fields = (struct completion_fields){
        .length = COMPLETION_DEFAULT_LENGTH < most ? COMPLETION_DEFAULT_LENGTH : most,
        .n = 1,
        .sampler = sampler_options_default(),
        .cache_prompt = true,
    };
    atomic_init(&completion->references, 1);
    http_request_on_release(request, completion_released, completion);
    return completion;
}

enum http_outcome completion_refuse(struct http_request *request, struct problem *problem)
{
    http_reply_header(request, "Cache-Control", "no-store");
    http_reply_problem(request, problem);
    problem_close(problem);
    return HTTP_REPLIED;
}

bool completion_is_draining(struct http_request *request, const struct services *services)
{
    struct problem problem = {0};
    if (!atomic_load(&services->draining)) return false;
    problem_set(&problem, 503, "the daemon is shutting down");
    completion_refuse(request, &problem);
    return true;
}

struct served *completion_acquire(const struct services *services, const struct field_text *model,
                                  struct problem *problem)
{
    struct error err = {0};
    struct served *served = registry_acquire(services->registry, model->data, model->size, &err);
    if (!served && err.code == ERROR_NOT_FOUND)
        problem_add_field(problem, "model", "%s", err.message);
    else if (!served)
        problem_set_error(problem, &err);
    return served;
}

void completion_end_session(struct completion *completion, bool keep, uint32_t pending)
{
    if (!completion->session) return;
    sessions_end(completion->services->sessions, completion->session, keep, pending, clock_monotonic_ns());
    completion->session = NULL;
}

void completion_cancel(struct completion *completion)
{
    atomic_store(&completion->left, true);
    if (!atomic_load(&completion->prepared)) return; /* completion_run.c looks at `left` behind it */
    for (size_t i = 0; i < completion->count; i++) engine_cancel(completion->served->engine, &completion->parts[i].job);
}

static double milliseconds(uint64_t from, uint64_t to)
{
    return from && to > from ? (double)(to - from) * 1e-6 : 0;
}

const char *completion_warning(const struct completion *completion)
{
    static const char lost_session[] = "the session started afresh: its model was replaced since its last request";
    return completion->session_lost ? lost_session : NULL;
}

/* Times are those of the parts: of all for a whole answer, of one for the end of a stream's choice. */
void completion_describe(const struct completion *completion, size_t first, size_t count, struct answer *answer)
{
    const struct completion_fields *fields = &completion->fields;
    const struct engine_job *job = &completion->parts[first].job;
    const size_t parts = count == completion->shown ? completion->count : count;
    uint64_t end = 0;
    for (size_t i = 0; i < parts; i++) {
        const struct engine_job *one = &completion->parts[first + i].job;
        if (one->finished_ns > end) end = one->finished_ns;
    }
    *answer = (struct answer){
        .id = http_request_id(completion->request),
        .model = completion->served->model.name,
        .warning = completion_warning(completion),
        .choices = completion->choices + first,
        .count = count,
        .has_prompts = completion->has_prompts,
        .has_no_seed = completion_draws_on(completion),
        .owner = fields->return_state ? &completion->owner : NULL,
        .queue_ms = milliseconds(job->submitted_ns, job->started_ns),
        .prompt_ms = milliseconds(job->started_ns, job->prompted_ns),
        .generate_ms = milliseconds(job->prompted_ns, end),
    };
}

/* Times are those of the first continuation; a job that is still in the engine has only its tokens so far. */
void completion_log(struct completion *completion)
{
    struct http_request *request = completion->request;
    const struct completion_part *first = completion->parts;
    size_t tokens = 0;
    for (size_t i = 0; i < completion->count; i++) {
        const struct completion_part *part = &completion->parts[i];
        tokens += atomic_load(&part->over) ? part->job.generation.produced : atomic_load(&part->tokens_ready);
    }
    if (completion->count > 0 && atomic_load(&first->over)) {
        const struct engine_job *job = &first->job;
        const struct generation *generation = &job->generation;
        const size_t read = generation->fed < generation->prompt.count ? generation->fed : generation->prompt.count;
        const uint64_t started = job->started_ns ? job->started_ns : job->finished_ns;
        http_request_log(request, LOG_REAL("queue_ms", milliseconds(job->submitted_ns, started)));
        http_request_log(request, LOG_REAL("prompt_ms", milliseconds(job->started_ns, job->prompted_ns)));
        http_request_log(request, LOG_REAL("generate_ms", milliseconds(job->prompted_ns, job->finished_ns)));
        http_request_log(request, LOG_INTEGER("prompt_tokens", read));
        http_request_log(request, LOG_INTEGER("cached_tokens", generation->cached));
    }
    http_request_log(request, LOG_INTEGER("tokens", tokens));
}

/* Whether a job that ran out of time had a slot before. */
static bool has_begun(const struct completion *completion)
{
    for (size_t i = 0; i < completion->count; i++) {
        const struct completion_part *part = &completion->parts[i];
        if (atomic_load(&part->over) && part->job.outcome == ENGINE_TIMEOUT && part->job.started_ns) return true;
    }
    return false;
}

void completion_set_failure(const struct completion *completion, enum engine_outcome outcome, struct problem *problem)
{
    if (outcome == ENGINE_TIMEOUT)
        problem_set_timeout(problem, "the text was not finished", completion->services->config->request_timeout,
                            has_begun(completion));
    else
        problem_set(problem, 503, "the daemon was shut down before the text was finished");
}
