/* GET /train/{id}/metrics: the loss curve, as JSON or, where the client prefers it (server/accept.h), as CSV. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "server/accept.h"
#include "server/api.h"
#include "server/api_train.h"

/* The columns, in their order; step and epoch are whole numbers. */
static const char *const columns[] = {
    "step",          "epoch",         "seconds",           "train_nats_per_char",
    "learning_rate", "gradient_norm", "tokens_per_second", "validation_nats_per_char"};
#define COLUMNS (sizeof columns / sizeof *columns)

static void values_of(const struct metric *metric, double values[COLUMNS])
{
    const double all[COLUMNS] = {(double)metric->step,      (double)metric->epoch,  metric->seconds,
                                 metric->train_nats,        metric->learning_rate,  metric->gradient_norm,
                                 metric->tokens_per_second, metric->validation_nats};
    memcpy(values, all, sizeof all);
}

static json_t *value_to_json(size_t column, double value)
{
    if (column < 2) return json_integer((json_int_t)value);
    return isfinite(value) ? json_real(value) : json_null();
}

static bool append_json(void *context, const struct metric *metric)
{
    double values[COLUMNS];
    json_t *row = json_object();
    values_of(metric, values);
    for (size_t i = 0; i < COLUMNS; i++)
        if (json_object_set_new(row, columns[i], value_to_json(i, values[i])) != 0) {
            json_decref(row);
            return false;
        }
    return json_array_append_new(context, row) == 0;
}

static bool append_csv(void *context, const struct metric *metric)
{
    double values[COLUMNS];
    values_of(metric, values);
    for (size_t i = 0; i < COLUMNS; i++) {
        if (i > 0) fputc(',', context);
        if (isfinite(values[i])) fprintf(context, "%.9g", values[i]);
    }
    fputc('\n', context);
    return true;
}

static void reply_json(struct http_request *request, struct jobs *jobs, int64_t id, struct problem *problem)
{
    struct error err = {0};
    json_t *rows = json_array();
    if (store_metrics(jobs_store(jobs), id, append_json, rows, &err)) {
        http_reply_json(request, 200, json_pack("{s:o}", "metrics", rows));
        return;
    }
    json_decref(rows);
    problem_set_error(problem, &err);
}

static void reply_csv(struct http_request *request, struct jobs *jobs, int64_t id, struct problem *problem)
{
    struct error err = {0};
    char *text = NULL;
    size_t size = 0;
    FILE *out = open_memstream(&text, &size);
    if (out)
        for (size_t i = 0; i < COLUMNS; i++) fprintf(out, "%s%s", columns[i], i + 1 < COLUMNS ? "," : "\n");
    bool ok = out && store_metrics(jobs_store(jobs), id, append_csv, out, &err);
    if (out && fclose(out) != 0) ok = false;
    if (ok) {
        http_reply(request, 200, "text/csv; charset=utf-8", text, size, HTTP_TAKEN);
        return;
    }
    free(text);
    if (err.code)
        problem_set_error(problem, &err);
    else
        problem_set(problem, 503, "out of memory");
}

static enum http_outcome metrics(struct http_request *request, void *context)
{
    struct jobs *jobs = ((struct daemon *)context)->jobs;
    static const char *const forms[] = {"application/json", "text/csv"};
    struct problem problem = {0};
    struct error err = {0};
    struct job job;
    int64_t id;
    if (!train_job_id(request, &id)) return HTTP_REPLIED;
    if (!jobs_get(jobs, id, &job, &err)) return train_refuse_error(request, &err);
    store_close_job(&job);
    http_reply_header(request, "Cache-Control", "no-store");
    http_reply_header(request, "Vary", "Accept");
    if (accept_choose(http_request_header(request, "Accept"), forms, sizeof forms / sizeof *forms) == 1)
        reply_csv(request, jobs, id, &problem);
    else
        reply_json(request, jobs, id, &problem);
    return problem.status ? train_refuse(request, &problem) : HTTP_REPLIED;
}

enum http_outcome api_train_metrics(struct http_request *request, void *context)
{
    return train_later(request, context, metrics);
}
