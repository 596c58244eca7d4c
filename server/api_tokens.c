/* /tokenize and /detokenize: text <-> ids, as the model's vocabulary has them. No <eos> is added. */
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include "server/api.h"
#include "server/completion.h"

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

/* Returns the model, acquired, and in fields->body what owns the texts of *fields; NULL where there is a problem. */
static struct served *read_fields(struct http_request *request, const struct daemon *daemon,
                                  const struct field_table *table, const char *required, struct token_fields *fields,
                                  struct problem *problem)
{
    size_t size;
    const char *text = http_request_body(request, &size);
    fields->body = fields_parse_body(text, size, problem);
    if (!fields->body) return NULL;
    fields_read_json(table, fields, fields->body, NULL, problem);
    if (!json_object_get(fields->body, required)) problem_add_field(problem, required, "must be given");
    struct served *served = completion_acquire(daemon, &fields->model, problem);
    if (!problem->status) return served;
    registry_release(served);
    return NULL;
}

static json_t *token_document(const struct served *served, const struct token_list *ids,
                              const struct unknown_list *unknown)
{
    json_t *numbers = json_array(), *names = json_array();
    for (size_t i = 0; i < ids->count; i++) {
        size_t n;
        const char *name = vocabulary_token(served->model.vocabulary, ids->ids[i], &n);
        json_array_append_new(numbers, json_integer((json_int_t)ids->ids[i]));
        json_array_append_new(names, json_safe_string(name, n));
    }
    return json_pack("{s:s, s:o, s:o, s:I}", "model", served->model.name, "ids", numbers, "tokens", names, "skipped",
                     (json_int_t)unknown->total);
}

enum http_outcome api_tokenize(struct http_request *request, void *context)
{
    struct token_fields fields = {0};
    struct problem problem = {0};
    struct error err = {0};
    struct token_list ids = {0};
    struct unknown_list unknown = {0};
    struct served *served = read_fields(request, context, &tokenize_table, "text", &fields, &problem);
    if (served &&
        vocabulary_encode(served->model.vocabulary, fields.text.data, fields.text.size, &ids, &unknown, 0, &err)) {
        http_reply_json(request, 200, token_document(served, &ids, &unknown));
    } else {
        if (served) problem_set_error(&problem, &err);
        completion_refuse(request, &problem);
    }
    token_list_free(&ids);
    unknown_list_free(&unknown);
    registry_release(served);
    json_decref(fields.body);
    return HTTP_REPLIED;
}

/* The text of the ids in fresh memory, or NULL with the problem. */
static char *join(const struct vocabulary *vocabulary, const json_t *ids, size_t *size, struct problem *problem)
{
    const size_t count = json_array_size(ids), most = vocabulary_max_token_bytes(vocabulary) + 1;
    size_t capacity = 1, used = 0;
    char *text = __builtin_mul_overflow(count, most, &capacity) ? NULL : malloc(capacity + most);
    if (!text) {
        problem_set(problem, 503, "out of memory");
        return NULL;
    }
    for (size_t i = 0; i < count; i++) {
        const json_t *item = json_array_get(ids, i);
        const double id = json_is_number(item) ? json_number_value(item) : -1;
        if (!(id >= 0 && id < vocabulary_size(vocabulary)) || id != (double)(uint32_t)id) {
            problem_add_field(problem, "ids", "the one at index %zu must be an integer from 0 to %u", i,
                              vocabulary_size(vocabulary) - 1);
            free(text);
            return NULL;
        }
        used += vocabulary_decode(vocabulary, (uint32_t)id, used == 0, text + used);
    }
    *size = used;
    return text;
}

enum http_outcome api_detokenize(struct http_request *request, void *context)
{
    struct token_fields fields = {0};
    struct problem problem = {0};
    size_t size;
    struct served *served = read_fields(request, context, &detokenize_table, "ids", &fields, &problem);
    char *text = served ? join(served->model.vocabulary, fields.ids, &size, &problem) : NULL;
    if (text)
        http_reply_json(request, 200,
                        json_pack("{s:s, s:o}", "model", served->model.name, "text", json_safe_string(text, size)));
    else
        completion_refuse(request, &problem);
    free(text);
    registry_release(served);
    json_decref(fields.ids);
    json_decref(fields.body);
    return HTTP_REPLIED;
}
