#include "server/http/problem.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/json.h"

static const struct {
    int status;
    const char *reason;
} reasons[] = {
    {200, "OK"},
    {201, "Created"},
    {202, "Accepted"},
    {204, "No Content"},
    {400, "Bad Request"},
    {401, "Unauthorized"},
    {403, "Forbidden"},
    {404, "Not Found"},
    {405, "Method Not Allowed"},
    {408, "Request Timeout"},
    {409, "Conflict"},
    {413, "Content Too Large"},
    {414, "URI Too Long"},
    {415, "Unsupported Media Type"},
    {417, "Expectation Failed"},
    {421, "Misdirected Request"},
    {422, "Unprocessable Content"},
    {429, "Too Many Requests"},
    {431, "Request Header Fields Too Large"},
    {500, "Internal Server Error"},
    {501, "Not Implemented"},
    {503, "Service Unavailable"},
    {507, "Insufficient Storage"},
};

const char *http_status_reason(int status)
{
    for (size_t i = 0; i < sizeof reasons / sizeof *reasons; i++)
        if (reasons[i].status == status) return reasons[i].reason;
    return "Error";
}

static int status_of_error(enum error_code code)
{
    switch (code) {
    case ERROR_INVALID:
        return 422;
    case ERROR_NOT_FOUND:
        return 404;
    case ERROR_CONFLICT:
        return 409;
    case ERROR_TOO_LARGE:
        return 413;
    case ERROR_NO_SPACE:
        return 507;
    case ERROR_NO_MEMORY:
    case ERROR_UNAVAILABLE:
    case ERROR_CANCELLED:
        return 503;
    case ERROR_NONE:
    case ERROR_USAGE:
    case ERROR_CORRUPT:
    case ERROR_IO:
    case ERROR_NUMERIC:
        break;
    }
    return 500;
}

bool problem_set(struct problem *problem, int status, const char *format, ...)
{
    if (problem->status) return false;
    problem->status = status;
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(problem->detail, sizeof problem->detail, format, arguments);
    va_end(arguments);
    return false;
}

bool problem_set_error(struct problem *problem, const struct error *err)
{
    return problem_set(problem, status_of_error(err->code), "%s", err->message);
}

bool problem_set_timeout(struct problem *problem, const char *what, double seconds, bool began)
{
    if (!problem->status) problem->final = began;
    return problem_set(problem, 503, "%s within limits.request_timeout, %g s", what, seconds);
}

bool problem_add_field(struct problem *problem, const char *field, const char *format, ...)
{
    if (!problem->status) problem->status = 422;
    if (++problem->error_count > PROBLEM_MAX_ERRORS) return false;
    char message[ERROR_MESSAGE_SIZE];
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(message, sizeof message, format, arguments);
    va_end(arguments);
    if (!problem->errors) problem->errors = json_array();
    json_array_append_new(problem->errors, json_pack("{s:o, s:o}", "field", json_safe_string(field, strlen(field)),
                                                     "message", json_safe_string(message, strlen(message))));
    return false;
}

/* "2 fields are wrong: length, seed" */
static void describe_fields(const struct problem *problem, char *out, size_t size)
{
    size_t used = (size_t)snprintf(out, size, "%zu field%s wrong:", problem->error_count,
                                   problem->error_count == 1 ? " is" : "s are");
    size_t i;
    json_t *item;
    json_array_foreach(problem->errors, i, item)
    {
        const char *name = json_string_value(json_object_get(item, "field"));
        if (!name || used + strlen(name) + 8 > size) break;
        used += (size_t)snprintf(out + used, size - used, "%s %s", i ? "," : "", name);
    }
    if (i < problem->error_count && used + 6 < size) snprintf(out + used, size - used, ", ...");
}

char *problem_to_json(const struct problem *problem, const char *instance, size_t *size)
{
    char fields[ERROR_MESSAGE_SIZE];
    const char *detail = problem->detail;
    if (!*detail && problem->errors) {
        describe_fields(problem, fields, sizeof fields);
        detail = fields;
    }
    json_t *document =
        json_pack("{s:s, s:s, s:i, s:o}", "type", "about:blank", "title", http_status_reason(problem->status), "status",
                  problem->status, "detail", json_safe_string(detail, strlen(detail)));
    if (document && instance) json_object_set_new(document, "instance", json_safe_string(instance, strlen(instance)));
    if (document && problem->errors) json_object_set(document, "errors", problem->errors);
    char *text = document ? json_text_print_line(document, JSON_COMPACT, size, NULL) : NULL;
    json_decref(document);
    return text;
}

static const char *openai_code(int status, const char *field)
{
    if (status == 401) return "invalid_api_key";
    if (status == 429) return "rate_limit_exceeded";
    return status == 404 && field && strcmp(field, "model") == 0 ? "model_not_found" : NULL;
}

/* {"error": {message, type, param, code}}; param is the first wrong field. */
static char *openai_text(const struct problem *problem, int status, size_t *size)
{
    const json_t *first = json_array_get(problem->errors, 0);
    const char *field = json_string_value(json_object_get(first, "field"));
    const char *text = *problem->detail ? problem->detail : json_string_value(json_object_get(first, "message"));
    char message[2 * ERROR_MESSAGE_SIZE];
    snprintf(message, sizeof message, "%s%s%s", field && !*problem->detail ? field : "",
             field && !*problem->detail ? ": " : "", text ? text : http_status_reason(status));
    json_t *document = json_pack(
        "{s:{s:o, s:s, s:s?, s:s?}}", "error", "message", json_safe_string(message, strlen(message)), "type",
        status < 500 ? "invalid_request_error" : "server_error", "param", field, "code", openai_code(status, field));
    char *json = document ? json_text_print_line(document, JSON_COMPACT, size, NULL) : NULL;
    json_decref(document);
    return json;
}

bool problem_write(const struct problem *problem, const char *path, struct problem_document *document)
{
    const bool openai = strncmp(path, "/v1/", 4) == 0 || strcmp(path, "/completions") == 0;
    document->status = openai && problem->status == 422 ? 400 : problem->status;
    document->content_type = openai ? "application/json" : "application/problem+json";
    document->text = openai ? openai_text(problem, document->status, &document->size)
                            : problem_to_json(problem, path, &document->size);
    return document->text;
}

void problem_close(struct problem *problem)
{
    json_decref(problem->errors);
    *problem = (struct problem){0};
}
