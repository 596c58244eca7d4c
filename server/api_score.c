/* /score: how likely the model finds a text. The text is encoded by the thread that handles the request and read by the
 * daemon's scorer, one text after the other, while the connection is suspended. */
#include <math.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include "base/utf8.h"
#include "server/api.h"
#include "server/completion.h"

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

struct score {
    struct task task; /* first: the scorer gives it back */
    struct http_request *request;
    struct daemon *daemon;
    struct served *served; /* the model */
    json_t *body;
    struct score_fields fields;
    struct generation generation; /* its prompt is the text; nothing is generated */
    size_t first;                 /* token of the prompt that has a probability */
    double *logprobs;             /* [prompt.count] */
    atomic_bool gone;
    enum { SCORE_DONE, SCORE_LEFT, SCORE_CLOSED, SCORE_NO_MEMORY } outcome;
};

static void release(void *context)
{
    struct score *score = context;
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
    return (double)(logits[id] - largest) - log(sum);
}

/* Feeds token i of the text; logits (NULL: not wanted) of what follows it. Through a window all of it is fed anew. */
static void feed_token(const struct score *score, struct step_scratch *scratch, float *state, size_t i, float *logits)
{
    const struct stepper *stepper = &score->served->stepper;
    const uint32_t *ids = score->generation.prompt.ids, pad = vocabulary_pad(score->generation.vocabulary);
    const struct token_window *window = &stepper->architecture.window;
    const struct window_feed feed = window_feed(window, pad, i + 1);
    size_t first = i;
    if (window->size > 0) {
        if (!logits) return;
        memset(state, 0, stepper->state_size * sizeof *state);
        for (size_t k = 0; k < feed.padding; k++) step(stepper, scratch, 1, &pad, &state, NULL);
        first = feed.first;
    }
    for (size_t k = first; k < i; k++) step(stepper, scratch, 1, &ids[k], &state, NULL);
    step(stepper, scratch, 1, &ids[i], &state, &logits);
}

static void read_text(struct score *score, struct step_scratch *scratch, float *state, float *logits)
{
    const struct token_list *prompt = &score->generation.prompt;
    const size_t vocabulary = score->served->stepper.architecture.vocabulary_size;
    for (size_t i = 0; i + 1 < prompt->count; i++) {
        if (atomic_load(&score->gone)) {
            score->outcome = SCORE_LEFT;
            return;
        }
        if (atomic_load(&score->daemon->closing)) {
            score->outcome = SCORE_CLOSED;
            return;
        }
        float *wanted = i + 1 >= score->first ? logits : NULL;
        feed_token(score, scratch, state, i, wanted);
        if (wanted) score->logprobs[i + 1] = log_probability(logits, vocabulary, prompt->ids[i + 1]);
    }
}

/* The scorer's thread. */
static void run(struct task *task)
{
    struct score *score = (struct score *)task;
    const struct stepper *stepper = &score->served->stepper;
    struct step_scratch scratch = {0};
    struct arena arena = {0};
    struct error err = {0};
    float *state = arena_alloc(&arena, stepper->state_size, sizeof *state, "a hidden state", &err);
    float *logits = arena_alloc(&arena, stepper->logits_size, sizeof *logits, "logits", &err);
    if (state && logits && step_scratch_open(&scratch, stepper, 1, &err))
        read_text(score, &scratch, state, logits);
    else
        score->outcome = SCORE_NO_MEMORY;
    step_scratch_close(&scratch);
    arena_free(&arena);
    atomic_fetch_sub(&score->daemon->scores, 1);
    http_request_resume(score->request);
}

static json_t *tokens(const struct score *score)
{
    const struct generation *generation = &score->generation;
    json_t *list = json_array();
    for (size_t i = score->first; i < generation->prompt.count; i++) {
        size_t n;
        const uint32_t id = generation->prompt.ids[i];
        const char *text = vocabulary_token(generation->vocabulary, id, &n);
        json_array_append_new(list, json_pack("{s:I, s:o, s:f}", "id", (json_int_t)id, "token",
                                              json_safe_string(text, n), "logprob", score->logprobs[i]));
    }
    return list;
}

static json_t *warnings(const struct generation *generation, const char *text)
{
    json_t *list = json_array();
    for (size_t i = 0; i < generation_warning_count(generation); i++) {
        char warning[GENERATION_WARNING_SIZE];
        generation_warning(generation, text, i, warning);
        json_array_append_new(list, json_string(warning));
    }
    return list;
}

