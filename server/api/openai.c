/* /v1/completions and /v1/models: the API of OpenAI's clients. suffix and unknown fields are refused, in
 * OpenAI's form of errors (server/http/problem.c). The further fields of POST /generate are served, too. What stands in
 * an answer's `logprobs`: openai_logprobs.h. */
#include <limits.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include "base/json.h"
#include "model/generate/answer.h"
#include "server/api/api.h"
#include "server/api/completion.h"
#include "server/api/openai_logprobs.h"
#include "server/api/text_reply.h"

#define DEFAULT_MAX_TOKENS 16 /* OpenAI's */

static const char *const unknown_choices[] = {"skip", "error", NULL};
static const char *const choice_modes[] = {[COMPLETION_SAMPLE] = "sample", [COMPLETION_LIKELIEST] = "likeliest", NULL};

#define MEMBER(name) offsetof(struct completion_fields, name)

static const struct field openai_rows[] = {
    [COMPLETION_ROW_LENGTH] = {"max_tokens", FIELD_INTEGER, MEMBER(length), 0, 0, NULL, FIELD_NULLABLE},
    [COMPLETION_ROW_N] = {"n", FIELD_INTEGER, MEMBER(n), 1, 0, NULL, FIELD_NULLABLE},
    [COMPLETION_ROW_SEED] = {"seed", FIELD_INTEGER, MEMBER(seed), 0, FIELDS_MAX_INTEGER, NULL, FIELD_NULLABLE},
    [COMPLETION_ROW_BEST_OF] = {"best_of", FIELD_INTEGER, MEMBER(best_of), 1, 0, NULL, FIELD_NULLABLE},
    {"logprobs", FIELD_INTEGER, MEMBER(shown_logprobs), 0, GENERATION_MAX_LOGPROBS, NULL, FIELD_NULLABLE},
    {"model", FIELD_TEXT, MEMBER(model), 0, 0, NULL, FIELD_NULLABLE},
    {"prompt", FIELD_PROMPT, MEMBER(prompt), 0, 0, NULL, FIELD_NULLABLE},
    {"logit_bias", FIELD_OBJECT, MEMBER(logit_bias), 0, 0, NULL, FIELD_NULLABLE},
    {"stop", FIELD_TEXTS, MEMBER(stop), 1, STOP_MAX_BYTES, NULL, FIELD_NULLABLE},
    {"stream", FIELD_BOOL, MEMBER(stream), 0, 0, NULL, FIELD_NULLABLE},
    {"stream_options", FIELD_OBJECT, MEMBER(stream_options), 0, 0, NULL, FIELD_NULLABLE},
    {"echo", FIELD_BOOL, MEMBER(echo), 0, 0, NULL, FIELD_NULLABLE},
    {"suffix", FIELD_TEXT, MEMBER(suffix), 0, 0, NULL, FIELD_NULLABLE},
    {"user", FIELD_IGNORED, 0, 0, 0, NULL, 0},
    {"store", FIELD_IGNORED, 0, 0, 0, NULL, 0},
    {"metadata", FIELD_IGNORED, 0, 0, 0, NULL, 0},
    {"guided_regex", FIELD_TEXT, MEMBER(regex), 0, 0, NULL, FIELD_NULLABLE},
    {"guided_choice", FIELD_ARRAY, MEMBER(choices), 0, 0, NULL, FIELD_NULLABLE},
    {"choice_mode", FIELD_CHOICE, MEMBER(choice_mode), 0, 0, choice_modes, FIELD_NULLABLE},
    {"min_length", FIELD_INTEGER, MEMBER(min_length), 0, FIELDS_MAX_INTEGER, NULL, FIELD_NULLABLE},
    {"include_stop", FIELD_BOOL, MEMBER(include_stop), 0, 0, NULL, FIELD_NULLABLE},
    {"ignore_eos", FIELD_BOOL, MEMBER(ignore_eos), 0, 0, NULL, FIELD_NULLABLE},
    {"session", FIELD_TEXT, MEMBER(session), 0, 0, NULL, FIELD_NULLABLE},
    {"cache_prompt", FIELD_BOOL, MEMBER(cache_prompt), 0, 0, NULL, FIELD_NULLABLE},
    {"state", FIELD_STATE, MEMBER(state), 0, 0, NULL, FIELD_NULLABLE},
    {"return_state", FIELD_BOOL, MEMBER(return_state), 0, 0, NULL, FIELD_NULLABLE},
    {"unknown", FIELD_CHOICE, MEMBER(unknown), 0, 0, unknown_choices, FIELD_NULLABLE},
    {"label", FIELD_TEXT, MEMBER(label), 0, 0, NULL, FIELD_NULLABLE},
};

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

