/* Drives a completion: checks it, gives its jobs to the engine, waits for them, and answers. The stream is the work of
 * completion_stream.c. */
#include <stdlib.h>

#include "base/clock.h"
#include "server/api/completion_internal.h"
#include "server/api/text_reply.h"

/* Runs in the engine's thread. tokens_ready is stored first: whoever sees a byte of the text also sees its token. */
static void completion_progressed(struct engine_job *job)
{
    struct completion_part *part = (struct completion_part *)job;
    const struct generation *generation = &job->generation;
    atomic_store_explicit(&part->tokens_ready, generation->tokens_ready, memory_order_release);
    if (atomic_load_explicit(&part->text_ready, memory_order_relaxed) == generation->text_ready) return;
    atomic_store_explicit(&part->text_ready, generation->text_ready, memory_order_release);
    http_stream_wake(&part->completion->stream);
}

static double seconds_between(uint64_t from, uint64_t to)
{
    return (double)(to - from) * 1e-9;
}

static void completion_count_job(struct metrics *metrics, const struct engine_job *job)
{
    static const enum metrics_counter finishes[] = {[FINISH_LENGTH] = METRICS_ENDED_LENGTH,
                                                    [FINISH_EOS] = METRICS_ENDED_EOS,
                                                    [FINISH_STOP] = METRICS_ENDED_STOP,
                                                    [FINISH_PATTERN] = METRICS_ENDED_PATTERN};
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
    metrics_observe(metrics, METRICS_QUEUE, seconds_between(job->submitted_ns, job->started_ns));
    metrics_observe(metrics, METRICS_GENERATION, seconds_between(job->submitted_ns, job->finished_ns));
    if (!job->first_ns) return;
    metrics_observe(metrics, METRICS_FIRST_TOKEN, seconds_between(job->submitted_ns, job->first_ns));
    if (generation->produced > 1)
        metrics_observe(metrics, METRICS_TOKEN,
                        seconds_between(job->first_ns, job->finished_ns) / (double)(generation->produced - 1));
}

/* Runs in the engine's thread. The session ends before the answer is sent: a client that has the answer may go on at
 * once. */
static void completion_finished(struct engine_job *job)
{
    struct completion_part *part = (struct completion_part *)job;
    struct completion *completion = part->completion;
    completion_copy_state(completion, job);
    completion_end_session(completion, job->outcome == ENGINE_DONE, generation_pending(&job->generation));
    completion_count_job(completion->services->metrics, job);
    atomic_store(&part->over, true);
    const bool last = atomic_fetch_sub(&completion->running, 1) == 1;
    if (completion->fields.stream)
        http_stream_wake(&completion->stream);
    else if (last)
        http_request_resume(completion->request);
    completion_unref(completion);
}

static bool completion_submit(struct completion *completion, struct error *err)
{
    struct engine_job *jobs[COMPLETION_MAX_TEXTS];
    for (size_t i = 0; i < completion->count; i++) {
        struct completion_part *part = &completion->parts[i];
        part->completion = completion;
        part->job.group = &completion->prompts[i / completion->made].group;
        part->job.finished = completion_finished;
        part->job.progressed = completion->fields.stream ? completion_progressed : NULL;
        part->job.use_cache = completion->fields.cache_prompt && !completion->fields.scores_prompt;
        jobs[i] = &part->job;
    }
    atomic_store(&completion->running, completion->count);
    atomic_fetch_add(&completion->references, completion->count);
    if (engine_submit(completion->served->engine, jobs, completion->count, err)) return true;
    metrics_add(completion->services->metrics, METRICS_REFUSED, 1);
    atomic_fetch_sub(&completion->references, completion->count);
    completion_end_session(completion, false, 0);
    return false;
}

static enum text_state completion_write_answer(void *context, struct json_writer *out, struct error *err)
{
    struct completion *completion = context;
    (void)err;
    return completion->dialect->answer(completion, completion->answer, out) ? TEXT_MORE : TEXT_END;
}

static void completion_gone(void *context)
{
    completion_cancel(context);
}

static void completion_release_answer(void *context)
{
    completion_unref(context);
}

