/* /score: how likely the model finds a text. The thread that handles the request encodes the text; the daemon's scorer
 * feeds it to the model while the connection is suspended. Texts take turns of a few milliseconds, so a short one does
 * not wait for long ones. */
#include <math.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/utf8.h"
#include "model/generate/answer.h"
#include "server/api/api.h"
#include "server/api/completion.h"
#include "server/api/text_reply.h"

#define SLICE_NS (UINT64_C(5) * 1000 * 1000) /* a text's turn */

struct score_fields {
    struct field_text text, model, label;
    int unknown;
};

static const char *const unknown_choices[] = {"skip", "error", NULL};

#define MEMBER(name) offsetof(struct score_fields, name)

static const struct field rows[] = {
    {"text", FIELD_TEXT, MEMBER(text), 0, 0, NULL, 0},
    {"unknown", FIELD_CHOICE, MEMBER(unknown), 0, 0, unknown_choices, 0},
    {"label", FIELD_TEXT, MEMBER(label), 0, 0, NULL, 0},
    {"model", FIELD_TEXT, MEMBER(model), 0, 0, NULL, 0},
};

/* Referred to by the request and by the answer that is being written. */
struct score {
    struct task task; /* first: the scorer gives it back */
    atomic_uint references;
    struct http_request *request;
    struct services *services;
    struct served *served; /* the model */
    json_t *body;
    struct score_fields fields;
    struct generation generation; /* its prompt is the text; nothing is generated */
    size_t first;                 /* token of the prompt that has a probability */
    double *logprobs;             /* [prompt.count] */
    atomic_bool gone;
    uint64_t deadline_ns;

    /* The scorer's, from the text's first turn on. */
    struct arena arena;
    struct step_scratch scratch;
    float *state, *logits;
    size_t read; /* tokens of the prompt that were fed */
    enum { SCORE_READING, SCORE_DONE, SCORE_LEFT, SCORE_CLOSED, SCORE_TIMEOUT, SCORE_NO_MEMORY } outcome;

    size_t written; /* the answer's: tokens, and behind them the rest */
};

static void close_reading(struct score *score)
{
    step_scratch_close(&score->scratch);
    arena_free(&score->arena);
    score->state = score->logits = NULL;
}

static void score_release(void *context)
{
    struct score *score = context;
    if (atomic_fetch_sub(&score->references, 1) > 1) return;
    generation_close(&score->generation);
    json_decref(score->body);
    free(score->logprobs);
    registry_release(score->served);
    free(score);
}

/* log of the softmax of logits[V] at `id`, in double precision relative to the largest. */
static double log_probability(const float *logits, size_t vocabulary, uint32_t id)
{
    float largest = logits[0];
    double sum = 0;
    for (size_t i = 1; i < vocabulary; i++)
        if (logits[i] > largest) largest = logits[i];
    for (size_t i = 0; i < vocabulary; i++) sum += exp((double)(logits[i] - largest));
    /* cppcheck-suppress invalidFunctionArg ; a vocabulary has tokens, and the likeliest adds 1 */
    return (double)(logits[id] - largest) - log(sum);
}

/* Feeds token i of the text; logits (NULL: not wanted): those of the next token. With a window, feeds all its tokens
 * anew. */
static void feed_token(struct score *score, size_t i, float *logits)
{
    const struct stepper *stepper = &score->served->stepper;
    const uint32_t *ids = score->generation.prompt.ids, pad = vocabulary_pad(score->generation.vocabulary);
    const struct token_window *window = &stepper->architecture.window;
    const struct window_feed feed = window_feed(window, pad, i + 1);
    size_t first = i;
    if (window->size > 0) {
        if (!logits) return;
        memset(score->state, 0, stepper->state_size * sizeof *score->state);
        for (size_t k = 0; k < feed.padding; k++) step(stepper, &score->scratch, 1, &pad, &score->state, NULL);
        first = feed.first;
    }
    for (size_t k = first; k < i; k++) step(stepper, &score->scratch, 1, &ids[k], &score->state, NULL);
    step(stepper, &score->scratch, 1, &ids[i], &score->state, &logits);
}

static bool open_reading(struct score *score)
{
    const struct stepper *stepper = &score->served->stepper;
    struct error err = {0};
    score->state = arena_alloc(&score->arena, stepper->state_size, sizeof *score->state, "a hidden state", &err);
    score->logits = arena_alloc(&score->arena, stepper->logits_size, sizeof *score->logits, "logits", &err);
    if (score->state && score->logits && step_scratch_open(&score->scratch, stepper, 1, &err)) return true;
    score->outcome = SCORE_NO_MEMORY;
    return false;
}

/* Feeds tokens until the turn or the text is over, or the request is. */
static void read_text(struct score *score)
{
    const struct token_list *prompt = &score->generation.prompt;
    const size_t vocabulary = score->served->stepper.architecture.vocabulary_size;
    const uint64_t begun_ns = clock_monotonic_ns();
    for (uint64_t now = begun_ns; now - begun_ns < SLICE_NS; now = clock_monotonic_ns()) {
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
        float *wanted = i + 1 >= score->first ? score->logits : NULL;
        feed_token(score, i, wanted);
        if (wanted) score->logprobs[i + 1] = log_probability(score->logits, vocabulary, prompt->ids[i + 1]);
        score->read++;
    }
}

