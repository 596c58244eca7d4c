/* /score: how likely the model finds a text. The thread that handles the request encodes the text; the daemon's scorer
 * feeds it to the model while the connection is suspended. Texts take turns of a few milliseconds, so a short one does
 * not wait for long ones. */
#include <math.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "model/generate/answer.h"
#include "model/generate/reading.h"
#include "server/api/api.h"
#include "server/api/completion.h"
#include "server/api/scored_text.h"
#include "server/api/text_reply.h"

/* Referred to by the request and by the answer that is being written. */
struct score {
    struct task task; /* first: the scorer gives it back */
    atomic_uint references;
    struct http_request *request;
    struct services *services;
    struct served *served; /* the model */
    json_t *body;
    struct scored_text text;
    double *logprobs; /* [prompt.count] */
    atomic_bool gone;
    uint64_t deadline_ns;

    /* The scorer's, from the text's first turn on. */
    struct reading reading;
    size_t read; /* tokens of the prompt that were fed */
    enum { SCORE_READING, SCORE_DONE, SCORE_LEFT, SCORE_CLOSED, SCORE_TIMEOUT, SCORE_NO_MEMORY } outcome;

    size_t written; /* the answer's: tokens, and behind them the rest */
};

static const struct field rows[] = {SCORED_TEXT_ROWS(offsetof(struct score, text))};

static void score_release(void *context)
{
    struct score *score = context;
    if (atomic_fetch_sub(&score->references, 1) > 1) return;
    scored_text_close(&score->text);
    json_decref(score->body);
    free(score->logprobs);
    registry_release(score->served);
    free(score);
}

static bool open_reading(struct score *score)
{
    const struct generation *generation = &score->text.generation;
    struct error err = {0};
    if (reading_open(&score->reading, &score->served->stepper, generation->prompt.ids,
                     vocabulary_pad(generation->vocabulary), false, &err))
        return true;
    score->outcome = SCORE_NO_MEMORY;
    return false;
}

/* Feeds tokens until the turn or the text is over, or the request is. */
static void read_text(struct score *score)
{
    const struct token_list *prompt = &score->text.generation.prompt;
    const size_t vocabulary = score->served->stepper.architecture.vocabulary_size;
    const uint64_t begun_ns = clock_monotonic_ns();
    for (uint64_t now = begun_ns; now - begun_ns < SCORED_TEXT_SLICE_NS; now = clock_monotonic_ns()) {
        const size_t i = score->read;
        if (i + 1 >= prompt->count)
            score->outcome = SCORE_DONE;
        else if (atomic_load(&score->gone))
            score->outcome = SCORE_LEFT;
        else if (atomic_load(&score->services->closing))
            score->outcome = SCORE_CLOSED;
        else if (now >= score->deadline_ns)
            score->outcome = SCORE_TIMEOUT;
        if (score->outcome != SCORE_READING) return;
        const bool wanted = i + 1 >= score->text.first;
        reading_feed(&score->reading, i, wanted);
        if (wanted)
            score->logprobs[i + 1] = reading_log_probability(score->reading.logits, vocabulary, prompt->ids[i + 1]);
        score->read++;
    }
}

/* Runs in the scorer's thread: one turn. The text's next turn comes after those of all others that wait. */
static void score_run(struct task *task)
{
    struct score *score = (struct score *)task;
    if (score->reading.state || open_reading(score)) read_text(score);
    if (score->outcome == SCORE_READING) {
        if (worker_submit(score->services->scorer, &score->task)) return;
        score->outcome = SCORE_CLOSED;
    }
    reading_close(&score->reading);
    atomic_fetch_sub(&score->services->scores, 1);
    http_request_resume(score->request);
}

static void write_token(const struct score *score, size_t i, struct json_writer *out)
{
    const uint32_t id = score->text.generation.prompt.ids[i];
    size_t n;
    const char *text = vocabulary_token(score->text.generation.vocabulary, id, &n);
    json_write(out, i > score->text.first ? ",{" : "{", i > score->text.first ? 2 : 1);
    json_write_literal(out, "\"id\":");
    json_write_integer(out, id);
    json_write_literal(out, ",\"token\":");
    json_write_string(out, text, n);
    json_write_literal(out, ",\"logprob\":");
    json_write_real(out, score->logprobs[i]);
    json_write_literal(out, "}");
}

static void write_number(const char *key, double value, struct json_writer *out)
{
    json_write(out, key, strlen(key));
    json_write_real(out, value);
}

