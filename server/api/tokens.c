/* /tokenize and /detokenize: text <-> ids, as the model's vocabulary has them. No <eos> is added. */
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "server/api/api.h"
#include "server/api/completion.h"
#include "server/api/text_reply.h"

struct token_fields {
    struct field_text text, model;
    json_t *ids, *body; /* owned, or NULL; the body is no field */
};

#define MEMBER(name) offsetof(struct token_fields, name)

enum { TOKENIZE_ROWS = 2 };

static const struct field rows[] = {
    {"text", FIELD_TEXT, MEMBER(text), 0, 0, NULL, 0},
    {"model", FIELD_TEXT, MEMBER(model), 0, 0, NULL, 0},
    {"ids", FIELD_ARRAY, MEMBER(ids), 0, 0, NULL, 0},
};
static const struct field_table tokenize_table = {rows, TOKENIZE_ROWS};
static const struct field_table detokenize_table = {rows + 1, sizeof rows / sizeof *rows - 1};

/* Returns the acquired model; fields->body owns the texts of *fields. NULL with the problem. */
static struct served *read_fields(struct http_request *request, const struct services *services,
                                  const struct field_table *table, const char *required, struct token_fields *fields,
                                  struct problem *problem)
{
    size_t size;
    const char *text = http_request_body(request, &size);
    fields->body = fields_parse_body(text, size, problem);
    if (!fields->body) return NULL;
    fields_read_json(table, fields, fields->body, NULL, problem);
    if (!json_object_get(fields->body, required)) problem_add_field(problem, required, "must be given");
    struct served *served = completion_acquire(services, &fields->model, problem);
    if (!problem->status) return served;
    registry_release(served);
    return NULL;
}

/* Tokens, and how far their answer is written. */
struct tokens_answer {
    struct served *served;
    struct token_list ids;
    size_t skipped, at;
    enum {
        TOKENS_BEGIN, /* nothing is written */
        TOKENS_IDS,   /* the list of ids */
        TOKENS_NAMES, /* the list of names */
        TOKENS_TEXT,  /* a text, not its first token */
    } stage;
    struct json_string string;
};

static void tokens_release(void *context)
{
    struct tokens_answer *tokens = context;
    token_list_free(&tokens->ids);
    registry_release(tokens->served);
    free(tokens);
}

/* Consumes all but the request. */
static void tokens_reply(struct http_request *request, const struct services *services, struct tokens_answer *tokens,
                         enum text_state (*write)(void *context, struct json_writer *out, struct error *err))
{
    text_reply(request, 200, "application/json",
               &(struct text_source){
                   .write = write, .release = tokens_release, .context = tokens, .worker = services->writer});
}

static void write_model(const struct tokens_answer *tokens, const char *next, struct json_writer *out)
{
    const char *model = tokens->served->model.name;
    json_write_literal(out, "{\"model\":");
    json_write_string(out, model, strlen(model));
    json_write(out, next, strlen(next));
}

static void write_name(const struct tokens_answer *tokens, size_t i, struct json_writer *out)
{
    size_t n;
    const char *name = vocabulary_token(tokens->served->model.vocabulary, tokens->ids.ids[i], &n);
    json_write_string(out, name, n);
}

/* {model, ids, tokens, skipped} */
static enum text_state write_tokens(void *context, struct json_writer *out, struct error *err)
{
    struct tokens_answer *tokens = context;
    (void)err;
    if (tokens->stage == TOKENS_BEGIN) {
        write_model(tokens, ",\"ids\":[", out);
        tokens->stage = TOKENS_IDS;
    }
    if (tokens->at < tokens->ids.count) {
        if (tokens->at > 0) json_write_literal(out, ",");
        if (tokens->stage == TOKENS_IDS)
            json_write_integer(out, tokens->ids.ids[tokens->at]);
        else
            write_name(tokens, tokens->at, out);
        tokens->at++;
    } else if (tokens->stage == TOKENS_IDS) {
        json_write_literal(out, "],\"tokens\":[");
        tokens->stage = TOKENS_NAMES;
        tokens->at = 0;
    } else {
        json_write_literal(out, "],\"skipped\":");
        json_write_integer(out, (int64_t)tokens->skipped);
        json_write_literal(out, "}\n");
        return TEXT_END;
    }
    return TEXT_MORE;
}

