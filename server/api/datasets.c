/* /datasets and /datasets/{name}: upload, describe and delete corpora. The query of an upload says how the corpus is
 * read, with the names of lstmd train's flags. */
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "base/log.h"
#include "server/api/api.h"
#include "server/api/fields.h"
#include "server/api/later.h"
#include "server/api/services.h"
#include "server/api/text_reply.h"
#include "server/store/datasets.h"

#define MAX_COLUMNS 1023 /* bytes */
#define MAX_FIELD   255

/* --- How a corpus is read --- */

static const char *const headers[] = {"auto", "yes", "no", NULL};

struct upload_fields {
    int format, csv_header;
    struct field_text columns, label_column, field;
    bool bytes;
};

#define MEMBER(name) offsetof(struct upload_fields, name)

static const struct field rows[] = {
    {"format", FIELD_CHOICE, MEMBER(format), 0, 0, corpus_format_choices, 0},
    {"columns", FIELD_TEXT, MEMBER(columns), 0, 0, NULL, 0},
    {"csv_header", FIELD_CHOICE, MEMBER(csv_header), 0, 0, headers, 0},
    {"label_column", FIELD_TEXT, MEMBER(label_column), 0, 0, NULL, 0},
    {"field", FIELD_TEXT, MEMBER(field), 0, 0, NULL, 0},
    {"bytes", FIELD_BOOL, MEMBER(bytes), 0, 0, NULL, 0},
};

/* The text of a parameter, NULL where it is not given. Texts of a query end with a NUL. */
static const char *check_text(const char *name, const struct field_text *text, size_t most, struct problem *problem)
{
    if (!text->data) return NULL;
    if (text->size < 1 || text->size > most || strlen(text->data) != text->size)
        problem_add_field(problem, name, "must be a text of 1 to %zu bytes without NUL characters", most);
    return text->data;
}

/* The format by the Content-Type; CORPUS_AUTO: it tells none. */
static enum corpus_format format_of_type(const char *type)
{
    static const struct {
        const char *type;
        enum corpus_format format;
    } types[] = {{"text/csv", CORPUS_CSV},
                 {"text/tab-separated-values", CORPUS_TSV},
                 {"application/json", CORPUS_JSONL},
                 {"application/x-ndjson", CORPUS_JSONL},
                 {"application/jsonl", CORPUS_JSONL},
                 {"application/json-lines", CORPUS_JSONL}};
    const size_t n = type ? strcspn(type, " ;") : 0;
    for (size_t i = 0; i < sizeof types / sizeof *types; i++)
        if (n == strlen(types[i].type) && strncasecmp(type, types[i].type, n) == 0) return types[i].format;
    return CORPUS_AUTO;
}

/* The body is the file itself. A form or other wrapping would become part of the corpus. */
static void check_headers(const struct http_request *request, struct problem *problem)
{
    static const char form[] = "multipart/";
    const char *type = http_request_header(request, "Content-Type");
    if (type && strncasecmp(type, form, sizeof form - 1) == 0)
        problem_set(problem, 415, "the body must be the file itself (curl -T FILE), not a form");
}

/* Refuses parameters that the format does not use, instead of ignoring them silently. */
static void check_format(const char *name, const struct corpus_options *options, struct problem *problem)
{
    const enum corpus_format format = options->format == CORPUS_AUTO ? corpus_format_guess(name) : options->format;
    const char *is = corpus_format_name(format);
    const bool table = format == CORPUS_CSV || format == CORPUS_TSV;
    const bool json = format == CORPUS_JSONL || format == CORPUS_AUTO; /* which the body tells */
    if (options->columns && !table) problem_add_field(problem, "columns", "needs format csv or tsv, not %s", is);
    if (options->csv_header >= 0 && !table)
        problem_add_field(problem, "csv_header", "needs format csv or tsv, not %s", is);
    if (options->field && !json) problem_add_field(problem, "field", "needs format jsonl, not %s", is);
    if (options->label_column && !table && !json)
        problem_add_field(problem, "label_column", "needs format csv, tsv or jsonl, not %s", is);
}

static void read_options(const struct http_request *request, const struct services *services,
                         struct corpus_options *options, struct problem *problem)
{
    static const int header[] = {-1, 1, 0}; /* in the order of headers */
    const struct field_table table = {rows, sizeof rows / sizeof *rows};
    struct upload_fields fields = {0};
    check_headers(request, problem);
    fields_read_query(&table, &fields, http_request_query(request), NULL, problem);
    *options = (struct corpus_options){
        .format = (enum corpus_format)fields.format,
        .columns = check_text("columns", &fields.columns, MAX_COLUMNS, problem),
        .label_column = check_text("label_column", &fields.label_column, MAX_FIELD, problem),
        .field = check_text("field", &fields.field, MAX_FIELD, problem),
        .csv_header = header[fields.csv_header],
        .bytes = fields.bytes,
        .most_unpacked = (uint64_t)services->config->max_dataset,
    };
    if (options->format == CORPUS_AUTO) options->format = format_of_type(http_request_header(request, "Content-Type"));
    check_format(http_request_parameter(request), options, problem);
}

/* --- Uploading --- */

static enum http_outcome datasets_refuse(struct http_request *request, struct problem *problem)
{
    http_reply_problem(request, problem);
    problem_close(problem);
    return HTTP_REPLIED;
}

