/* /v1/completions and /v1/models: what OpenAI's clients speak. A prompt is one string; tokens by id, suffix and best_of
 * are refused, as is what OpenAI does not know, with OpenAI's form of errors (server/problem.c). Fields of POST
 * /generate that OpenAI does not have are served, too. */
#include <limits.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/utf8.h"
#include "server/api.h"
#include "server/completion.h"
#include "server/model_card.h"

#define DEFAULT_MAX_TOKENS 16 /* OpenAI's */
#define PENALTY            2.0

static const char *const unknown_choices[] = {"skip", "error", NULL};

#define MEMBER(name) offsetof(struct completion_fields, name)

enum { ROW_LENGTH, ROW_N, ROW_SEED, ROW_LOGPROBS };

static const struct field rows[] = {
    [ROW_LENGTH] = {"max_tokens", FIELD_INTEGER, MEMBER(length), 1, 0, NULL, FIELD_NULLABLE},
    [ROW_N] = {"n", FIELD_INTEGER, MEMBER(n), 1, 0, NULL, FIELD_NULLABLE},
    [ROW_SEED] = {"seed", FIELD_INTEGER, MEMBER(seed), 0, FIELDS_MAX_INTEGER, NULL, FIELD_NULLABLE},
    [ROW_LOGPROBS] = {"logprobs", FIELD_INTEGER, MEMBER(shown_logprobs), 0, GENERATION_MAX_LOGPROBS, NULL,
                      FIELD_NULLABLE},
    {"model", FIELD_TEXT, MEMBER(model), 0, 0, NULL, 0},
    {"prompt", FIELD_TEXTS, MEMBER(prompts), 0, FIELDS_MAX_INTEGER, NULL, FIELD_NULLABLE},
    {"temperature", FIELD_REAL, MEMBER(temperature), 0, SAMPLER_MAX_TEMPERATURE, NULL, FIELD_NULLABLE},
    {"top_p", FIELD_REAL, MEMBER(top_p), 0, 1, NULL, FIELD_NULLABLE | FIELD_ABOVE},
    {"presence_penalty", FIELD_REAL, MEMBER(presence_penalty), -PENALTY, PENALTY, NULL, FIELD_NULLABLE},
    {"frequency_penalty", FIELD_REAL, MEMBER(frequency_penalty), -PENALTY, PENALTY, NULL, FIELD_NULLABLE},
    {"logit_bias", FIELD_OBJECT, MEMBER(logit_bias), 0, 0, NULL, FIELD_NULLABLE},
    {"stop", FIELD_TEXTS, MEMBER(stop), 1, STOP_MAX_BYTES, NULL, FIELD_NULLABLE},
    {"stream", FIELD_BOOL, MEMBER(stream), 0, 0, NULL, FIELD_NULLABLE},
    {"stream_options", FIELD_OBJECT, MEMBER(stream_options), 0, 0, NULL, FIELD_NULLABLE},
    {"echo", FIELD_BOOL, MEMBER(echo), 0, 0, NULL, FIELD_NULLABLE},
    {"best_of", FIELD_INTEGER, MEMBER(best_of), 1, COMPLETION_MAX_N, NULL, FIELD_NULLABLE},
    {"suffix", FIELD_TEXT, MEMBER(suffix), 0, 0, NULL, FIELD_NULLABLE},
    {"user", FIELD_IGNORED, 0, 0, 0, NULL, 0},
    {"top_k", FIELD_INTEGER, MEMBER(top_k), 0, FIELDS_MAX_INTEGER, NULL, 0},
    {"min_p", FIELD_REAL, MEMBER(min_p), 0, 1, NULL, FIELD_BELOW},
    {"repetition_penalty", FIELD_REAL, MEMBER(repetition_penalty), SAMPLER_MIN_REPETITION, SAMPLER_MAX_REPETITION, NULL,
     0},
    {"repetition_window", FIELD_INTEGER, MEMBER(repetition_window), 0, FIELDS_MAX_INTEGER, NULL, 0},
    {"ignore_eos", FIELD_BOOL, MEMBER(ignore_eos), 0, 0, NULL, 0},
    {"session", FIELD_TEXT, MEMBER(session), 0, 0, NULL, 0},
    {"cache_prompt", FIELD_BOOL, MEMBER(cache_prompt), 0, 0, NULL, 0},
    {"unknown", FIELD_CHOICE, MEMBER(unknown), 0, 0, unknown_choices, 0},
    {"label", FIELD_TEXT, MEMBER(label), 0, 0, NULL, 0},
};