/* Runs in the scorer's thread: one turn. The text's next turn comes after those of all others that wait. */
static void score_run(struct task *task)
{
    struct score *score = (struct score *)task;
    if (score->state || open_reading(score)) read_text(score);
    if (score->outcome == SCORE_READING) {
        if (worker_submit(score->services->scorer, &score->task)) return;
        score->outcome = SCORE_CLOSED;
    }
    close_reading(score);
    atomic_fetch_sub(&score->services->scores, 1);
    http_request_resume(score->request);
}

static void write_token(const struct score *score, size_t i, struct json_writer *out)
{
    const uint32_t id = score->generation.prompt.ids[i];
    size_t n;
    const char *text = vocabulary_token(score->generation.vocabulary, id, &n);
    json_write(out, i > score->first ? ",{" : "{", i > score->first ? 2 : 1);
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
    const struct generation *generation = &score->generation;
    const struct field_text *text = &score->fields.text;
    const size_t count = generation->prompt.count - score->first;
    const size_t characters = vocabulary_encoded_characters(text->data, text->size, &generation->unknown);
    double nats = 0;
    for (size_t i = score->first; i < generation->prompt.count; i++) nats -= score->logprobs[i];
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
    if (score->written < score->first) {
        json_write_literal(out, "{\"model\":");
        json_write_string(out, model, strlen(model));
        json_write_literal(out, ",\"tokens\":[");
        score->written = score->first;
    }
    if (score->written < score->generation.prompt.count) {
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
    const size_t read = score->outcome == SCORE_DONE ? score->generation.prompt.count : score->read;
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

/* With a window, each token costs as many steps as the window has tokens. */
static void check_cost(const struct score *score, size_t tokens, struct problem *problem)
{
    const size_t limit = (size_t)score->services->config->max_score;
    const size_t window = score->served->stepper.architecture.window.size;
    if (tokens <= limit / (window > 0 ? window : 1)) return;
    if (window == 0)
        problem_add_field(problem, "text", "has %zu tokens; limits.max_score is %zu", tokens, limit);
    else
        problem_add_field(problem, "text",
                          "has %zu tokens, each scored from a window of %zu; limits.max_score is %zu tokens in all",
                          tokens, window, limit);
}

/* Encodes the text behind <eos> and the label, as a prompt. */
static void open_text(struct score *score, struct problem *problem)
{
    const struct vocabulary *vocabulary = score->served->model.vocabulary;
    const struct score_fields *fields = &score->fields;
    char *label = fields->label.data ? strndup(fields->label.data, fields->label.size) : NULL;
    const struct generation_request wanted = {.prompt = fields->text.data ? fields->text.data : "",
                                              .prompt_bytes = fields->text.size,
                                              .label = label,
                                              .length = 1,
                                              .unknown_is_error = fields->unknown == 1,
                                              .kernels = score->served->stepper.kernels};
    const char *field = NULL;
    struct error err = {0};
    if (!fields->text.size) problem_add_field(problem, "text", "must be a text that is not empty");
    if (!generation_open(&score->generation, vocabulary, &wanted, &field, &err)) {
        if (field && err.code == ERROR_INVALID)
            problem_add_field(problem, strcmp(field, "prompt") == 0 ? "text" : field, "%s", err.message);
        else
            problem_set_error(problem, &err);
    }
    free(label);
    if (problem->status) return;
    /* Without a start token, the first token has no probability. */
    const size_t special = (vocabulary_start(vocabulary) != TOKEN_NONE) + (fields->label.data ? (size_t)1 : 0);
    score->first = special > 0 ? special : 1;
    if (score->generation.prompt.count <= score->first)
        problem_add_field(problem, "text", "has no token of the model's vocabulary to score");
    else
        check_cost(score, score->generation.prompt.count - special, problem);
    score->logprobs = calloc(score->generation.prompt.count, sizeof *score->logprobs);
    if (!score->logprobs) problem_set(problem, 503, "out of memory");
}

static bool score_submit(struct score *score)
{
    struct services *services = score->services;
    score->task.run = score_run;
    score->deadline_ns = clock_monotonic_ns() + (uint64_t)(services->config->request_timeout * 1e9);
    if (atomic_fetch_add(&services->scores, 1) <= (size_t)services->config->queue &&
        worker_submit(services->scorer, &score->task))
        return true;
    atomic_fetch_sub(&services->scores, 1);
    return false;
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
    fields_read_json(&table, &score->fields, body, NULL, &problem);
    score->served = completion_acquire(services, &score->fields.model, &problem);
    if (score->served) open_text(score, &problem);
    if (problem.status) return completion_refuse(request, &problem);
    http_request_suspend(request,
                         &(struct http_waiter){.resumed = score_resumed, .gone = score_gone, .context = score});
    if (score_submit(score)) return HTTP_LATER;
    problem_set(&problem, 503, "too many texts are waiting to be scored; try again later");
    completion_refuse(request, &problem);
    http_request_resume(request);
    return HTTP_LATER;
}