/* {"id":...,"object":...,"created":...,"model":...,"choices":[ */
static void begin_document(const struct completion *completion, struct json_writer *out)
{
    const char *id = http_request_id(completion->request), *model = completion->served->model.name;
    json_write_literal(out, "{\"id\":");
    json_write_string(out, id, strlen(id));
    json_write_literal(out, ",\"object\":\"text_completion\",\"created\":");
    json_write_integer(out, completion->created);
    json_write_literal(out, ",\"model\":");
    json_write_string(out, model, strlen(model));
    json_write_literal(out, ",\"choices\":[");
}

static void end_choice(const struct completion *completion, size_t index, const struct generation *ended,
                       struct json_writer *out)
{
    if (ended && completion->fields.return_state) {
        json_write_literal(out, ",\"state\":");
        answer_write_state(&completion->owner, ended, out);
    }
    json_write_literal(out, ",\"index\":");
    json_write_integer(out, (int64_t)index);
    if (!ended)
        json_write_literal(out, ",\"finish_reason\":null}");
    else if (ended->finish == FINISH_LENGTH)
        json_write_literal(out, ",\"finish_reason\":\"length\"}");
    else
        json_write_literal(out, ",\"finish_reason\":\"stop\"}");
}

/* All choices, without the times: the parts may still run. */
static struct answer whole_answer(const struct completion *completion)
{
    return (struct answer){.choices = completion->choices,
                           .count = completion->shown,
                           .has_prompts = completion->has_prompts,
                           .warning = completion_warning(completion)};
}

static void write_usage(const struct completion *completion, struct json_writer *out)
{
    const struct answer answer = whole_answer(completion);
    const struct answer_usage usage = answer_usage(&answer);
    json_write_literal(out, ",\"usage\":{\"prompt_tokens\":");
    json_write_integer(out, (int64_t)usage.prompt);
    json_write_literal(out, ",\"completion_tokens\":");
    json_write_integer(out, (int64_t)usage.completion);
    json_write_literal(out, ",\"total_tokens\":");
    json_write_integer(out, (int64_t)(usage.prompt + usage.completion));
    json_write_literal(out, ",\"prompt_tokens_details\":{\"cached_tokens\":");
    json_write_integer(out, (int64_t)usage.cached);
    json_write_literal(out, "}}");
}

/* OpenAI's answers have no warnings, and its clients keep fields that they do not know. */
static void write_warnings(const struct completion *completion, struct json_writer *out)
{
    const struct answer answer = whole_answer(completion);
    bool any = answer.warning;
    for (size_t i = 0; i < answer.count && !any; i++) any = generation_warning_count(answer.choices[i].generation) > 0;
    if (!any) return;
    json_write_literal(out, ",");
    answer_write_all_warnings(&answer, out);
}

/* How far the answer is written. */
struct answer_state {
    enum {
        STATE_BEGIN,      /* the beginning of a choice */
        STATE_TEXT,       /* its text */
        STATE_LISTS,      /* its "logprobs" */
        STATE_CHOICE_END, /* its other members */
        STATE_END,        /* all choices are written */
    } stage;
    size_t choice, at; /* at: bytes of the text, the prompt's before them, or items of the list */
    struct json_string string;
    struct openai_logprobs lists;
};

