/* /generate: the prompt is checked and encoded, and all memory taken, before the request is queued; the connection is
 * suspended while the engine works; the answer is made by the HTTP thread.
 *
 * Encoding a prompt costs about as much as parsing the body it came in. Both happen in the HTTP thread where the body
 * is small, and in the worker where it is large (server/http.h), so neither waits behind a long prompt. */
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>

#include "server/answer.h"
#include "server/api.h"
#include "server/daemon.h"
#include "server/fields.h"

struct generate_fields {
    struct field_text prompt, model, label;
    uint64_t length, seed;
    double temperature;
    int unknown; /* index into unknown_choices */
};

static const char *const unknown_choices[] = {"skip", "error", NULL};

enum { ROW_PROMPT, ROW_LENGTH, ROW_TEMPERATURE, ROW_SEED, ROW_UNKNOWN, ROW_LABEL, ROW_MODEL, ROW_COUNT };

#define MEMBER(name) offsetof(struct generate_fields, name)

static const struct field rows[ROW_COUNT] = {
    [ROW_PROMPT] = {"prompt", FIELD_TEXT, MEMBER(prompt), 0, 0, NULL},
    [ROW_LENGTH] = {"length", FIELD_INTEGER, MEMBER(length), 1, 0, NULL}, /* at most limits.max_length */
    [ROW_TEMPERATURE] = {"temperature", FIELD_REAL, MEMBER(temperature), 0, 100, NULL},
    [ROW_SEED] = {"seed", FIELD_INTEGER, MEMBER(seed), 0, FIELDS_MAX_INTEGER, NULL},
    [ROW_UNKNOWN] = {"unknown", FIELD_CHOICE, MEMBER(unknown), 0, 0, unknown_choices},
    [ROW_LABEL] = {"label", FIELD_TEXT, MEMBER(label), 0, 0, NULL},
    [ROW_MODEL] = {"model", FIELD_TEXT, MEMBER(model), 0, 0, NULL},
};

#define DEFAULT_LENGTH 100

/* A request from its fields to its answer; released with the request. */
struct call {
    struct engine_job job; /* first: the engine gives it back */
    struct http_request *request;
    struct daemon *daemon;
    json_t *body; /* owns the texts of `fields` where they came from JSON */
    struct generate_fields fields;
};

static void release(void *context)
{
    struct call *call = context;
    generation_close(&call->job.generation);
    json_decref(call->body);
    free(call);
}

static uint64_t random_seed(void)
{
    uint64_t seed = 0;
    /* Cannot fail for so few bytes once the system is up; should it, 0 is a seed like any other. */
    if (getrandom(&seed, sizeof seed, 0) < 0) return 0;
    return seed & (uint64_t)FIELDS_MAX_INTEGER;
}

/* --- Checking --- */

static bool text_is(struct field_text text, const char *wanted)
{
    return strlen(wanted) == text.size && memcmp(text.data, wanted, text.size) == 0;
}

static bool check_model(const struct call *call, struct problem *problem)
{
    const struct field_text *model = &call->fields.model;
    const char *served = call->daemon->registry.model.name;
    if (!model->data || text_is(*model, served)) return true;
    return problem_add_field(problem, "model", "there is no such model; \"%s\" is served", served);
}

/* The label as the vocabulary spells it, or NULL; names the labels there are where the request's is none of them. */
static const char *check_label(const struct call *call, struct problem *problem)
{
    const struct vocabulary *vocabulary = call->daemon->registry.model.vocabulary;
    const struct field_text label = call->fields.label;
    const uint32_t count = vocabulary_label_count(vocabulary);
    if (!label.data) return NULL;
    char known[256] = "";
    for (uint32_t i = 0, used = 0; i < count; i++) {
        size_t n;
        const char *name = vocabulary_token(vocabulary, vocabulary_label(vocabulary, i), &n);
        if (text_is(label, name)) return name;
        if (used < sizeof known)
            used += (uint32_t)snprintf(known + used, sizeof known - used, "%s\"%s\"", i ? ", " : "", name);
    }
    if (count == 0)
        problem_add_field(problem, "label", "the model has no labels");
    else
        problem_add_field(problem, "label", "there is no such label; the model has %s", known);
    return NULL;
}

/* Encodes the prompt even where other fields are wrong, so that everything wrong is named at once. */
static void open_generation(struct call *call, struct problem *problem)
{
    const struct generate_fields *fields = &call->fields;
    const char *label = check_label(call, problem);
    if (!check_model(call, problem)) return;
    const struct generation_request wanted = {
        .prompt = fields->prompt.data ? fields->prompt.data : "",
        .prompt_bytes = fields->prompt.size,
        .label = label,
        .length = fields->length,
        .seed = fields->seed,
        .sampler = {.temperature = fields->temperature},
        .unknown_is_error = fields->unknown == 1,
    };
    const char *field = NULL;
    struct error err = {0};
    if (generation_open(&call->job.generation, call->daemon->registry.model.vocabulary, &wanted, &field, &err)) return;
    if (field && err.code == ERROR_INVALID)
        problem_add_field(problem, field, "%s", err.message);
    else
        problem_set_error(problem, &err);
}

/* --- The way through the engine --- */

static double milliseconds(uint64_t from, uint64_t to)
{
    return from && to > from ? (double)(to - from) * 1e-6 : 0;
}

static void finished(struct engine_job *job)
{
    http_request_resume(((struct call *)job)->request);
}

static void gone(void *context)
{
    struct call *call = context;
    engine_cancel(call->daemon->engine, &call->job);
}