/* The text of one token; the first word has no space before it. */
static void write_part(struct tokens_answer *tokens, uint32_t id, struct json_writer *out)
{
    const struct vocabulary *vocabulary = tokens->served->model.vocabulary;
    if (vocabulary_is_special(vocabulary, id)) return;
    size_t n;
    const char *text = vocabulary_token(vocabulary, id, &n);
    const bool spaced = tokens->stage == TOKENS_TEXT && vocabulary_level(vocabulary) == TOKEN_LEVEL_WORD;
    if (spaced) json_write_part(out, &tokens->string, " ", 1);
    json_write_part(out, &tokens->string, text, n);
    tokens->stage = TOKENS_TEXT;
}

/* {model, text} */
static enum text_state write_text(void *context, struct json_writer *out, struct error *err)
{
    struct tokens_answer *tokens = context;
    (void)err;
    if (tokens->at == 0) write_model(tokens, ",\"text\":\"", out);
    if (tokens->at < tokens->ids.count) {
        write_part(tokens, tokens->ids.ids[tokens->at++], out);
        return TEXT_MORE;
    }
    json_write_part_end(out, &tokens->string);
    json_write_literal(out, "\"}\n");
    return TEXT_END;
}

/* NULL with the problem. Owns the model, which is released in any case. */
static struct tokens_answer *new_tokens(struct served *served, struct problem *problem)
{
    struct tokens_answer *tokens = calloc(1, sizeof *tokens);
    if (tokens) {
        tokens->served = served;
        return tokens;
    }
    registry_release(served);
    problem_set(problem, 503, "out of memory");
    return NULL;
}

/* Large texts wait for each other and take long. */
static bool check_time(const struct http_request *request, const struct services *services, bool began,
                       struct problem *problem)
{
    const double limit = services->config->request_timeout;
    const uint64_t taken = clock_monotonic_ns() - http_request_ready_ns(request);
    return (double)taken * 1e-9 <= limit || problem_set_timeout(problem, "the text was not read", limit, began);
}

static bool tokens_encode(struct tokens_answer *tokens, const struct field_text *text, struct problem *problem)
{
    struct unknown_list unknown = {0};
    struct error err = {0};
    const bool good =
        vocabulary_encode(tokens->served->model.vocabulary, text->data, text->size, &tokens->ids, &unknown, &err);
    tokens->skipped = unknown.total;
    unknown_list_free(&unknown);
    return good || problem_set_error(problem, &err);
}

enum http_outcome api_tokenize(struct http_request *request, void *context)
{
    const struct services *services = context;
    struct token_fields fields = {0};
    struct problem problem = {0};
    struct served *served = NULL;
    if (check_time(request, services, false, &problem))
        served = read_fields(request, services, &tokenize_table, "text", &fields, &problem);
    struct tokens_answer *tokens = served ? new_tokens(served, &problem) : NULL;
    if (tokens && tokens_encode(tokens, &fields.text, &problem) && check_time(request, services, true, &problem))
        tokens_reply(request, services, tokens, write_tokens);
    else if (tokens)
        tokens_release(tokens);
    json_decref(fields.body);
    return problem.status ? completion_refuse(request, &problem) : HTTP_REPLIED;
}

static bool read_ids(struct tokens_answer *tokens, const json_t *list, struct problem *problem)
{
    const uint32_t size = vocabulary_size(tokens->served->model.vocabulary);
    struct error err = {0};
    for (size_t i = 0; i < json_array_size(list); i++) {
        const json_t *item = json_array_get(list, i);
        const double id = json_is_number(item) ? json_number_value(item) : -1;
        if (!(id >= 0 && id < size) || id != (double)(uint32_t)id)
            return problem_add_field(problem, "ids", "the one at index %zu must be an integer from 0 to %u", i,
                                     size - 1);
        if (!token_list_append(&tokens->ids, (uint32_t)id, &err)) return problem_set_error(problem, &err);
    }
    return true;
}

enum http_outcome api_detokenize(struct http_request *request, void *context)
{
    const struct services *services = context;
    struct token_fields fields = {0};
    struct problem problem = {0};
    struct served *served = read_fields(request, services, &detokenize_table, "ids", &fields, &problem);
    struct tokens_answer *tokens = served ? new_tokens(served, &problem) : NULL;
    if (tokens && read_ids(tokens, fields.ids, &problem))
        tokens_reply(request, services, tokens, write_text);
    else if (tokens)
        tokens_release(tokens);
    json_decref(fields.ids);
    json_decref(fields.body);
    return problem.status ? completion_refuse(request, &problem) : HTTP_REPLIED;
}
