/* Shared by the tests of server/store. */
#include "tests/unit/store/store_support.h"

#include <stdio.h>
#include <string.h>

#include "tests/unit/support.h"

void store_rig_open(struct store_rig *rig)
{
    struct error err = {0};
    rig->directory = temp_dir_new();
    rig->path = in_dir(rig->directory, STORE_FILE);
    rig->request = json_pack("{s:s, s:i}", "model", "m", "hidden", 8);
    rig->store = store_open(rig->path, &err);
    if (!rig->store) fail_msg("%s", err.message);
}

void store_rig_reopen(struct store_rig *rig)
{
    store_close(rig->store);
    rig->store = store_open(rig->path, NULL);
    assert_non_null(rig->store);
}

void store_rig_close(struct store_rig *rig)
{
    store_close(rig->store);
    json_decref(rig->request);
    temp_dir_remove(rig->directory);
}

int64_t store_rig_add(struct store_rig *rig)
{
    int64_t id = 0;
    struct error err = {0};
    if (!store_add_job(rig->store, &(struct job_order){.request = rig->request}, &id, &err))
        fail_msg("%s", err.message);
    return id;
}

/* Appends "sequence type data\n". */
bool store_note_event(void *context, int64_t sequence, const char *type, const char *data)
{
    char *text = context;
    size_t n = strlen(text);
    snprintf(text + n, 2000 - n, "%lld %s %s\n", (long long)sequence, type, data);
    return true;
}

void store_assert_events(struct store_rig *rig, int64_t id, int64_t after, const char *expected)
{
    char text[2000] = "";
    assert_true(store_events(rig->store, &(struct store_range){id, after, 100}, store_note_event, text, NULL));
    assert_string_equal(text, expected);
}

bool store_note_metric(void *context, const struct metric *metric)
{
    char *text = context;
    size_t n = strlen(text);
    snprintf(text + n, 500 - n, "%llu:%g/%g ", (unsigned long long)metric->step, metric->train_nats,
             metric->validation_nats);
    return true;
}

void store_assert_metrics(struct store_rig *rig, int64_t id, const char *expected)
{
    char text[500] = "";
    assert_true(store_metrics(rig->store, &(struct store_range){id, -1, 100}, store_note_metric, text, NULL));
    assert_string_equal(text, expected);
}

bool store_note_job(void *context, const struct job *job)
{
    char *text = context;
    size_t n = strlen(text);
    snprintf(text + n, 100 - n, "%lld ", (long long)job->id);
    return true;
}

void store_assert_list(struct store_rig *rig, enum job_state state, int64_t before, size_t limit, const char *expected)
{
    char text[100] = "";
    assert_true(store_list_jobs(rig->store, &(struct job_filter){state, before, limit}, store_note_job, text, NULL));
    assert_string_equal(text, expected);
}