#define ROW_COUNT (sizeof rows / sizeof *rows)

/* logit_bias names tokens by id. */
static bool find_token(const struct vocabulary *vocabulary, const char *name, size_t size, uint32_t *id,
                       struct error *err)
{
    char *end = NULL;
    const bool digits = size > 0 && size < 10 && strspn(name, "0123456789") == size;
    const unsigned long number = digits ? strtoul(name, &end, 10) : ULONG_MAX;
    if (number >= vocabulary_size(vocabulary))
        return error_set(err, ERROR_INVALID, "\"%.*s\" is not a token id, an integer from 0 to %u",
                         (int)(size < 64 ? size : 64), name, vocabulary_size(vocabulary) - 1);
    *id = (uint32_t)number;
    return true;
}

/* --- Documents --- */

static json_t *token_name(const struct generation *generation, uint32_t id)
{
    size_t n;
    const char *text = vocabulary_token(generation->vocabulary, id, &n);
    return json_safe_string(text, n);
}

static double finite(float logprob)
{
    return logprob > -9999 ? (double)logprob : -9999;
}

static json_t *top_logprobs(const struct completion *completion, const struct generation *generation, size_t index)
{
    json_t *top = json_object();
    for (size_t i = 0; i < generation->alternative_count && i < completion->fields.shown_logprobs; i++) {
        const struct token_probability *one = &generation->alternatives[index * generation->alternative_count + i];
        json_t *name = token_name(generation, one->id);
        json_object_set_new(top, name ? json_string_value(name) : "", json_real(finite(one->logprob)));
        json_decref(name);
    }
    return top;
}

/* {tokens, token_logprobs, top_logprobs, text_offset}, or null where they were not asked for. Offsets are characters of
 * the completion (behind the prompt, with echo), which the text is valid UTF-8 for up to there. */
static json_t *logprobs(const struct completion *completion, const struct generation *generation, size_t first,
                        size_t count)
{
    if (completion->fields.logprobs == 0) return json_null();
    json_t *tokens = json_array(), *values = json_array(), *tops = json_array(), *offsets = json_array();
    const struct field_text *prompt = &completion->fields.prompt;
    size_t begin = first > 0 ? generation->tokens[first - 1].text_end : 0;
    size_t characters = utf8_count(generation->text, begin);
    if (completion->fields.echo && prompt->data) characters += utf8_count(prompt->data, prompt->size);
    for (size_t i = first; i < first + count; i++) {
        const struct generated_token *token = &generation->tokens[i];
        json_array_append_new(tokens, token_name(generation, token->id));
        json_array_append_new(values, json_real(finite(token->logprob)));
        json_array_append_new(tops, top_logprobs(completion, generation, i));
        json_array_append_new(offsets, json_integer((json_int_t)characters));
        characters += utf8_count(generation->text + begin, token->text_end - begin);
        begin = token->text_end;
    }
    return json_pack("{s:o, s:o, s:o, s:o}", "tokens", tokens, "token_logprobs", values, "top_logprobs", tops,
                     "text_offset", offsets);
}

static const char *finish_name(enum finish_reason finish)
{
    return finish == FINISH_LENGTH ? "length" : "stop";
}

