/* A run's figures: the loss curve and samples. */
#include "server/store/events.h"
#include "server/store/sql.h"

static bool store_set_progress(struct store *store, int64_t id, const char *progress, struct error *err)
{
    return sql_change(store, err, "UPDATE jobs SET progress = ?2 WHERE id = ?1", "it", id, progress);
}

static bool store_forget_metrics_after(struct store *store, int64_t id, uint64_t step, struct error *err)
{
    return sql_change(store, err, "DELETE FROM metrics WHERE job = ? AND step > ?", "ii", id, (int64_t)step);
}

bool store_add_progress(struct store *store, int64_t id, const struct metric *metric, const char *progress,
                        struct error *err)
{
    bool ok = sql_begin(store, SQL_CASUAL, err) && store_forget_metrics_after(store, id, metric->step, err) &&
              sql_change(store, err,
                         "INSERT INTO metrics (job, step, epoch, seconds, train_nats, learning_rate, gradient_norm,"
                         " tokens_per_second) VALUES (?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT DO UPDATE SET"
                         " seconds = excluded.seconds, train_nats = excluded.train_nats,"
                         " learning_rate = excluded.learning_rate, gradient_norm = excluded.gradient_norm,"
                         " tokens_per_second = excluded.tokens_per_second",
                         "iiirrrrr", id, (int64_t)metric->step, (int64_t)metric->epoch, metric->seconds,
                         metric->train_nats, metric->learning_rate, metric->gradient_norm, metric->tokens_per_second) &&
              store_set_progress(store, id, progress, err) && event_replace(store, id, "progress", progress, err);
    return sql_end(store, ok, err);
}

bool store_add_validation(struct store *store, int64_t id, const struct metric *metric, const char *event,
                          const char *progress, struct error *err)
{
    bool ok =
        sql_begin(store, SQL_CASUAL, err) && store_forget_metrics_after(store, id, metric->step, err) &&
        sql_change(
            store, err,
            "INSERT INTO metrics (job, step, epoch, seconds, train_nats, validation_nats) VALUES (?, ?, ?, ?, ?, ?)"
            " ON CONFLICT DO UPDATE SET validation_nats = excluded.validation_nats",
            "iiirrr", id, (int64_t)metric->step, (int64_t)metric->epoch, metric->seconds, metric->train_nats,
            metric->validation_nats) &&
        store_set_progress(store, id, progress, err) && event_add(store, id, "validation", event, err);
    return sql_end(store, ok, err);
}

bool store_add_sample(struct store *store, int64_t id, const struct job_sample *sample, const char *event,
                      struct error *err)
{
    bool ok =
        sql_begin(store, SQL_CASUAL, err) &&
        sql_change(store, err, "DELETE FROM samples WHERE job = ? AND epoch > ?", "ii", id, (int64_t)sample->epoch) &&
        sql_change(store, err,
                   "INSERT OR REPLACE INTO samples (job, epoch, temperature, prompt, text) VALUES (?, ?, ?, ?, ?)",
                   "iirtt", id, (int64_t)sample->epoch, sample->temperature, sample->prompt, sample->text) &&
        event_add(store, id, "sample", event, err);
    return sql_end(store, ok, err);
}

bool store_metrics(struct store *store, const struct store_range *range, store_each_metric *each, void *context,
                   struct error *err)
{
    struct sql_rows *row = sql_query(store, err,
                                     "SELECT step, epoch, seconds, train_nats, learning_rate, gradient_norm,"
                                     " tokens_per_second, validation_nats FROM metrics WHERE job = ?1 AND step > ?2"
                                     " ORDER BY step LIMIT ?3",
                                     "iii", range->job, range->after, (int64_t)range->limit);
    bool ok = row, more = true;
    while (ok && more && sql_next(store, row, &ok, err)) {
        const struct metric metric = {.step = (uint64_t)sql_integer(row, 0),
                                      .epoch = (uint64_t)sql_integer(row, 1),
                                      .seconds = sql_real(row, 2),
                                      .train_nats = sql_real(row, 3),
                                      .learning_rate = sql_real(row, 4),
                                      .gradient_norm = sql_real(row, 5),
                                      .tokens_per_second = sql_real(row, 6),
                                      .validation_nats = sql_real(row, 7)};
        more = each(context, &metric);
    }
    sql_rows_close(row);
    return ok;
}

json_t *store_samples(struct store *store, int64_t id, struct error *err)
{
    json_t *list = json_array();
    struct sql_rows *row =
        sql_query(store, err,
                  "SELECT epoch, temperature, prompt, text FROM samples WHERE job = ?1"
                  " AND epoch = (SELECT max(epoch) FROM samples WHERE job = ?1) ORDER BY temperature",
                  "i", id);
    bool ok = row;
    while (ok && sql_next(store, row, &ok, err)) {
        json_t *sample = json_pack("{s:I, s:f, s:s, s:s}", "epoch", (json_int_t)sql_integer(row, 0), "temperature",
                                   sql_real(row, 1), "prompt", sql_text(row, 2), "text", sql_text(row, 3));
        ok = sql_texts_are_whole(store, err);
        if (json_array_append_new(list, sample) != 0) ok = error_set_no_memory(err, 0, "samples");
    }
    sql_rows_close(row);
    if (ok) return list;
    json_decref(list);
    return NULL;
}