/* The next part of a choice's text; true where that was all. */
static bool write_text(const struct completion *completion, struct answer_state *state, struct json_writer *out)
{
    const struct answer_choice *choice = &completion->choices[state->choice];
    const struct generation *generation = choice->generation;
    const size_t before = completion->fields.echo ? choice->prompt_bytes : 0;
    const bool in_prompt = state->at < before;
    const size_t left = in_prompt ? before - state->at : before + generation->text_bytes - state->at;
    const size_t part = left < TEXT_REPLY_PART ? left : TEXT_REPLY_PART;
    json_write_part(out, &state->string, in_prompt ? choice->prompt + state->at : generation->text + state->at - before,
                    part);
    state->at += part;
    if (in_prompt || part < left) return false;
    json_write_part_end(out, &state->string);
    json_write_literal(out, "\",\"logprobs\":");
    return true;
}

/* Begins the members after the text. */
static void begin_lists(const struct completion *completion, struct answer_state *state, struct json_writer *out)
{
    state->lists = openai_logprobs_begin(completion, state->choice, NULL);
    state->stage = completion->fields.logprobs > 0 ? STATE_LISTS : STATE_CHOICE_END;
    if (state->stage == STATE_CHOICE_END) json_write_literal(out, "null");
}

/* The next piece; false: the choices are all written. */
static bool write_choices(const struct completion *completion, struct answer_state *state, struct json_writer *out)
{
    switch (state->stage) {
    case STATE_BEGIN:
        if (state->choice > 0) json_write_literal(out, ",");
        json_write_literal(out, "{\"text\":\"");
        state->at = 0;
        state->stage = STATE_TEXT;
        break;
    case STATE_TEXT:
        if (write_text(completion, state, out)) begin_lists(completion, state, out);
        break;
    case STATE_LISTS:
        if (!openai_logprobs_write(&state->lists, out)) state->stage = STATE_CHOICE_END;
        break;
    case STATE_CHOICE_END:
        end_choice(completion, state->choice, completion->choices[state->choice].generation, out);
        state->stage = ++state->choice < completion->shown ? STATE_BEGIN : STATE_END;
        break;
    case STATE_END:
        return false;
    }
    return true;
}

static bool openai_answer(const struct completion *completion, void *context, struct json_writer *out)
{
    struct answer_state *state = context;
    if (state->stage == STATE_BEGIN && state->choice == 0) begin_document(completion, out);
    if (write_choices(completion, state, out)) return true;
    json_write_literal(out, "]");
    write_usage(completion, out);
    write_warnings(completion, out);
    json_write_literal(out, "}\n");
    return false;
}

static void openai_event(const struct completion *completion, const struct completion_piece *piece,
                         struct json_writer *out)
{
    const struct completion_part *part = &completion->parts[piece->index];
    const struct generation *generation = &part->job.generation;
    const struct answer_choice *choice = &completion->choices[piece->index];
    const bool first = part->sent_text == 0 && part->sent_tokens == 0;
    struct json_string text = {0};
    begin_document(completion, out);
    json_write_literal(out, "{\"text\":\"");
    if (first && completion->fields.echo) json_write_part(out, &text, choice->prompt, choice->prompt_bytes);
    json_write_part(out, &text, piece->text, piece->size);
    json_write_part_end(out, &text);
    json_write_literal(out, "\",\"logprobs\":");
    if (completion->fields.logprobs > 0) {
        struct openai_logprobs lists = openai_logprobs_begin(completion, piece->index, piece);
        while (openai_logprobs_write(&lists, out)) continue;
    } else {
        json_write_literal(out, "null");
    }
    end_choice(completion, piece->index, piece->last ? generation : NULL, out);
    json_write_literal(out, "]");
    if (completion->fields.include_usage) json_write_literal(out, ",\"usage\":null");
    if (first && piece->index == 0) write_warnings(completion, out);
    json_write_literal(out, "}");
}