/* The reply holds a reference to the completion until it is written. */
static void completion_reply_answer(struct http_request *request, struct completion *completion)
{
    struct problem problem = {0};
    completion->answer = calloc(1, completion->dialect->answer_size);
    if (!completion->answer) {
        problem_set(&problem, 503, "out of memory");
        http_reply_problem(request, &problem);
        return;
    }
    atomic_fetch_add(&completion->references, 1);
    text_reply(request, 200, "application/json",
               &(struct text_source){.write = completion_write_answer,
                                     .release = completion_release_answer,
                                     .context = completion,
                                     .worker = completion->services->writer});
}

static void completion_resumed(struct http_request *request, void *context)
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
    if (completion_selects(completion)) completion_choose(completion);
    completion_reply_answer(request, completion);
}

static void completion_suspend(struct completion *completion)
{
    http_request_suspend(
        completion->request,
        &(struct http_waiter){.resumed = completion_resumed, .gone = completion_gone, .context = completion});
}

/* Submits the jobs. The client may have left meanwhile, before there were any to be cancelled. Jobs may end at once,
 * and the request with them: this is not always the HTTP thread. So the completion is kept until the end of this. */
static bool completion_launch(struct completion *completion, struct problem *problem)
{
    struct error err = {0};
    atomic_fetch_add(&completion->references, 1);
    const bool launched = completion_submit(completion, &err) || problem_set_error(problem, &err);
    if (launched) {
        atomic_store(&completion->prepared, true);
        if (atomic_load(&completion->left)) completion_cancel(completion);
    }
    completion_unref(completion);
    return launched;
}

/* Starts the stream, which is the reply. */
static bool completion_start_stream(struct completion *completion, struct problem *problem)
{
    if (http_request_is_head(completion->request))
        completion_end_session(completion, false, 0);
    else if (!completion_launch(completion, problem))
        return false;
    completion_stream_begin(completion);
    return true;
}

/* A request that was suspended for a worker: what is wrong with it, or its jobs. A stream's reply is there at once; the
 * last job resumes the others. */
static void completion_start_suspended(struct completion *completion, bool checked, struct problem *problem)
{
    struct http_request *request = completion->request;
    const bool streams = completion->fields.stream;
    const bool started =
        checked && (streams ? completion_start_stream(completion, problem) : completion_launch(completion, problem));
    if (started && !streams) return;
    if (!started) {
        completion_end_session(completion, false, 0);
        completion_refuse(request, problem);
    }
    http_request_resume(request);
}

/* False, with the problem, where the request waited for the worker in vain: a pattern may take seconds. */
static bool completion_is_in_time(const struct completion *completion, struct problem *problem)
{
    const double limit = completion->services->config->request_timeout;
    const uint64_t began = http_request_ready_ns(completion->request);
    if (atomic_load(&completion->services->closing)) return problem_set(problem, 503, "the daemon is shutting down");
    if (seconds_between(began, clock_monotonic_ns()) < limit) return true;
    return problem_set_timeout(problem, "the text was not begun", limit, false);
}

/* The worker's reference keeps the completion until it is done with it: the request may be over before. No pattern is
 * made for a client that has left. */
static void completion_check_task(struct task *task)
{
    struct completion *completion = (struct completion *)((char *)task - offsetof(struct completion, task));
    struct problem problem = {0};
    if (atomic_load(&completion->left)) {
        http_reply_nothing(completion->request);
        http_request_resume(completion->request);
    } else {
        const bool checked = completion_is_in_time(completion, &problem) && completion_check(completion, &problem);
        completion_start_suspended(completion, checked, &problem);
    }
    completion_unref(completion);
}

enum http_outcome completion_run(struct completion *completion, struct problem *problem)
{
    const bool later = !problem->status && completion_wants_pattern(completion);
    if (later) {
        problem_close(problem);
        completion->task.run = completion_check_task;
        completion_suspend(completion);
        atomic_fetch_add(&completion->references, 1);
        if (worker_submit(completion->services->matcher, &completion->task)) return HTTP_LATER;
        atomic_fetch_sub(&completion->references, 1);
        problem_set(problem, 503, "the daemon is shutting down");
        completion_start_suspended(completion, false, problem);
        return HTTP_LATER;
    }
    const bool checked = completion_check(completion, problem);
    if (checked && completion->fields.stream && completion_start_stream(completion, problem)) return HTTP_REPLIED;
    if (checked && !completion->fields.stream) {
        completion_suspend(completion);
        completion_start_suspended(completion, true, problem);
        return HTTP_LATER;
    }
    completion_end_session(completion, false, 0);
    return completion_refuse(completion->request, problem);
}
