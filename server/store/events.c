#include "server/store/events.h"

#include "server/store/sql.h"

/* The new number is one above the highest. A replacing event is added before the old one is removed, so no number
 * occurs twice. */
bool event_add(struct store *store, int64_t id, const char *type, const char *data, struct error *err)
{
    return sql_change(store, err,
                      "INSERT INTO events (job, sequence, type, data)"
                      " SELECT ?1, coalesce(max(sequence), 0) + 1, ?2, ?3 FROM events WHERE job = ?1",
                      "itt", id, type, data);
}

bool event_replace(struct store *store, int64_t id, const char *type, const char *data, struct error *err)
{
    return event_add(store, id, type, data, err) &&
           sql_change(store, err,
                      "DELETE FROM events WHERE job = ?1 AND type = ?2"
                      " AND sequence < (SELECT max(sequence) FROM events WHERE job = ?1)",
                      "it", id, type);
}

bool store_events(struct store *store, const struct store_range *range, store_each_event *each, void *context,
                  struct error *err)
{
    struct sql_rows *row = sql_query(store, err,
                                     "SELECT sequence, type, data FROM events WHERE job = ? AND sequence > ?"
                                     " ORDER BY sequence LIMIT ?",
                                     "iii", range->job, range->after, (int64_t)range->limit);
    bool ok = row, more = true;
    while (ok && more && sql_next(store, row, &ok, err)) {
        const char *type = sql_text(row, 1), *data = sql_text(row, 2);
        ok = sql_texts_are_whole(store, err);
        more = ok && each(context, sql_integer(row, 0), type, data);
    }
    sql_rows_close(row);
    return ok;
}

bool store_add_checkpoint(struct store *store, int64_t id, const char *event, struct error *err)
{
    return sql_end(store, sql_begin(store, SQL_CASUAL, err) && event_replace(store, id, "checkpoint", event, err), err);
}

bool store_add_note(struct store *store, int64_t id, const char *event, struct error *err)
{
    return sql_end(store,
                   sql_begin(store, SQL_CASUAL, err) &&
                       sql_change(store, err,
                                  "INSERT INTO events (job, sequence, type, data)"
                                  " SELECT ?1, coalesce(max(sequence), 0) + 1, 'note', ?2 FROM events WHERE job = ?1"
                                  " HAVING coalesce(sum(type = 'note'), 0) < " SQL_TEXT(
                                      STORE_NOTES) " AND coalesce(sum(type = 'note' AND data = ?2), 0) = 0",
                                  "it", id, event),
                   err);
}

json_t *store_notes(struct store *store, int64_t id, struct error *err)
{
    json_t *list = json_array();
    struct sql_rows *row =
        sql_query(store, err, "SELECT data FROM events WHERE job = ? AND type = 'note' ORDER BY sequence", "i", id);
    bool ok = row;
    while (ok && sql_next(store, row, &ok, err)) {
        json_t *note;
        ok = sql_json(store, row, 0, &note, err);
        if (ok && json_array_append(list, json_object_get(note, "text")) != 0)
            ok = error_set_no_memory(err, 0, "notes");
        json_decref(note);
    }
    sql_rows_close(row);
    if (ok) return list;
    json_decref(list);
    return NULL;
}
