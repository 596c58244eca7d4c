/* /v1/completions and /v1/models: the API of OpenAI's clients. A prompt is one string; tokens by id, suffix and best_of
 * are refused, and so are unknown fields, in OpenAI's form of errors (server/http/problem.c). The further fields of
 * POST /generate are served, too. */
#include <limits.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include "base/json.h"
#include "base/utf8.h"
#include "model/generate/answer.h"
#include "server/api/api.h"
#include "server/api/completion.h"
#include "server/api/text_reply.h"

#define DEFAULT_MAX_TOKENS 16 /* OpenAI's */

static const char *const unknown_choices[] = {"skip", "error", NULL};
static const char *const choice_modes[] = {[COMPLETION_SAMPLE] = "sample", [COMPLETION_LIKELIEST] = "likeliest", NULL};

#define MEMBER(name) offsetof(struct completion_fields, name)

static const struct field openai_rows[] = {
    [COMPLETION_ROW_LENGTH] = {"max_tokens", FIELD_INTEGER, MEMBER(length), 1, 0, NULL, FIELD_NULLABLE},
    [COMPLETION_ROW_N] = {"n", FIELD_INTEGER, MEMBER(n), 1, 0, NULL, FIELD_NULLABLE},
    [COMPLETION_ROW_SEED] = {"seed", FIELD_INTEGER, MEMBER(seed), 0, FIELDS_MAX_INTEGER, NULL, FIELD_NULLABLE},
    {"logprobs", FIELD_INTEGER, MEMBER(shown_logprobs), 0, GENERATION_MAX_LOGPROBS, NULL, FIELD_NULLABLE},
    {"model", FIELD_TEXT, MEMBER(model), 0, 0, NULL, FIELD_NULLABLE},
    {"prompt", FIELD_TEXTS, MEMBER(prompts), 0, FIELDS_MAX_INTEGER, NULL, FIELD_NULLABLE},
    {"logit_bias", FIELD_OBJECT, MEMBER(logit_bias), 0, 0, NULL, FIELD_NULLABLE},
    {"stop", FIELD_TEXTS, MEMBER(stop), 1, STOP_MAX_BYTES, NULL, FIELD_NULLABLE},
    {"stream", FIELD_BOOL, MEMBER(stream), 0, 0, NULL, FIELD_NULLABLE},
    {"stream_options", FIELD_OBJECT, MEMBER(stream_options), 0, 0, NULL, FIELD_NULLABLE},
    {"echo", FIELD_BOOL, MEMBER(echo), 0, 0, NULL, FIELD_NULLABLE},
    {"best_of", FIELD_INTEGER, MEMBER(best_of), 1, COMPLETION_MAX_N, NULL, FIELD_NULLABLE},
    {"suffix", FIELD_TEXT, MEMBER(suffix), 0, 0, NULL, FIELD_NULLABLE},
    {"user", FIELD_IGNORED, 0, 0, 0, NULL, 0},
    {"guided_regex", FIELD_TEXT, MEMBER(regex), 0, 0, NULL, FIELD_NULLABLE},
    {"guided_choice", FIELD_ARRAY, MEMBER(choices), 0, 0, NULL, FIELD_NULLABLE},
    {"choice_mode", FIELD_CHOICE, MEMBER(choice_mode), 0, 0, choice_modes, FIELD_NULLABLE},
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

/* Writes a token as it stands in the text, so that the tokens joined are the text: a word has its space before it
 * unless it is the first. A token without text is written by its name. */
static void write_token(const struct vocabulary *vocabulary, uint32_t id, bool first, struct json_writer *out)
{
    size_t n;
    const char *name = vocabulary_token(vocabulary, id, &n);
    const bool spaced =
        !first && vocabulary_level(vocabulary) == TOKEN_LEVEL_WORD && !vocabulary_is_special(vocabulary, id);
    struct json_string string = {0};
    json_write(out, spaced ? "\" " : "\"", spaced ? 2 : 1);
    json_write_part(out, &string, name, n);
    json_write_part_end(out, &string);
    json_write_literal(out, "\"");
}

static size_t token_begin(const struct generation *generation, size_t i)
{
    return i > 0 ? generation->tokens[i - 1].text_end : 0;
}

/* Whether a word at token i has no space before it. */
static bool is_first(const struct generation *generation, size_t i)
{
    const size_t begin = token_begin(generation, i);
    size_t n;
    vocabulary_token(generation->vocabulary, generation->tokens[i].id, &n);
    return begin == 0 && generation->tokens[i].text_end == n;
}

/* The lists of `logprobs`, each with an item per token. */
enum logprobs_list { LIST_TOKENS, LIST_VALUES, LIST_ALTERNATIVES, LIST_OFFSETS, LISTS };
static const char *const list_begins[LISTS] = {"{\"tokens\":[", "],\"token_logprobs\":[", "],\"top_logprobs\":[",
                                               "],\"text_offset\":["};

/* What is being written of a continuation's tokens. */
struct token_lists {
    const struct generation *generation;
    size_t text_end;     /* bytes of its text; SIZE_MAX while it runs: no token is cut yet */
    size_t alternatives; /* per token, at most */
    enum logprobs_list list;
    size_t offset; /* characters of the completion (behind the prompt, with echo) before the next token */
};

/* The token's part of the text: a stop text may have cut it. */
static void write_name(const struct token_lists *lists, size_t i, struct json_writer *out)
{
    const struct generation *generation = lists->generation;
    const struct generated_token *token = &generation->tokens[i];
    const size_t begin = token_begin(generation, i);
    if (begin < lists->text_end && lists->text_end < token->text_end)
        json_write_string(out, generation->text + begin, lists->text_end - begin);
    else
        write_token(generation->vocabulary, token->id, is_first(generation, i), out);
}

/* Writes {"token": logprob}. A name that a likelier token has is left out: bytes that are no character look alike. */
static void write_alternatives(const struct token_lists *lists, size_t index, struct json_writer *out)
{
    const struct generation *generation = lists->generation;
    const size_t all = generation->alternative_count;
    const struct token_probability *top = generation->alternatives + index * all;
    const bool first = is_first(generation, index);
    struct {
        size_t at, size;
    } names[GENERATION_MAX_LOGPROBS];
    size_t count = 0;
    json_write_literal(out, "{");
    for (size_t i = 0; i < all && i < lists->alternatives; i++) {
        const size_t before = out->size;
        if (count > 0) json_write_literal(out, ",");
        names[count].at = out->size;
        write_token(generation->vocabulary, top[i].id, first, out);
        names[count].size = out->size - names[count].at;
        bool known = out->failed;
        for (size_t k = 0; k < count && !known; k++)
            known = names[k].size == names[count].size &&
                    memcmp(out->text + names[k].at, out->text + names[count].at, names[k].size) == 0;
        if (known) {
            out->size = before;
            continue;
        }
        json_write_literal(out, ":");
        json_write_real(out, answer_logprob(top[i].logprob));
        count++;
    }
    json_write_literal(out, "}");
}

/* Characters of the prompt, where it stands before the text. */
static size_t first_offset(const struct completion *completion)
{
    const struct field_text *prompt = &completion->fields.prompt;
    return completion->fields.echo && prompt->data ? utf8_count(prompt->data, prompt->size) : 0;
}

/* Of token i; those of a list are written in their order. The text is taken for valid UTF-8. */
static void write_item(struct token_lists *lists, size_t i, struct json_writer *out)
{
    const struct generation *generation = lists->generation;
    const size_t begin = token_begin(generation, i);
    switch (lists->list) {
    case LIST_TOKENS:
        write_name(lists, i, out);
        break;
    case LIST_VALUES:
        json_write_real(out, answer_logprob(generation->tokens[i].logprob));
        break;
    case LIST_ALTERNATIVES:
        write_alternatives(lists, i, out);
        break;
    case LIST_OFFSETS:
        json_write_integer(out, (int64_t)lists->offset);
        lists->offset += utf8_count(generation->text + begin, generation->tokens[i].text_end - begin);
        break;
    case LISTS:
        break;
    }
}

/* {tokens, token_logprobs, top_logprobs, text_offset} of an event's tokens. */
static void write_logprobs(const struct completion *completion, const struct completion_piece *piece, size_t count,
                           struct json_writer *out)
{
    const struct generation *generation = &completion->parts[piece->index].job.generation;
    const size_t first = piece->first_token;
    struct token_lists lists = {.generation = generation,
                                .text_end = piece->last ? generation->text_bytes : SIZE_MAX,
                                .alternatives = (size_t)completion->fields.shown_logprobs,
                                .offset = first_offset(completion) +
                                          utf8_count(generation->text, token_begin(generation, first))};
    for (; lists.list < LISTS; lists.list++) {
        json_write(out, list_begins[lists.list], strlen(list_begins[lists.list]));
        for (size_t i = first; i < first + count; i++) {
            if (i > first) json_write_literal(out, ",");
            write_item(&lists, i, out);
        }
    }
    json_write_literal(out, "]}");
}

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

static void write_usage(const struct completion *completion, struct json_writer *out)
{
    const struct generation *first = &completion->parts[0].job.generation;
    size_t written = 0;
    for (size_t i = 0; i < completion->shown; i++) written += completion->parts[i].job.generation.produced;
    json_write_literal(out, ",\"usage\":{\"prompt_tokens\":");
    json_write_integer(out, (int64_t)first->prompt.count);
    json_write_literal(out, ",\"completion_tokens\":");
    json_write_integer(out, (int64_t)written);
    json_write_literal(out, ",\"total_tokens\":");
    json_write_integer(out, (int64_t)(first->prompt.count + written));
    json_write_literal(out, ",\"prompt_tokens_details\":{\"cached_tokens\":");
    json_write_integer(out, (int64_t)first->cached);
    json_write_literal(out, "}}");
}

/* OpenAI's answers have no warnings, and its clients keep fields that they do not know. */
static void write_warnings(const struct completion *completion, struct json_writer *out)
{
    const struct generation *first = &completion->parts[0].job.generation;
    const char *prompt = completion->fields.prompt.data, *warning = completion_warning(completion);
    if (!warning && generation_warning_count(first) == 0) return;
    json_write_literal(out, ",");
    answer_write_warnings(first, prompt ? prompt : "", warning, out);
}

/* How far the answer is written. */
struct answer_state {
    enum { STATE_BEGIN, STATE_TEXT, STATE_LISTS, STATE_CHOICE_END, STATE_END } stage;
    size_t choice, at; /* at: bytes of the text, the prompt's before them, or items of the list */
    struct json_string string;
    struct token_lists lists;
};

/* The next part of a choice's text; true where that was all. */
static bool write_text(const struct completion *completion, struct answer_state *state, struct json_writer *out)
{
    const struct field_text *prompt = &completion->fields.prompt;
    const struct generation *generation = &completion->parts[state->choice].job.generation;
    const size_t before = completion->fields.echo && prompt->data ? prompt->size : 0;
    const bool in_prompt = state->at < before;
    const size_t left = in_prompt ? before - state->at : before + generation->text_bytes - state->at;
    const size_t part = left < TEXT_REPLY_PART ? left : TEXT_REPLY_PART;
    json_write_part(out, &state->string, in_prompt ? prompt->data + state->at : generation->text + state->at - before,
                    part);
    state->at += part;
    if (in_prompt || part < left) return false;
    json_write_part_end(out, &state->string);
    json_write_literal(out, "\",\"logprobs\":");
    return true;
}

/* The next item of the choice's lists; true where those were all. */
static bool write_list(struct answer_state *state, struct json_writer *out)
{
    struct token_lists *lists = &state->lists;
    if (state->at == 0) json_write(out, list_begins[lists->list], strlen(list_begins[lists->list]));
    if (state->at < lists->generation->tokens_ready) {
        if (state->at > 0) json_write_literal(out, ",");
        write_item(lists, state->at++, out);
        return false;
    }
    state->at = 0;
    if (++lists->list < LISTS) return false;
    json_write_literal(out, "]}");
    return true;
}

/* Behind the text. */
static void begin_lists(const struct completion *completion, struct answer_state *state, struct json_writer *out)
{
    const struct generation *generation = &completion->parts[state->choice].job.generation;
    state->at = 0;
    state->lists = (struct token_lists){.generation = generation,
                                        .text_end = generation->text_bytes,
                                        .alternatives = (size_t)completion->fields.shown_logprobs,
                                        .offset = first_offset(completion)};
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
        if (write_list(state, out)) state->stage = STATE_CHOICE_END;
        break;
    case STATE_CHOICE_END:
        end_choice(completion, state->choice, &completion->parts[state->choice].job.generation, out);
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
    const struct field_text *prompt = &completion->fields.prompt;
    const bool first = part->sent_text == 0 && part->sent_tokens == 0;
    const size_t shown = piece->last ? generation->tokens_ready - piece->first_token : piece->token_count;
    struct json_string text = {0};
    begin_document(completion, out);
    json_write_literal(out, "{\"text\":\"");
    if (first && completion->fields.echo && prompt->data) json_write_part(out, &text, prompt->data, prompt->size);
    json_write_part(out, &text, piece->text, piece->size);
    json_write_part_end(out, &text);
    json_write_literal(out, "\",\"logprobs\":");
    if (completion->fields.logprobs > 0)
        write_logprobs(completion, piece, shown, out);
    else
        json_write_literal(out, "null");
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