static json_t *document(const struct score *score)
{
    const struct generation *generation = &score->generation;
    const struct field_text *text = &score->fields.text;
    const size_t count = generation->prompt.count - score->first;
    const double characters = (double)vocabulary_encoded_characters(text->data, text->size, &generation->unknown);
    double nats = 0;
    for (size_t i = score->first; i < generation->prompt.count; i++) nats -= score->logprobs[i];
    const double perplexity = exp(nats / (double)count);
    return json_pack("{s:s, s:o, s:I, s:I, s:f, s:f, s:f, s:f, s:f, s:o}", "model", score->served->model.name, "tokens",
                     tokens(score), "token_count", (json_int_t)count, "characters", (json_int_t)characters, "nats",
                     nats, "nats_per_token", nats / (double)count, "nats_per_char", nats / characters, "bits_per_char",
                     nats / characters / log(2), "perplexity", isfinite(perplexity) ? perplexity : 1e308, "warnings",
                     warnings(generation, text->data));
}

static void gone(void *context)
{
    atomic_store(&((struct score *)context)->gone, true);
}

static void resumed(struct http_request *request, void *context)
{
    struct score *score = context;
    struct problem problem = {0};
    http_request_log(request, LOG_INTEGER("prompt_tokens", score->generation.prompt.count));
    metrics_add(score->daemon->metrics, METRICS_SCORED_TOKENS, score->generation.prompt.count);
    http_reply_header(request, "Cache-Control", "no-store");
    switch (score->outcome) {
    case SCORE_DONE:
        http_reply_json(request, 200, document(score));
        return;
    case SCORE_LEFT:
        http_reply_nothing(request);
        return;
    case SCORE_CLOSED:
        problem_set(&problem, 503, "the daemon was shut down before the text was read");
        break;
    case SCORE_NO_MEMORY:
        problem_set(&problem, 503, "out of memory");
        break;
    }
    http_reply_problem(request, &problem);
    problem_close(&problem);
}

/* Through a window, each token costs as many steps as the window has tokens. */
static void check_cost(const struct score *score, size_t tokens, struct problem *problem)
{
    const size_t limit = (size_t)score->daemon->config->max_score;
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
    /* Without a start token, nothing foretells the first token. */
    const size_t special = (vocabulary_start(vocabulary) != TOKEN_NONE) + (size_t)(fields->label.data != NULL);
    score->first = special > 0 ? special : 1;
    if (score->generation.prompt.count <= score->first)
        problem_add_field(problem, "text", "has no token of the model's vocabulary to score");
    else
        check_cost(score, score->generation.prompt.count - special, problem);
    score->logprobs = calloc(score->generation.prompt.count, sizeof *score->logprobs);
    if (!score->logprobs) problem_set(problem, 503, "out of memory");
}

static bool submit(struct score *score)
{
    struct daemon *daemon = score->daemon;
    score->task.run = run;
    if (atomic_fetch_add(&daemon->scores, 1) <= (size_t)daemon->config->queue &&
        worker_submit(daemon->scorer, &score->task))
        return true;
    atomic_fetch_sub(&daemon->scores, 1);
    return false;
}

enum http_outcome api_score(struct http_request *request, void *context)
{
    struct daemon *daemon = context;
    struct problem problem = {0};
    size_t size;
    if (completion_is_draining(request, daemon)) return HTTP_REPLIED;
    const char *text = http_request_body(request, &size);
    json_t *body = fields_parse_body(text, size, &problem);
    if (!body) return completion_refuse(request, &problem);
    struct score *score = calloc(1, sizeof *score);
    if (!score) {
        json_decref(body);
        problem_set(&problem, 503, "out of memory");
        return completion_refuse(request, &problem);
    }
    *score = (struct score){.request = request, .daemon = daemon, .body = body};
    http_request_on_release(request, release, score);
    const struct field_table table = {rows, sizeof rows / sizeof *rows};
    fields_read_json(&table, &score->fields, body, NULL, &problem);
    score->served = completion_acquire(daemon, &score->fields.model, &problem);
    if (score->served) open_text(score, &problem);
    if (problem.status) return completion_refuse(request, &problem);
    http_request_suspend(request, &(struct http_waiter){.resumed = resumed, .gone = gone, .context = score});
    if (submit(score)) return HTTP_LATER;
    problem_set(&problem, 503, "too many texts are waiting to be scored; try again later");
    completion_refuse(request, &problem);
    http_request_resume(request);
    return HTTP_LATER;
}