static enum http_outcome refuse_error(struct http_request *request, const struct error *err)
{
    struct problem problem = {0};
    problem_set_error(&problem, err);
    return datasets_refuse(request, &problem);
}

static bool write_piece(struct http_request *request, const char *data, size_t size, void *context)
{
    struct error err = {0};
    if (dataset_upload_write(context, data, size, &err)) return true;
    refuse_error(request, &err);
    return false;
}

static void datasets_abandon(void *context)
{
    dataset_upload_free(context);
}

bool api_dataset_body(struct http_request *request, struct http_sink *sink, void *context)
{
    const struct services *services = context;
    struct error err = {0};
    struct problem problem = {0};
    struct corpus_options options;
    read_options(request, services, &options, &problem);
    if (!state_dir_require(services->state, &err)) problem_set_error(&problem, &err);
    struct dataset_upload *upload =
        problem.status ? NULL : dataset_upload_new(services->datasets, http_request_parameter(request), &options, &err);
    if (!upload) {
        problem_set_error(&problem, &err);
        datasets_refuse(request, &problem);
        return false;
    }
    *sink = (struct http_sink){.max_size = services->config->max_dataset,
                               .limit = "limits.max_dataset",
                               .write = write_piece,
                               .abandon = datasets_abandon,
                               .context = upload};
    return true;
}

enum http_outcome api_dataset_put(struct http_request *request, void *context)
{
    const struct services *services = context;
    struct dataset_upload *upload = http_request_sink(request);
    struct error err = {0};
    json_t *json = dataset_upload_finish(upload, &err)
                       ? datasets_describe(services->datasets, dataset_upload_name(upload), &err)
                       : NULL;
    if (json) {
        log_event(LOG_INFO, "dataset stored", LOG_TEXT("id", http_request_id(request)),
                  LOG_TEXT("name", dataset_upload_name(upload)),
                  LOG_INTEGER("bytes", json_integer_value(json_object_get(json, "size"))),
                  LOG_INTEGER("documents", json_integer_value(json_object_get(json, "documents"))));
        if (!dataset_upload_replaced(upload)) http_reply_header(request, "Location", http_request_path(request));
        http_reply_json(request, dataset_upload_replaced(upload) ? 200 : 201, json);
    } else {
        refuse_error(request, &err);
    }
    dataset_upload_free(upload);
    return HTTP_REPLIED;
}

/* --- Looking and deleting --- */

/* A list that is being written, a dataset at a time. */
struct datasets_listing {
    struct datasets *datasets;
    char last[STATE_NAME_MAX + 1]; /* name of the one that was written last */
};

static enum text_state write_dataset(void *context, struct json_writer *out, struct error *err)
{
    struct datasets_listing *listing = context;
    struct error own = {0};
    json_t *json = datasets_next(listing->datasets, listing->last, &own);
    const bool first = !*listing->last;
    if (first) json_write_literal(out, "{\"datasets\":[");
    if (json) {
        snprintf(listing->last, sizeof listing->last, "%s", json_string_value(json_object_get(json, "name")));
        if (!first) json_write_literal(out, ",");
        text_write_json(out, json);
        return TEXT_MORE;
    }
    json_write_literal(out, "]}\n");
    if (!own.code) return TEXT_END;
    error_set(err, own.code, "%s", own.message);
    return TEXT_BROKEN;
}

enum http_outcome api_datasets(struct http_request *request, void *context)
{
    const struct services *services = context;
    struct error err = {0};
    if (!state_dir_require(services->state, &err)) return refuse_error(request, &err);
    struct datasets_listing *listing = calloc(1, sizeof *listing);
    if (!listing) {
        error_set_no_memory(&err, sizeof *listing, "the list of datasets");
        return refuse_error(request, &err);
    }
    listing->datasets = services->datasets;
    const struct text_source source = {
        .write = write_dataset, .release = free, .context = listing, .worker = services->reader};
    text_reply(request, 200, "application/json", &source);
    return HTTP_REPLIED;
}

enum http_outcome api_dataset(struct http_request *request, void *context)
{
    const struct services *services = context;
    struct error err = {0};
    json_t *json = state_dir_require(services->state, &err)
                       ? datasets_describe(services->datasets, http_request_parameter(request), &err)
                       : NULL;
    if (!json) return refuse_error(request, &err);
    http_reply_json(request, 200, json);
    return HTTP_REPLIED;
}

static enum http_outcome delete_now(struct http_request *request, void *context)
{
    const struct services *services = context;
    struct error err = {0};
    const char *name = http_request_parameter(request);
    if (!datasets_delete(services->datasets, name, &err)) return refuse_error(request, &err);
    log_event(LOG_INFO, "dataset deleted", LOG_TEXT("id", http_request_id(request)), LOG_TEXT("name", name));
    http_reply(request, 204, NULL, "", 0, HTTP_BORROWED);
    return HTTP_REPLIED;
}

enum http_outcome api_dataset_delete(struct http_request *request, void *context)
{
    const struct services *services = context;
    struct error err = {0};
    if (!state_dir_require(services->state, &err)) return refuse_error(request, &err);
    return later(services->loader, request, delete_now, context);
}
