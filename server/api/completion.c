/* Encoding a prompt costs about as much as parsing the body it came in. Both happen in the HTTP thread where the body
 * is small, and in the worker where it is large (server/http/http.h), so neither waits behind a long prompt. */
#include "server/api/completion.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <time.h>

#include "base/clock.h"
#include "server/api/answer.h"
#include "server/api/text_reply.h"

static void drop_reference(struct completion *completion)
{
    if (atomic_fetch_sub(&completion->references, 1) > 1) return;
    for (size_t i = 0; i < completion->count; i++) generation_close(&completion->parts[i].job.generation);
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

static void release(void *context)
{
    drop_reference(context);
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
        .temperature = 1,
        .top_p = 1,
        .repetition_penalty = 1,
        .repetition_window = SAMPLER_REPETITION_WINDOW,
        .cache_prompt = true,
    };
    atomic_init(&completion->references, 1);
    http_request_on_release(request, release, completion);
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

/* --- Checking --- */

static uint64_t random_seed(void)
{
    uint64_t seed = 0;
    /* Cannot fail for so few bytes once the system is up; should it, 0 is a seed like any other. */
    if (getrandom(&seed, sizeof seed, 0) < 0) return 0;
    return seed & (uint64_t)FIELDS_MAX_INTEGER;
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

static bool check_prompt(const struct completion *completion, struct problem *problem)
{
    const size_t size = completion->fields.prompt.size, most = (size_t)completion->services->config->max_prompt;
    return size <= most || problem_add_field(problem, "prompt", "has %zu bytes; limits.max_prompt is %zu", size, most);
}

/* Finds the label as the vocabulary spells it; names the labels there are where the request's is none of them. */
static void check_label(struct completion *completion, struct problem *problem)
{
    const struct vocabulary *vocabulary = completion->served->model.vocabulary;
    const struct field_text label = completion->fields.label;
    const uint32_t count = vocabulary_label_count(vocabulary);
    char known[256] = "";
    for (uint32_t i = 0, used = 0; label.data && i < count; i++) {
        size_t n;
        const char *name = vocabulary_token(vocabulary, vocabulary_label(vocabulary, i), &n);
        if (n == label.size && memcmp(name, label.data, n) == 0) {
            completion->label = name;
            return;
        }
        if (used < sizeof known)
            used += (uint32_t)snprintf(known + used, sizeof known - used, "%s\"%s\"", i ? ", " : "", name);
    }
    if (!label.data) return;
    if (count == 0)
        problem_add_field(problem, "label", "the model has no labels");
    else
        problem_add_field(problem, "label", "there is no such label; the model has %s", known);
}

static bool add_bias(struct completion *completion, const char *name, size_t size, const json_t *value,
                     struct problem *problem)
{
    struct error err = {0};
    uint32_t id;
    if (!completion->dialect->find_token(completion->served->model.vocabulary, name, size, &id, &err)) {
        if (err.code != ERROR_INVALID) return problem_set_error(problem, &err);
        return problem_add_field(problem, "logit_bias", "%s", err.message);
    }
    const double bias = json_number_value(value);
    if (!json_is_number(value) || !(bias >= -SAMPLER_MAX_BIAS && bias <= SAMPLER_MAX_BIAS))
        return problem_add_field(problem, "logit_bias", "\"%.*s\" must have a number from %g to %g",
                                 (int)(size < 64 ? size : 64), name, -SAMPLER_MAX_BIAS, SAMPLER_MAX_BIAS);
    completion->bias[completion->bias_count++] = (struct logit_bias){id, (float)bias};
    return true;
}

static void check_bias(struct completion *completion, struct problem *problem)
{
    json_t *object = completion->fields.logit_bias;
    const size_t count = json_object_size(object);
    if (count == 0) return;
    completion->bias = calloc(count, sizeof *completion->bias);
    if (!completion->bias) {
        problem_set(problem, 503, "out of memory");
        return;
    }
    for (void *at = json_object_iter(object); at; at = json_object_iter_next(object, at))
        add_bias(completion, json_object_iter_key(at), json_object_iter_key_len(at), json_object_iter_value(at),
                 problem);
}

/* Takes the session last of all, so that nothing that is wrong with the request can leave it busy. */
static bool begin_session(struct completion *completion, struct problem *problem)
{
    const struct field_text *name = &completion->fields.session;
    if (!name->data) return true;
    if (completion->fields.n > 1) return problem_add_field(problem, "session", "goes on with one text: n must be 1");
    if (problem->status) return true;
    const struct served *served = completion->served;
    if (served->stepper.architecture.window.size > 0)
        return problem_add_field(
            problem, "session", "this model keeps no state: it sees the last %u tokens; send the text so far as prompt",
            served->stepper.architecture.window.size);
    struct error err = {0};
    completion->session = sessions_begin(completion->services->sessions, served->name_id, served->version, name->data,
                                         name->size, served->stepper.state_size, clock_monotonic_ns(), &err);
    completion->session_lost = completion->session && session_was_lost(completion->session);
    if (completion->session) return true;
    return err.code == ERROR_INVALID ? problem_add_field(problem, "session", "%s", err.message)
                                     : problem_set_error(problem, &err);
}

static void end_session(struct completion *completion, bool keep, uint32_t pending)
{
    if (!completion->session) return;
    sessions_end(completion->services->sessions, completion->session, keep, pending, clock_monotonic_ns());
    completion->session = NULL;
}

/* --- The way through the engine --- */

static struct sampler_options sampler_options(const struct completion *completion)
{
    const struct completion_fields *fields = &completion->fields;
    return (struct sampler_options){
        .temperature = fields->temperature,
        .top_k = fields->top_k,
        .top_p = fields->top_p,
        .min_p = fields->min_p,
        .repetition_penalty = fields->repetition_penalty,
        .presence_penalty = fields->presence_penalty,
        .frequency_penalty = fields->frequency_penalty,
        .repetition_window = fields->repetition_window,
        .counts_written = completion->dialect->counts_written,
        .bias = completion->bias,
        .bias_count = completion->bias_count,
    };
}

static bool open_part(struct completion *completion, size_t i, const struct generation_request *wanted,
                      struct problem *problem)
{
    const char *field = NULL;
    struct error err = {0};
    struct generation_request own = *wanted;
    own.seed = generation_seed(completion->fields.seed, i);
    if (generation_open(&completion->parts[i].job.generation, completion->served->model.vocabulary, &own, &field, &err))
        return true;
    if (!field || err.code != ERROR_INVALID) return problem_set_error(problem, &err);
    if (strcmp(field, "length") == 0) field = completion->dialect->length_field;
    return problem_add_field(problem, field, "%s", err.message);
}

static bool open_parts(struct completion *completion, struct problem *problem)
{
    const struct completion_fields *fields = &completion->fields;
    const bool continues = completion->session && !session_is_fresh(completion->session);
    struct text_span stop[FIELD_MAX_TEXTS];
    for (size_t i = 0; i < fields->stop.count; i++)
        stop[i] = (struct text_span){fields->stop.items[i].data, fields->stop.items[i].size};
    const struct generation_request wanted = {
        .prompt = fields->prompt.data ? fields->prompt.data : "",
        .prompt_bytes = fields->prompt.size,
        .label = completion->label,
        .length = fields->length,
        .sampler = sampler_options(completion),
        .unknown_is_error = fields->unknown == 1,
        .continues = continues,
        .pending = continues ? session_pending(completion->session) : 0,
        .stop = stop,
        .stop_count = fields->stop.count,
        .window = completion->served->stepper.architecture.window,
        .ignore_eos = fields->ignore_eos,
        .logprobs = fields->logprobs,
        .kernels = completion->served->stepper.kernels,
    };
    completion->parts = calloc(fields->n, sizeof *completion->parts);
    if (!completion->parts) return problem_set(problem, 503, "out of memory");
    completion->count = fields->n;
    for (size_t i = 0; i < completion->count; i++)
        if (!open_part(completion, i, &wanted, problem)) return false;
    return true;
}

/* The engine's thread. The stores are in the order that makes a byte's token known before the byte is. */
static void progressed(struct engine_job *job)
{
    struct completion_part *part = (struct completion_part *)job;
    const struct generation *generation = &job->generation;
    atomic_store_explicit(&part->tokens_ready, generation->tokens_ready, memory_order_release);
    if (atomic_load_explicit(&part->text_ready, memory_order_relaxed) == generation->text_ready) return;
    atomic_store_explicit(&part->text_ready, generation->text_ready, memory_order_release);
    http_stream_wake(&part->completion->stream);
}

static double seconds(uint64_t from, uint64_t to)
{
    return (double)(to - from) * 1e-9;
}

static void count(struct metrics *metrics, const struct engine_job *job)
{
    static const enum metrics_counter finishes[] = {
        [FINISH_LENGTH] = METRICS_ENDED_LENGTH, [FINISH_EOS] = METRICS_ENDED_EOS, [FINISH_STOP] = METRICS_ENDED_STOP};
    static const enum metrics_counter outcomes[] = {[ENGINE_CANCELLED] = METRICS_ENDED_CANCELLED,
                                                    [ENGINE_TIMEOUT] = METRICS_ENDED_TIMEOUT,
                                                    [ENGINE_STOPPED] = METRICS_ENDED_STOPPED};
    const struct generation *generation = &job->generation;
    metrics_add(metrics, job->outcome == ENGINE_DONE ? finishes[generation->finish] : outcomes[job->outcome], 1);
    if (!job->started_ns) return;
    metrics_add(metrics, METRICS_PROMPT_TOKENS,
                generation->fed < generation->prompt.count ? generation->fed : generation->prompt.count);
    metrics_add(metrics, METRICS_CACHED_TOKENS, generation->cached);
    metrics_add(metrics, METRICS_COMPLETION_TOKENS, generation->produced);
    metrics_observe(metrics, METRICS_QUEUE, seconds(job->submitted_ns, job->started_ns));
    metrics_observe(metrics, METRICS_GENERATION, seconds(job->submitted_ns, job->finished_ns));
    if (!job->first_ns) return;
    metrics_observe(metrics, METRICS_FIRST_TOKEN, seconds(job->submitted_ns, job->first_ns));
    if (generation->produced > 1)
        metrics_observe(metrics, METRICS_TOKEN,
                        seconds(job->first_ns, job->finished_ns) / (double)(generation->produced - 1));
}

/* The engine's thread. The session ends before the answer is sent, so that a client that has it may go on at once. */
static void finished(struct engine_job *job)
{
    struct completion_part *part = (struct completion_part *)job;
    struct completion *completion = part->completion;
    end_session(completion, job->outcome == ENGINE_DONE, generation_token(&job->generation));
    count(completion->services->metrics, job);
    atomic_store(&part->over, true);
    const bool last = atomic_fetch_sub(&completion->running, 1) == 1;
    if (completion->fields.stream)
        http_stream_wake(&completion->stream);
    else if (last)
        http_request_resume(completion->request);
    drop_reference(completion);
}

void completion_cancel(struct completion *completion)
{
    for (size_t i = 0; i < completion->count; i++) engine_cancel(completion->served->engine, &completion->parts[i].job);
}

static void gone(void *context)
{
    completion_cancel(context);
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

void completion_describe(const struct completion *completion, size_t first, size_t count,
                         const struct generation **generations, struct answer *answer)
{
    const struct completion_fields *fields = &completion->fields;
    const struct engine_job *job = &completion->parts[first].job;
    uint64_t end = 0;
    for (size_t i = 0; i < count; i++) {
        const struct engine_job *one = &completion->parts[first + i].job;
        generations[i] = &one->generation;
        if (one->finished_ns > end) end = one->finished_ns;
    }
    *answer = (struct answer){
        .id = http_request_id(completion->request),
        .model = completion->served->model.name,
        .prompt = fields->prompt.data ? fields->prompt.data : "",
        .prompt_bytes = fields->prompt.size,
        .warning = completion_warning(completion),
        .generations = generations,
        .count = count,
        .seed = generation_seed(fields->seed, first),
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

/* Whether one of the jobs that ran out of time had got a slot. */
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

static enum text_state write_answer(void *context, struct json_writer *out, struct error *err)
{
    struct completion *completion = context;
    (void)err;
    return completion->dialect->answer(completion, completion->answer, out) ? TEXT_MORE : TEXT_END;
}

/* The reply refers to the completion until it is written. */
static void reply_answer(struct http_request *request, struct completion *completion)
{
    struct problem problem = {0};
    completion->answer = calloc(1, completion->dialect->answer_size);
    if (!completion->answer) {
        problem_set(&problem, 503, "out of memory");
        http_reply_problem(request, &problem);
        return;
    }
    atomic_fetch_add(&completion->references, 1);
    text_reply(
        request, 200, "application/json",
        &(struct text_source){
            .write = write_answer, .release = release, .context = completion, .worker = completion->services->writer});
}

static void resumed(struct http_request *request, void *context)
{
    struct completion *completion = context;
    struct problem problem = {0};
    completion_log(completion);
    http_reply_header(request, "Cache-Control", "no-store");
    for (size_t i = 0; i < completion->count; i++) {
        const enum engine_outcome outcome = completion->parts[i].job.outcome;
        if (outcome == ENGINE_DONE) continue;
        if (outcome == ENGINE_CANCELLED) {
            http_reply_nothing(request);
        } else {
            completion_set_failure(completion, outcome, &problem);
            http_reply_problem(request, &problem);
            problem_close(&problem);
        }
        return;
    }
    reply_answer(request, completion);
}

static bool submit(struct completion *completion, struct error *err)
{
    struct engine_job *jobs[COMPLETION_MAX_N];
    for (size_t i = 0; i < completion->count; i++) {
        struct completion_part *part = &completion->parts[i];
        part->completion = completion;
        part->job.group = &completion->group;
        part->job.finished = finished;
        part->job.progressed = completion->fields.stream ? progressed : NULL;
        part->job.use_cache = completion->fields.cache_prompt;
        if (completion->session) {
            part->job.end_state = session_next_state(completion->session);
            if (!session_is_fresh(completion->session)) part->job.start_state = session_state(completion->session);
        }
        jobs[i] = &part->job;
    }
    atomic_store(&completion->running, completion->count);
    atomic_fetch_add(&completion->references, completion->count);
    if (engine_submit(completion->served->engine, jobs, completion->count, err)) return true;
    metrics_add(completion->services->metrics, METRICS_REFUSED, 1);
    atomic_fetch_sub(&completion->references, completion->count);
    end_session(completion, false, 0);
    return false;
}

static enum http_outcome start(struct completion *completion)
{
    struct http_request *request = completion->request;
    struct problem problem = {0};
    struct error err = {0};
    if (completion->fields.stream) {
        if (http_request_is_head(request))
            end_session(completion, false, 0);
        else if (!submit(completion, &err))
            problem_set_error(&problem, &err);
        if (problem.status) return completion_refuse(request, &problem);
        completion_stream_begin(completion);
        return HTTP_REPLIED;
    }
    http_request_suspend(request, &(struct http_waiter){.resumed = resumed, .gone = gone, .context = completion});
    if (submit(completion, &err)) return HTTP_LATER;
    problem_set_error(&problem, &err);
    completion_refuse(request, &problem);
    http_request_resume(request);
    return HTTP_LATER;
}

enum http_outcome completion_run(struct completion *completion, struct problem *problem)
{
    if (!completion->fields.seed_given) completion->fields.seed = random_seed();
    /* The prompt is encoded even where other fields are wrong, so that everything wrong is named at once. */
    completion->served = completion_acquire(completion->services, &completion->fields.model, problem);
    if (completion->served) {
        check_label(completion, problem);
        check_bias(completion, problem);
        if (check_prompt(completion, problem) && begin_session(completion, problem)) open_parts(completion, problem);
    }
    if (!problem->status) return start(completion);
    end_session(completion, false, 0);
    return completion_refuse(completion->request, problem);
}