static bool openai_after(const struct completion *completion, struct json_writer *out)
{
    if (!completion->fields.include_usage) return false;
    begin_document(completion, out);
    json_write_literal(out, "]");
    write_usage(completion, out);
    json_write_literal(out, "}");
    return true;
}

static const struct completion_dialect dialect = {.rows = openai_rows,
                                                  .row_count = sizeof openai_rows / sizeof *openai_rows,
                                                  .is_openai = true,
                                                  .find_token = find_token,
                                                  .answer = openai_answer,
                                                  .answer_size = sizeof(struct answer_state),
                                                  .event = openai_event,
                                                  .after = openai_after};

/* --- Requests --- */

static void openai_check(struct completion_fields *fields, bool logprobs_given, struct problem *problem)
{
    if (fields->suffix.size > 0) problem_add_field(problem, "suffix", "is not served: the model reads one way");
    if (logprobs_given) fields->logprobs = fields->shown_logprobs > 0 ? fields->shown_logprobs : 1;
    fields->scores_prompt = fields->echo && logprobs_given;
    if (fields->stream_options && !fields->stream)
        problem_add_field(problem, "stream_options", "is for streams: stream must be true");
    fields->include_usage = json_is_true(json_object_get(fields->stream_options, "include_usage"));
}

/* OpenAI has 404 for a model that is not there, whatever else is wrong. The caller releases what it gets. */
static struct served *acquire_model(const struct services *services, const struct field_text *name,
                                    struct problem *problem)
{
    struct problem own = {0};
    struct served *served = completion_acquire(services, name, &own);
    if (served) return served;
    if (own.status == 422) own.status = 404;
    problem_close(problem);
    *problem = own;
    return NULL;
}

static bool model_is_there(const struct services *services, const struct field_text *name, struct problem *problem)
{
    struct served *served = acquire_model(services, name, problem);
    registry_release(served);
    return served;
}

enum http_outcome api_v1_completions(struct http_request *request, void *context)
{
    struct services *services = context;
    struct problem problem = {0};
    size_t size;
    if (completion_is_draining(request, services)) return HTTP_REPLIED;
    const char *text = http_request_body(request, &size);
    json_t *body = fields_parse_body(text, size, &problem);
    if (!body) return completion_refuse(request, &problem);
    struct completion *completion = completion_new(request, services, &dialect, body);
    if (!completion) {
        problem_set(&problem, 503, "out of memory");
        return completion_refuse(request, &problem);
    }
    struct completion_fields *fields = &completion->fields;
    if (fields->length > DEFAULT_MAX_TOKENS) fields->length = DEFAULT_MAX_TOKENS;
    completion_read(completion, NULL, &problem);
    /* null is as if it were not there. */
    fields->seed_given = json_is_number(json_object_get(body, "seed"));
    openai_check(fields, json_is_number(json_object_get(body, "logprobs")), &problem);
    if (fields->model.data && !model_is_there(services, &fields->model, &problem))
        return completion_refuse(request, &problem);
    return completion_run(completion, &problem);
}

static json_t *model_document(const struct served *served)
{
    const char *name = served->model.name;
    return json_pack("{s:o, s:s, s:I, s:s}", "id", json_safe_string(name, strlen(name)), "object", "model", "created",
                     (json_int_t)served_modified(served), "owned_by", "lstmd");
}

enum http_outcome api_v1_models(struct http_request *request, void *context)
{
    const struct services *services = context;
    const void *position = NULL;
    json_t *data = json_array();
    for (struct served *served; (served = registry_next_loaded(services->registry, &position));) {
        if (json_array_append_new(data, model_document(served)) != 0) {
            json_decref(data);
            data = NULL; /* json_pack() then fails, too: 503 */
        }
        registry_release(served);
    }
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
