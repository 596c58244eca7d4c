/* GET /train/{id}/metrics: the loss curve, as JSON or, where the client prefers it (server/http/negotiate.h), as CSV.
 */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "server/api/api.h"
#include "server/api/text_reply.h"
#include "server/api/train.h"
#include "server/http/negotiate.h"

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

/* The rows that are read at once; a piece of the answer. */
#define PAGE_ROWS 32

/* An answer that is being written, in the clerk's thread. */
struct curve {
    struct jobs *jobs;
    struct json_writer *out; /* of the page that is being read */
    int64_t id, last;        /* step that was written */
    size_t rows;             /* of this page */
    bool csv, begun;
};

static bool write_csv(void *context, const struct metric *metric)
{
    struct curve *curve = context;
    double values[COLUMNS];
    values_of(metric, values);
    for (size_t i = 0; i < COLUMNS; i++) {
        char text[32];
        const int n = isfinite(values[i]) ? snprintf(text, sizeof text, "%.9g", values[i]) : 0;
        json_write(curve->out, text, (size_t)n);
        json_write(curve->out, i + 1 < COLUMNS ? "," : "\n", 1);
    }
    curve->last = (int64_t)metric->step;
    curve->rows++;
    return true;
}

static bool write_json(void *context, const struct metric *metric)
{
    struct curve *curve = context;
    double values[COLUMNS];
    values_of(metric, values);
    if (curve->last >= 0) json_write_literal(curve->out, ",");
    for (size_t i = 0; i < COLUMNS; i++) {
        json_write(curve->out, i > 0 ? "," : "{", 1);
        json_write_string(curve->out, columns[i], strlen(columns[i]));
        json_write_literal(curve->out, ":");
        if (i < 2)
            json_write_integer(curve->out, (int64_t)values[i]);
        else
            json_write_real(curve->out, values[i]);
    }
    json_write_literal(curve->out, "}");
    curve->last = (int64_t)metric->step;
    curve->rows++;
    return true;
}

static void write_begin(struct curve *curve)
{
    curve->begun = true;
    if (!curve->csv) json_write_literal(curve->out, "{\"metrics\":[");
    for (size_t i = 0; curve->csv && i < COLUMNS; i++) {
        json_write(curve->out, columns[i], strlen(columns[i]));
        json_write(curve->out, i + 1 < COLUMNS ? "," : "\n", 1);
    }
}

/* If the job was deleted meanwhile, its further rows are gone, and the curve is not whole. */
static bool is_there(const struct curve *curve, struct error *err)
{
    struct job job;
    if (!jobs_get(curve->jobs, curve->id, &job, err)) return false;
    store_close_job(&job);
    return true;
}

static enum text_state write_page(void *context, struct json_writer *out, struct error *err)
{
    struct curve *curve = context;
    curve->out = out;
    curve->rows = 0;
    if (!curve->begun) write_begin(curve);
    const struct store_range range = {.job = curve->id, .after = curve->last, .limit = PAGE_ROWS};
    if (!store_metrics(jobs_store(curve->jobs), &range, curve->csv ? write_csv : write_json, curve, err))
        return TEXT_BROKEN;
    if (curve->rows == PAGE_ROWS) return TEXT_MORE;
    if (!is_there(curve, err)) return TEXT_BROKEN;
    if (!curve->csv) json_write_literal(out, "]}\n");
    return TEXT_END;
}

static enum http_outcome train_metrics_reply(struct http_request *request, struct jobs *jobs, int64_t id, bool csv)
{
    struct curve *curve = malloc(sizeof *curve);
    if (!curve) {
        struct problem problem = {0};
        problem_set(&problem, 503, "out of memory");
        return train_refuse(request, &problem);
    }
    *curve = (struct curve){.jobs = jobs, .id = id, .last = -1, .csv = csv};
    const struct text_source source = {
        .write = write_page, .release = free, .context = curve, .worker = jobs_clerk(jobs)};
    text_reply(request, 200, csv ? "text/csv; charset=utf-8" : "application/json", &source);
    return HTTP_REPLIED;
}

static enum http_outcome train_metrics_begin(struct http_request *request, void *context)
{
    struct jobs *jobs = ((struct services *)context)->jobs;
    static const char *const forms[] = {"application/json", "text/csv"};
    struct error err = {0};
    struct job job;
    int64_t id;
    if (!train_job_id(request, &id)) return HTTP_REPLIED;
    if (!jobs_get(jobs, id, &job, &err)) return train_refuse_error(request, &err);
    store_close_job(&job);
    http_reply_header(request, "Cache-Control", "no-store");
    http_reply_header(request, "Vary", "Accept");
    const bool csv = accept_choose(http_request_header(request, "Accept"), forms, sizeof forms / sizeof *forms) == 1;
    return train_metrics_reply(request, jobs, id, csv);
}

enum http_outcome api_train_metrics(struct http_request *request, void *context)
{
    return train_later(request, context, train_metrics_begin);
}