/* text: what follows the prompt; with_prompt: puts the prompt before it. finish: NULL while it runs. */
static json_t *choice(const struct completion *completion, const struct completion_piece *piece, bool with_prompt,
                      size_t shown_tokens)
{
    const struct field_text *prompt = &completion->fields.prompt;
    const struct generation *generation = &completion->parts[piece->index].job.generation;
    const size_t before = with_prompt && prompt->data ? prompt->size : 0;
    char *text = malloc(before + piece->size + 1);
    if (!text) return NULL;
    if (before) memcpy(text, prompt->data, before);
    memcpy(text + before, piece->text, piece->size);
    json_t *json = json_pack("{s:o, s:I, s:o, s:s?}", "text", json_safe_string(text, before + piece->size), "index",
                             (json_int_t)piece->index, "logprobs",
                             logprobs(completion, generation, piece->first_token, shown_tokens), "finish_reason",
                             piece->last ? finish_name(generation->finish) : NULL);
    free(text);
    return json;
}

static json_t *usage(const struct completion *completion)
{
    const json_int_t prompt = (json_int_t)completion->parts[0].job.generation.prompt.count;
    json_int_t written = 0;
    for (size_t i = 0; i < completion->count; i++) written += (json_int_t)completion->parts[i].job.generation.produced;
    return json_pack("{s:I, s:I, s:I, s:{s:I}}", "prompt_tokens", prompt, "completion_tokens", written, "total_tokens",
                     prompt + written, "prompt_tokens_details", "cached_tokens",
                     (json_int_t)completion->parts[0].job.generation.cached);
}

/* usage: NULL leaves it out. */
static json_t *document(const struct completion *completion, json_t *choices, json_t *numbers)
{
    return json_pack("{s:s, s:s, s:I, s:s, s:o, s:o*}", "id", http_request_id(completion->request), "object",
                     "text_completion", "created", (json_int_t)completion->created, "model",
                     completion->served->model.name, "choices", choices, "usage", numbers);
}

static json_t *answer(const struct completion *completion)
{
    json_t *choices = json_array();
    for (size_t i = 0; i < completion->count; i++) {
        const struct generation *generation = &completion->parts[i].job.generation;
        const struct completion_piece all = {
            .index = i, .text = generation->text, .size = generation->text_bytes, .last = true};
        if (json_array_append_new(choices,
                                  choice(completion, &all, completion->fields.echo, generation->tokens_ready)) == 0)
            continue;
        json_decref(choices);
        return NULL;
    }
    return document(completion, choices, usage(completion));
}

static json_t *event(const struct completion *completion, const struct completion_piece *piece)
{
    const struct completion_part *part = &completion->parts[piece->index];
    const struct generation *generation = &part->job.generation;
    const bool first = part->sent_text == 0 && part->sent_tokens == 0;
    const size_t shown = piece->last ? generation->tokens_ready - piece->first_token : piece->token_count;
    json_t *one = choice(completion, piece, first && completion->fields.echo, shown);
    json_t *json = one ? document(completion, json_pack("[o]", one), NULL) : NULL;
    if (json && completion->fields.include_usage) json_object_set_new(json, "usage", json_null());
    return json;
}

static json_t *after(const struct completion *completion)
{
    return completion->fields.include_usage ? document(completion, json_array(), usage(completion)) : NULL;
}

static const struct completion_dialect dialect = {
    .length_field = "max_tokens", .find_token = find_token, .answer = answer, .event = event, .after = after};

/* --- Requests --- */

static void check(struct completion_fields *fields, bool logprobs_given, struct problem *problem)
{
    if (fields->prompts.count > 1)
        problem_add_field(problem, "prompt", "must be one string; send one request for each of several");
    else if (fields->prompts.count == 1)
        fields->prompt = fields->prompts.items[0];
    if (fields->best_of != 0 && fields->best_of != fields->n)
        problem_add_field(problem, "best_of", "must be n: all texts that are made are sent");
    if (fields->suffix.size > 0) problem_add_field(problem, "suffix", "is not served: the model reads one way");
    if (logprobs_given) fields->logprobs = fields->shown_logprobs > 0 ? fields->shown_logprobs : 1;
    if (fields->echo && logprobs_given)
        problem_add_field(problem, "echo", "cannot be joined with logprobs; POST /score has those of a given text");
    if (fields->stream_options && !fields->stream)
        problem_add_field(problem, "stream_options", "is for streams: stream must be true");
    fields->include_usage = json_is_true(json_object_get(fields->stream_options, "include_usage"));
}