static void reply_answer(struct call *call)
{
    const struct engine_job *job = &call->job;
    const struct generation *const generations[] = {&job->generation};
    const struct answer answer = {
        .id = http_request_id(call->request),
        .model = call->daemon->registry.model.name,
        .prompt = call->fields.prompt.data ? call->fields.prompt.data : "",
        .prompt_bytes = call->fields.prompt.size,
        .generations = generations,
        .count = 1,
        .seed = call->fields.seed,
        .queue_ms = milliseconds(job->submitted_ns, job->started_ns),
        .prompt_ms = milliseconds(job->started_ns, job->prompted_ns),
        .generate_ms = milliseconds(job->prompted_ns, job->finished_ns),
    };
    http_reply_header(call->request, "Cache-Control", "no-store");
    http_reply_json(call->request, 200, answer_build(&answer, NULL));
}

static void log_numbers(struct call *call)
{
    const struct engine_job *job = &call->job;
    const struct generation *generation = &job->generation;
    const size_t read = generation->fed < generation->prompt.count ? generation->fed : generation->prompt.count;
    const uint64_t started = job->started_ns ? job->started_ns : job->finished_ns;
    http_request_log(call->request, LOG_REAL("queue_ms", milliseconds(job->submitted_ns, started)));
    http_request_log(call->request, LOG_REAL("prompt_ms", milliseconds(job->started_ns, job->prompted_ns)));
    http_request_log(call->request, LOG_REAL("generate_ms", milliseconds(job->prompted_ns, job->finished_ns)));
    http_request_log(call->request, LOG_INTEGER("prompt_tokens", read));
    http_request_log(call->request, LOG_INTEGER("tokens", generation->produced));
}

static void resumed(struct http_request *request, void *context)
{
    struct call *call = context;
    log_numbers(call);
    struct problem problem = {0};
    switch (call->job.outcome) {
    case ENGINE_DONE:
        reply_answer(call);
        return;
    case ENGINE_CANCELLED:
        http_reply_nothing(request);
        return;
    case ENGINE_TIMEOUT:
        problem_set(&problem, 503, "the text was not finished within limits.request_timeout, %g s",
                    call->daemon->config->request_timeout);
        break;
    case ENGINE_STOPPED:
        problem_set(&problem, 503, "the daemon was shut down before the text was finished");
        break;
    }
    http_reply_problem(request, &problem);
    problem_close(&problem);
}

static enum http_outcome refuse(struct http_request *request, struct problem *problem)
{
    http_reply_header(request, "Cache-Control", "no-store");
    http_reply_problem(request, problem);
    problem_close(problem);
    return HTTP_REPLIED;
}

static enum http_outcome submit(struct call *call)
{
    struct http_request *request = call->request;
    struct error err = {0};
    call->job.finished = finished;
    call->job.use_cache = true;
    http_request_suspend(request, &(struct http_waiter){.resumed = resumed, .gone = gone, .context = call});
    if (engine_submit(call->daemon->engine, &(struct engine_job *){&call->job}, 1, &err)) return HTTP_LATER;
    struct problem problem = {0};
    problem_set_error(&problem, &err);
    refuse(request, &problem);
    http_request_resume(request);
    return HTTP_LATER;
}

/* body: NULL for a request that came as a query. */
static enum http_outcome generate(struct http_request *request, struct daemon *daemon, json_t *body,
                                  struct problem *problem)
{
    struct call *call = calloc(1, sizeof *call);
    if (!call) {
        json_decref(body);
        problem_set(problem, 503, "out of memory");
        return refuse(request, problem);
    }
    *call = (struct call){.request = request, .daemon = daemon, .body = body};
    http_request_on_release(request, release, call);

    struct field limited[ROW_COUNT];
    memcpy(limited, rows, sizeof rows);
    limited[ROW_LENGTH].maximum = (double)daemon->config->max_length;
    const struct field_table table = {limited, ROW_COUNT};
    call->fields.length =
        DEFAULT_LENGTH < daemon->config->max_length ? DEFAULT_LENGTH : (uint64_t)daemon->config->max_length;
    call->fields.temperature = 1;
    uint64_t given;
    if (body)
        fields_read_json(&table, &call->fields, body, &given, problem);
    else
        fields_read_query(&table, &call->fields, http_request_query(request), &given, problem);
    if (!(given & UINT64_C(1) << ROW_SEED)) call->fields.seed = random_seed();
    open_generation(call, problem);
    return problem->status ? refuse(request, problem) : submit(call);
}

static bool is_draining(struct daemon *daemon, struct problem *problem)
{
    if (!atomic_load(&daemon->draining)) return false;
    problem_set(problem, 503, "the daemon is shutting down");
    return true;
}

enum http_outcome api_generate_post(struct http_request *request, void *context)
{
    struct daemon *daemon = context;
    struct problem problem = {0};
    if (is_draining(daemon, &problem)) return refuse(request, &problem);
    if (http_request_query(request)->count > 0) {
        problem_set(&problem, 422, "POST /generate takes its fields from the body, not from the query string");
        return refuse(request, &problem);
    }
    size_t size;
    const char *text = http_request_body(request, &size);
    json_t *body = fields_parse_body(text, size, &problem);
    return body ? generate(request, daemon, body, &problem) : refuse(request, &problem);
}

enum http_outcome api_generate_get(struct http_request *request, void *context)
{
    struct daemon *daemon = context;
    struct problem problem = {0};
    if (is_draining(daemon, &problem)) return refuse(request, &problem);
    return generate(request, daemon, NULL, &problem);
}