/* Writes the members behind the tokens. */
static void write_sums(const struct score *score, struct json_writer *out)
{
    const struct generation *generation = &score->text.generation;
    const struct field_text *text = &score->text.text;
    const size_t count = generation->prompt.count - score->text.first;
    const size_t characters = vocabulary_encoded_characters(text->data, text->size, &generation->unknown);
    double nats = 0;
    for (size_t i = score->text.first; i < generation->prompt.count; i++) nats -= score->logprobs[i];
    const double perplexity = exp(nats / (double)count);
    json_write_literal(out, "],\"token_count\":");
    json_write_integer(out, (int64_t)count);
    json_write_literal(out, ",\"characters\":");
    json_write_integer(out, (int64_t)characters);
    write_number(",\"nats\":", nats, out);
    write_number(",\"nats_per_token\":", nats / (double)count, out);
    write_number(",\"nats_per_char\":", nats / (double)characters, out);
    write_number(",\"bits_per_char\":", nats / (double)characters / log(2), out);
    write_number(",\"perplexity\":", isfinite(perplexity) ? perplexity : 1e308, out);
    json_write_literal(out, ",");
    answer_write_warnings(generation, text->data, NULL, out);
    json_write_literal(out, "}\n");
}

static enum text_state write_answer(void *context, struct json_writer *out, struct error *err)
{
    struct score *score = context;
    const char *model = score->served->model.name;
    (void)err;
    if (score->written < score->text.first) {
        json_write_literal(out, "{\"model\":");
        json_write_string(out, model, strlen(model));
        json_write_literal(out, ",\"tokens\":[");
        score->written = score->text.first;
    }
    if (score->written < score->text.generation.prompt.count) {
        write_token(score, score->written++, out);
        return TEXT_MORE;
    }
    write_sums(score, out);
    return TEXT_END;
}

static void score_gone(void *context)
{
    atomic_store(&((struct score *)context)->gone, true);
}

static void score_resumed(struct http_request *request, void *context)
{
    struct score *score = context;
    struct problem problem = {0};
    const size_t read = score->outcome == SCORE_DONE ? score->text.generation.prompt.count : score->read;
    http_request_log(request, LOG_INTEGER("prompt_tokens", read));
    metrics_add(score->services->metrics, METRICS_SCORED_TOKENS, read);
    http_reply_header(request, "Cache-Control", "no-store");
    switch (score->outcome) {
    case SCORE_DONE:
        atomic_fetch_add(&score->references, 1);
        text_reply(
            request, 200, "application/json",
            &(struct text_source){
                .write = write_answer, .release = score_release, .context = score, .worker = score->services->writer});
        return;
    case SCORE_LEFT:
        http_reply_nothing(request);
        return;
    case SCORE_CLOSED:
        problem_set(&problem, 503, "the daemon was shut down before the text was read");
        break;
    case SCORE_TIMEOUT:
        problem_set_timeout(&problem, "the text was not read", score->services->config->request_timeout,
                            score->read > 0);
        break;
    case SCORE_READING:
    case SCORE_NO_MEMORY:
        problem_set(&problem, 503, "out of memory");
        break;
    }
    http_reply_problem(request, &problem);
    problem_close(&problem);
}

/* False with the problem. */
static bool open_text(struct score *score, struct problem *problem)
{
    if (!scored_text_open(&score->text, score->services, score->served, problem)) return false;
    score->logprobs = calloc(score->text.generation.prompt.count, sizeof *score->logprobs);
    return score->logprobs || problem_set(problem, 503, "out of memory");
}

enum http_outcome api_score(struct http_request *request, void *context)
{
    struct services *services = context;
    struct problem problem = {0};
    size_t size;
    if (completion_is_draining(request, services)) return HTTP_REPLIED;
    const char *text = http_request_body(request, &size);
    json_t *body = fields_parse_body(text, size, &problem);
    if (!body) return completion_refuse(request, &problem);
    struct score *score = calloc(1, sizeof *score);
    if (!score) {
        json_decref(body);
        problem_set(&problem, 503, "out of memory");
        return completion_refuse(request, &problem);
    }
    *score = (struct score){.references = 1, .request = request, .services = services, .body = body};
    http_request_on_release(request, score_release, score);
    const struct field_table table = {rows, sizeof rows / sizeof *rows};
    fields_read_json(&table, score, body, NULL, &problem);
    score->served = completion_acquire(services, &score->text.model, &problem);
    if (score->served) open_text(score, &problem);
    if (problem.status) return completion_refuse(request, &problem);
    http_request_suspend(request,
                         &(struct http_waiter){.resumed = score_resumed, .gone = score_gone, .context = score});
    score->task.run = score_run;
    score->deadline_ns = clock_monotonic_ns() + (uint64_t)(services->config->request_timeout * 1e9);
    if (scored_text_submit(services, &score->task)) return HTTP_LATER;
    problem_set(&problem, 503, "too many texts are waiting to be scored; try again later");
    completion_refuse(request, &problem);
    http_request_resume(request);
    return HTTP_LATER;
}
