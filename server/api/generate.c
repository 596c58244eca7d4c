/* /generate: its fields and the form of its answers and events. What happens in between: completion.h. */
#include <stddef.h>
#include <string.h>

#include "model/generate/answer.h"
#include "server/api/api.h"
#include "server/api/completion.h"

static const char *const unknown_choices[] = {"skip", "error", NULL};
static const char *const choice_modes[] = {[COMPLETION_SAMPLE] = "sample", [COMPLETION_LIKELIEST] = "likeliest", NULL};

#define MEMBER(name) offsetof(struct completion_fields, name)

static const struct field generate_rows[] = {
    [COMPLETION_ROW_LENGTH] = {"length", FIELD_INTEGER, MEMBER(length), 1, 0, NULL, 0}, /* at most limits.max_length */
    [COMPLETION_ROW_N] = {"n", FIELD_INTEGER, MEMBER(n), 1, 0, NULL, 0},                /* at most limits.max_n */
    [COMPLETION_ROW_SEED] = {"seed", FIELD_INTEGER, MEMBER(seed), 0, FIELDS_MAX_INTEGER, NULL, 0},
    [COMPLETION_ROW_BEST_OF] = {"best_of", FIELD_INTEGER, MEMBER(best_of), 1, 0, NULL, 0}, /* as n */
    {"prompt", FIELD_PROMPT, MEMBER(prompt), 0, 0, NULL, 0},
    {"min_length", FIELD_INTEGER, MEMBER(min_length), 0, FIELDS_MAX_INTEGER, NULL, 0},
    {"include_stop", FIELD_BOOL, MEMBER(include_stop), 0, 0, NULL, 0},
    {"logit_bias", FIELD_OBJECT, MEMBER(logit_bias), 0, 0, NULL, 0},
    {"stop", FIELD_TEXTS, MEMBER(stop), 1, STOP_MAX_BYTES, NULL, 0},
    {"regex", FIELD_TEXT, MEMBER(regex), 0, 0, NULL, 0},
    {"choices", FIELD_ARRAY, MEMBER(choices), 0, 0, NULL, 0},
    {"choice_mode", FIELD_CHOICE, MEMBER(choice_mode), 0, 0, choice_modes, 0},
    {"ignore_eos", FIELD_BOOL, MEMBER(ignore_eos), 0, 0, NULL, 0},
    {"logprobs", FIELD_INTEGER, MEMBER(logprobs), 0, GENERATION_MAX_LOGPROBS, NULL, 0},
    {"stream", FIELD_BOOL, MEMBER(stream), 0, 0, NULL, 0},
    {"session", FIELD_TEXT, MEMBER(session), 0, 0, NULL, 0},
    {"cache_prompt", FIELD_BOOL, MEMBER(cache_prompt), 0, 0, NULL, 0},
    {"state", FIELD_STATE, MEMBER(state), 0, 0, NULL, 0},
    {"return_state", FIELD_BOOL, MEMBER(return_state), 0, 0, NULL, 0},
    {"unknown", FIELD_CHOICE, MEMBER(unknown), 0, 0, unknown_choices, 0},
    {"label", FIELD_TEXT, MEMBER(label), 0, 0, NULL, 0},
    {"model", FIELD_TEXT, MEMBER(model), 0, 0, NULL, 0},
};

struct answer_state {
    struct answer_writer writer;
    struct answer answer;
};

static bool generate_answer(const struct completion *completion, void *context, struct json_writer *out)
{
    struct answer_state *state = context;
    if (!state->writer.answer) {
        completion_describe(completion, 0, completion->shown, &state->answer);
        state->writer.answer = &state->answer;
    }
    return answer_write(&state->writer, out);
}

/* Writes {id, index, delta, token_count}, with logprobs if they were asked for; the last event also says how it ended.
 */
static void generate_event(const struct completion *completion, const struct completion_piece *piece,
                           struct json_writer *out)
{
    const struct generation *generation = &completion->parts[piece->index].job.generation;
    const char *id = http_request_id(completion->request);
    json_write_literal(out, "{\"id\":");
    json_write_string(out, id, strlen(id));
    json_write_literal(out, ",\"index\":");
    json_write_integer(out, (int64_t)piece->index);
    if (completion->has_prompts) {
        json_write_literal(out, ",\"prompt_index\":");
        json_write_integer(out, (int64_t)completion->choices[piece->index].prompt_index);
    }
    json_write_literal(out, ",\"delta\":");
    json_write_string(out, piece->text, piece->size);
    json_write_literal(out, ",\"token_count\":");
    json_write_integer(out, (int64_t)piece->token_count);
    if (completion->fields.logprobs > 0) {
        json_write_literal(out, ",\"logprobs\":");
        answer_write_logprobs(generation, piece->first_token,
                              piece->last ? generation->tokens_ready - piece->first_token : piece->token_count, out);
    }
    if (piece->last) {
        struct answer end;
        completion_describe(completion, piece->index, 1, &end);
        json_write_literal(out, ",\"model\":");
        json_write_string(out, end.model, strlen(end.model));
        json_write_literal(out, ",");
        answer_write_end(&end, out);
    }
    json_write_literal(out, "}");
}

static const struct completion_dialect dialect = {.rows = generate_rows,
                                                  .row_count = sizeof generate_rows / sizeof *generate_rows,
                                                  .find_token = generation_find_token,
                                                  .answer = generate_answer,
                                                  .answer_size = sizeof(struct answer_state),
                                                  .event = generate_event};

/* body: NULL for a request that came as a query. */
static enum http_outcome generate_run(struct http_request *request, struct services *services, json_t *body,
                                      struct problem *problem)
{
    struct completion *completion = completion_new(request, services, &dialect, body);
    if (!completion) {
        problem_set(problem, 503, "out of memory");
        return completion_refuse(request, problem);
    }
    uint64_t given;
    completion_read(completion, &given, problem);
    completion->fields.seed_given = given & UINT64_C(1) << COMPLETION_ROW_SEED;
    if (!body && !problem->status && completion->fields.stream && http_request_header(request, "Last-Event-ID")) {
        /* An EventSource connects again after its stream. 204 ends it; otherwise it gets another text each time. */
        http_reply(request, 204, NULL, "", 0, HTTP_BORROWED);
        return HTTP_REPLIED;
    }
    return completion_run(completion, problem);
}

enum http_outcome api_generate_post(struct http_request *request, void *context)
{
    struct services *services = context;
    struct problem problem = {0};
    if (completion_is_draining(request, services)) return HTTP_REPLIED;
    size_t size;
    const char *text = http_request_body(request, &size);
    json_t *body = fields_parse_body(text, size, &problem);
    return body ? generate_run(request, services, body, &problem) : completion_refuse(request, &problem);
}

enum http_outcome api_generate_get(struct http_request *request, void *context)
{
    struct problem problem = {0};
    if (completion_is_draining(request, context)) return HTTP_REPLIED;
    return generate_run(request, context, NULL, &problem);
}
