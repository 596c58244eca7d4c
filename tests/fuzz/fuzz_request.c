/* Reads any bytes as a part of a request. The first byte chooses: a JSON body, a query string, a path. The result is a
 * refusal with a status and a JSON document, or fields within their bounds. */
#include <jansson.h>
#include <string.h>

#include "base/utf8.h"
#include "server/api/fields.h"
#include "server/http/query.h"
#include "tests/fuzz/fuzz.h"

struct target {
    struct field_text prompt;
    uint64_t length;
    double temperature;
    int unknown;
};

static const char *const choices[] = {"skip", "error", NULL};
static const struct field rows[] = {
    {"prompt", FIELD_TEXT, offsetof(struct target, prompt), 0, 0, NULL, 0},
    {"length", FIELD_INTEGER, offsetof(struct target, length), 1, 10000, NULL, 0},
    {"temperature", FIELD_REAL, offsetof(struct target, temperature), 0, 100, NULL, 0},
    {"unknown", FIELD_CHOICE, offsetof(struct target, unknown), 0, 0, choices, 0},
};
static const struct field_table table = {rows, sizeof rows / sizeof *rows};

static void look_at(const struct target *target)
{
    REQUIRE(target->length >= 1 && target->length <= 10000);
    REQUIRE(target->temperature >= 0 && target->temperature <= 100);
    REQUIRE(target->unknown == 0 || target->unknown == 1);
    REQUIRE(!target->prompt.data || utf8_valid_prefix(target->prompt.data, target->prompt.size) == target->prompt.size);
}

static void require_json(const struct problem *problem)
{
    size_t size;
    char *text = problem_to_json(problem, "/fuzz", &size);
    REQUIRE(text != NULL);
    json_t *json = json_loadb(text, size, JSON_REJECT_DUPLICATES, NULL);
    REQUIRE(json_is_object(json));
    json_decref(json);
    free(text);
}

static void read_body(const char *text, size_t n, struct target *target, struct problem *problem)
{
    json_t *body = fields_parse_body(text, n, problem);
    if (body) fields_read_json(&table, target, body, NULL, problem);
    look_at(target); /* the text belongs to the body */
    json_decref(body);
}

static void read_query(const char *text, struct target *target, struct problem *problem)
{
    struct query query;
    struct error err = {0};
    if (query_parse(&query, text, &err))
        fields_read_query(&table, target, &query, NULL, problem);
    else
        problem_set_error(problem, &err);
    look_at(target);
    query_close(&query);
}

static void read_path(const char *text)
{
    char *parameter = malloc(strlen(text) + 1);
    REQUIRE(parameter != NULL);
    if (path_match("/models/{name}", text, parameter)) REQUIRE(strlen(parameter) <= strlen(text));
    free(parameter);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size == 0) return 0;
    char *text = malloc(size); /* a query or path ends at its first NUL, or here */
    REQUIRE(text != NULL);
    memcpy(text, data + 1, size - 1);
    text[size - 1] = '\0';
    struct target target = {.length = 100, .temperature = 1};
    struct problem problem = {0};
    switch (data[0] % 3) {
    case 0:
        read_body((const char *)data + 1, size - 1, &target, &problem);
        break;
    case 1:
        read_query(text, &target, &problem);
        break;
    default:
        read_path(text);
    }
    if (problem.status != 0) require_json(&problem);
    problem_close(&problem);
    free(text);
    return 0;
}