/* OpenAI has 404 for a model that is not there, whatever else is wrong. The caller releases what it gets. */
static struct served *acquire_model(const struct daemon *daemon, const struct field_text *name, struct problem *problem)
{
    struct problem own = {0};
    struct served *served = completion_acquire(daemon, name, &own);
    if (served) return served;
    if (own.status == 422) own.status = 404;
    problem_close(problem);
    *problem = own;
    return NULL;
}

static bool model_is_there(const struct daemon *daemon, const struct field_text *name, struct problem *problem)
{
    struct served *served = acquire_model(daemon, name, problem);
    registry_release(served);
    return served != NULL;
}

enum http_outcome api_v1_completions(struct http_request *request, void *context)
{
    struct daemon *daemon = context;
    struct problem problem = {0};
    size_t size;
    if (completion_is_draining(request, daemon)) return HTTP_REPLIED;
    const char *text = http_request_body(request, &size);
    json_t *body = fields_parse_body(text, size, &problem);
    if (!body) return completion_refuse(request, &problem);
    struct completion *completion = completion_new(request, daemon, &dialect, body);
    if (!completion) {
        problem_set(&problem, 503, "out of memory");
        return completion_refuse(request, &problem);
    }
    struct completion_fields *fields = &completion->fields;
    struct field limited[ROW_COUNT];
    memcpy(limited, rows, sizeof rows);
    limited[ROW_LENGTH].maximum = (double)daemon->config->max_length;
    limited[ROW_N].maximum = (double)daemon->config->max_n;
    const struct field_table table = {limited, ROW_COUNT};
    if (fields->length > DEFAULT_MAX_TOKENS) fields->length = DEFAULT_MAX_TOKENS;
    fields_read_json(&table, fields, body, NULL, &problem);
    /* null is as if it were not there. */
    fields->seed_given = json_is_number(json_object_get(body, "seed"));
    check(fields, json_is_number(json_object_get(body, "logprobs")), &problem);
    if (fields->model.data && !model_is_there(daemon, &fields->model, &problem))
        return completion_refuse(request, &problem);
    return completion_run(completion, &problem);
}

/* When its weights were written, in seconds since 1970. */
static json_int_t written(const struct served *served)
{
    struct tm utc = {0};
    const char *text = json_string_value(json_object_get(served->card, "modified_at"));
    return text && strptime(text, MODEL_CARD_TIME, &utc) ? (json_int_t)timegm(&utc) : 0;
}

static json_t *model_document(const struct served *served)
{
    const char *name = served->model.name;
    return json_pack("{s:o, s:s, s:I, s:s}", "id", json_safe_string(name, strlen(name)), "object", "model", "created",
                     written(served), "owned_by", "lstmd");
}

static void add_model(void *context, const struct served *served, bool is_default)
{
    (void)is_default;
    json_array_append_new(context, model_document(served));
}

enum http_outcome api_v1_models(struct http_request *request, void *context)
{
    const struct daemon *daemon = context;
    json_t *data = json_array();
    registry_each_loaded(daemon->registry, add_model, data);
    http_reply_json(request, 200, json_pack("{s:s, s:o}", "object", "list", "data", data));
    return HTTP_REPLIED;
}

enum http_outcome api_v1_model(struct http_request *request, void *context)
{
    const char *name = http_request_parameter(request);
    const struct field_text wanted = {name, strlen(name)};
    struct problem problem = {0};
    struct served *served = acquire_model(context, &wanted, &problem);
    if (!served) return completion_refuse(request, &problem);
    http_reply_json(request, 200, model_document(served));
    registry_release(served);
    return HTTP_REPLIED;
}
