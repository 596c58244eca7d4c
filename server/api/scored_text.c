#include "server/api/scored_text.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "server/api/state_field.h"

const char *const scored_text_unknown[] = {"skip", "error", NULL};

size_t scored_text_special(const struct scored_text *text)
{
    if (text->state) return text->carried.pending != TOKEN_NONE;
    return (vocabulary_start(text->generation.vocabulary) != TOKEN_NONE) + (text->label.data ? (size_t)1 : 0);
}

/* With a window, each token costs as many steps as the window has tokens. */
static void check_cost(const struct served *served, const char *field, size_t tokens, size_t limit,
                       struct problem *problem)
{
    const size_t window = served->stepper.architecture.window.size;
    if (tokens <= limit / (window > 0 ? window : 1)) return;
    if (window == 0)
        problem_add_field(problem, field, "has %zu tokens; limits.max_score is %zu", tokens, limit);
    else
        problem_add_field(problem, field,
                          "has %zu tokens, each scored from a window of %zu; limits.max_score is %zu tokens in all",
                          tokens, window, limit);
}

bool scored_text_keep_state(struct scored_text *text, const struct served *served, const char *field,
                            struct problem *problem)
{
    if (!state_field_is_served(served, field, problem)) return false;
    if (!text->carried.state) text->carried.state = calloc(served->stepper.state_size, sizeof(float));
    return text->carried.state || problem_set(problem, 503, "out of memory");
}

static bool read_state(struct scored_text *text, const struct served *served, struct problem *problem)
{
    if (!text->state) return true;
    if (text->label.data)
        problem_add_field(problem, "label", "stands at the start of a text; the text of state has begun already");
    return state_field_read(text->state, served, &text->carried, problem);
}

/* The field `ids` as numbers, [json_array_size()]; the caller's. NULL with the problem. */
static uint32_t *read_ids(const json_t *array, struct problem *problem)
{
    const size_t count = json_array_size(array);
    uint32_t *ids = calloc(count + 1, sizeof *ids);
    if (!ids) problem_set(problem, 503, "out of memory");
    for (size_t i = 0; ids && i < count; i++) {
        const json_t *item = json_array_get(array, i);
        const double number = json_number_value(item);
        if (!json_is_number(item) || !(number >= 0 && number < TOKEN_NONE) || number != floor(number)) {
            problem_add_field(problem, "ids", "[%zu] must be a token id, an integer from 0", i);
            free(ids);
            return NULL;
        }
        ids[i] = (uint32_t)number;
    }
    return ids;
}

/* The field that has the text. */
static const char *text_field(const struct scored_text *text)
{
    return text->ids ? "ids" : "text";
}

/* Opens the generation whose prompt is the text. label: NULL, or that of the request; ids: NULL, or instead of it. */
static void open_generation(struct scored_text *text, const struct served *served, const char *label,
                            const uint32_t *ids, struct problem *problem)
{
    const struct generation_request wanted = {.prompt = text->text.data ? text->text.data : "",
                                              .prompt_bytes = text->text.size,
                                              .prompt_name = "text",
                                              .ids = ids,
                                              .id_count = json_array_size(text->ids),
                                              .label = label,
                                              .length = 1,
                                              .unknown_is_error = text->unknown == 1,
                                              .continues = text->state,
                                              .pending = text->carried.pending,
                                              .kernels = served->stepper.kernels};
    const char *field = NULL;
    struct error err = {0};
    if (generation_open(&text->generation, served->model.vocabulary, &wanted, &field, &err)) return;
    if (!field || err.code != ERROR_INVALID)
        problem_set_error(problem, &err);
    else
        problem_add_field(problem, strcmp(field, "prompt") == 0 ? text_field(text) : field, "%s", err.message);
}

bool scored_text_encode(struct scored_text *text, const struct services *services, const struct served *served,
                        struct problem *problem)
{
    text->carried.pending = TOKEN_NONE;
    if (!read_state(text, served, problem)) return false;
    if (text->ids && text->text.data) problem_add_field(problem, "ids", "cannot be joined with text");
    const bool labelled = text->label.data && !text->state;
    char *label = labelled ? strndup(text->label.data, text->label.size) : NULL;
    uint32_t *ids = text->ids ? read_ids(text->ids, problem) : NULL;
    if (labelled && !label) problem_set(problem, 503, "out of memory");
    if (!text->ids || ids) open_generation(text, served, label, ids, problem);
    free(label);
    free(ids);
    if (problem->status) return false;
    check_cost(served, text_field(text), text->generation.prompt.count - scored_text_special(text),
               (size_t)services->config->max_score, problem);
    return !problem->status;
}

bool scored_text_open(struct scored_text *text, const struct services *services, const struct served *served,
                      struct problem *problem)
{
    if (!text->text.size) problem_add_field(problem, "text", "must be a text that is not empty");
    if (!scored_text_encode(text, services, served, problem)) return false;
    /* Without a start token, the first token has no probability. */
    const size_t special = scored_text_special(text), count = text->generation.prompt.count;
    text->first = special > 0 ? special : 1;
    if (count <= text->first) problem_add_field(problem, "text", "has no token of the model's vocabulary to score");
    return !problem->status;
}

void scored_text_close(struct scored_text *text)
{
    generation_close(&text->generation);
    json_decref(text->state);
    json_decref(text->ids);
    free(text->carried.state);
}

bool scored_text_submit(struct services *services, struct task *task)
{
    if (atomic_fetch_add(&services->scores, 1) <= (size_t)services->config->queue &&
        worker_submit(services->scorer, task))
        return true;
    atomic_fetch_sub(&services->scores, 1);
    return false;
}

static void write_number(const char *key, double value, struct json_writer *out)
{
    json_write(out, key, strlen(key));
    json_write_real(out, value);
}

void scored_text_write_sums(const struct scored_text *text, double nats, struct json_writer *out)
{
    const struct generation *generation = &text->generation;
    const size_t count = generation->prompt.count - text->first;
    const size_t characters = vocabulary_encoded_characters(text->text.data, text->text.size, &generation->unknown);
    const double perplexity = exp(nats / (double)count);
    json_write_literal(out, "\"token_count\":");
    json_write_integer(out, (int64_t)count);
    json_write_literal(out, ",\"characters\":");
    json_write_integer(out, (int64_t)characters);
    write_number(",\"nats\":", nats, out);
    write_number(",\"nats_per_token\":", nats / (double)count, out);
    write_number(",\"nats_per_char\":", nats / (double)characters, out);
    write_number(",\"bits_per_char\":", nats / (double)characters / log(2), out);
    write_number(",\"perplexity\":", isfinite(perplexity) ? perplexity : 1e308, out);
}
