#include <math.h>
#include <sqlite3.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "server/store/store.h"
#include "tests/unit/support.h"

/* ---- SQLite's own allocations ---- */

static size_t sqlite_countdown; /* allocations until one fails; 0: none does */
static bool sqlite_lasting;     /* so do all after it */
static bool sqlite_failed;
static sqlite3_mem_methods real_methods, failing_methods;

static bool fails_now(void)
{
    if (sqlite_countdown == 0) return false;
    if (sqlite_countdown > 1) {
        sqlite_countdown--;
        return false;
    }
    if (!sqlite_lasting) sqlite_countdown = 0;
    sqlite_failed = true;
    return true;
}

static void *failing_malloc(int n)
{
    return fails_now() ? NULL : real_methods.xMalloc(n);
}

static void *failing_realloc(void *old, int n)
{
    return fails_now() ? NULL : real_methods.xRealloc(old, n);
}

static int install_allocator(void **state)
{
    (void)state;
    sqlite3_config(SQLITE_CONFIG_GETMALLOC, &real_methods);
    failing_methods = real_methods;
    failing_methods.xMalloc = failing_malloc;
    failing_methods.xRealloc = failing_realloc;
    return sqlite3_config(SQLITE_CONFIG_MALLOC, &failing_methods) == SQLITE_OK ? 0 : -1;
}

/* ---- what the tests share ---- */

struct rig {
    char *directory;
    const char *path;
    struct store *store;
    json_t *request;
};

static void rig_open(struct rig *rig)
{
    struct error err = {0};
    rig->directory = temp_dir_new();
    rig->path = in_dir(rig->directory, STORE_FILE);
    rig->request = json_pack("{s:s, s:i}", "model", "m", "hidden", 8);
    rig->store = store_open(rig->path, &err);
    if (!rig->store) fail_msg("%s", err.message);
}

static void rig_reopen(struct rig *rig)
{
    store_close(rig->store);
    rig->store = store_open(rig->path, NULL);
    assert_non_null(rig->store);
}

static void rig_close(struct rig *rig)
{
    store_close(rig->store);
    json_decref(rig->request);
    temp_dir_remove(rig->directory);
}

static int64_t add(struct rig *rig)
{
    int64_t id = 0;
    struct error err = {0};
    if (!store_add_job(rig->store, &(struct job_order){.request = rig->request}, &id, &err))
        fail_msg("%s", err.message);
    return id;
}

static void set(struct rig *rig, int64_t id, enum job_state state, const char *reason, bool waits)
{
    const struct job_change wanted = {state, reason, waits};
    struct error err = {0};
    if (!store_set_state(rig->store, id, &wanted, &err)) fail_msg("%s", err.message);
}

static struct job get(struct rig *rig, int64_t id)
{
    struct job job;
    struct error err = {0};
    if (!store_get_job(rig->store, id, &job, &err)) fail_msg("%s", err.message);
    store_close_job(&job);
    return job;
}

/* Appends "sequence type data\n". */
static bool note_event(void *context, int64_t sequence, const char *type, const char *data)
{
    char *text = context;
    size_t n = strlen(text);
    snprintf(text + n, 2000 - n, "%lld %s %s\n", (long long)sequence, type, data);
    return true;
}

static void assert_events(struct rig *rig, int64_t id, int64_t after, const char *expected)
{
    char text[2000] = "";
    assert_true(store_events(rig->store, &(struct store_range){id, after, 100}, note_event, text, NULL));
    assert_string_equal(text, expected);
}

static bool note_metric(void *context, const struct metric *metric)
{
    char *text = context;
    size_t n = strlen(text);
    snprintf(text + n, 500 - n, "%llu:%g/%g ", (unsigned long long)metric->step, metric->train_nats,
             metric->validation_nats);
    return true;
}

static void assert_metrics(struct rig *rig, int64_t id, const char *expected)
{
    char text[500] = "";
    assert_true(store_metrics(rig->store, &(struct store_range){id, -1, 100}, note_metric, text, NULL));
    assert_string_equal(text, expected);
}

static bool note_job(void *context, const struct job *job)
{
    char *text = context;
    size_t n = strlen(text);
    snprintf(text + n, 100 - n, "%lld ", (long long)job->id);
    return true;
}

static void assert_list(struct rig *rig, enum job_state state, int64_t before, size_t limit, const char *expected)
{
    char text[100] = "";
    assert_true(store_list_jobs(rig->store, &(struct job_filter){state, before, limit}, note_job, text, NULL));
    assert_string_equal(text, expected);
}

/* ---- jobs ---- */

static void test_store_keeps_jobs_over_a_restart(void **state)
{
    (void)state;
    struct rig rig;
    struct job job;
    rig_open(&rig);
    assert_int_equal(add(&rig), 1);
    set(&rig, 1, JOB_RUNNING, NULL, false);
    set(&rig, 1, JOB_PAUSED, "disk full", true);
    rig_reopen(&rig);
    assert_true(store_get_job(rig.store, 1, &job, NULL));
    assert_int_equal(job.state, JOB_PAUSED);
    assert_true(job.waits_for_room);
    assert_string_equal(job.reason, "disk full");
    assert_true(json_equal(job.request, rig.request));
    assert_null(job.progress);
    assert_true(*job.created && *job.started && !*job.finished);
    store_close_job(&job);
    rig_close(&rig);
}

static void test_store_names_a_job_that_is_not_there(void **state)
{
    (void)state;
    struct rig rig;
    struct job job;
    struct error err = {0};
    rig_open(&rig);
    assert_false(store_get_job(rig.store, 7, &job, &err));
    assert_int_equal(err.code, ERROR_NOT_FOUND);
    store_close_job(&job);
    rig_close(&rig);
}

static void test_store_sets_the_times_of_a_life(void **state)
{
    (void)state;
    struct rig rig;
    rig_open(&rig);
    int64_t id = add(&rig);
    assert_string_equal(get(&rig, id).started, "");
    set(&rig, id, JOB_RUNNING, NULL, false);
    struct job first = get(&rig, id);
    assert_string_not_equal(first.started, "");
    set(&rig, id, JOB_QUEUED, NULL, false);
    set(&rig, id, JOB_RUNNING, NULL, false);
    assert_string_equal(get(&rig, id).started, first.started); /* the first start */
    set(&rig, id, JOB_FAILED, "why", false);
    assert_string_not_equal(get(&rig, id).finished, "");
    assert_string_equal(get(&rig, id).reason, "why");
    assert_events(&rig, id, 0,
                  "1 state {\"state\":\"queued\",\"reason\":null}\n2 state {\"state\":\"running\",\"reason\":null}\n"
                  "3 state {\"state\":\"queued\",\"reason\":null}\n4 state {\"state\":\"running\",\"reason\":null}\n"
                  "5 state {\"state\":\"failed\",\"reason\":\"why\"}\n");
    rig_close(&rig);
}

static void test_store_lists_by_state_newest_first_in_pages(void **state)
{
    (void)state;
    struct rig rig;
    rig_open(&rig);
    for (int i = 0; i < 5; i++) add(&rig);
    set(&rig, 2, JOB_CANCELLED, NULL, false);
    assert_list(&rig, JOB_STATES, 0, 10, "5 4 3 2 1 ");
    assert_list(&rig, JOB_STATES, 0, 2, "5 4 ");
    assert_list(&rig, JOB_STATES, 4, 2, "3 2 ");
    assert_list(&rig, JOB_CANCELLED, 0, 10, "2 ");
    int64_t id;
    assert_true(store_next_queued(rig.store, 1, &id, NULL));
    assert_int_equal(id, 3);
    assert_true(store_next_queued(rig.store, 5, &id, NULL));
    assert_int_equal(id, 0);
    rig_close(&rig);
}

static void test_store_queues_what_a_dead_process_was_running(void **state)
{
    (void)state;
    struct rig rig;
    rig_open(&rig);
    for (int i = 0; i < 4; i++) add(&rig);
    set(&rig, 1, JOB_RUNNING, NULL, false);
    set(&rig, 2, JOB_PAUSED, NULL, false);
    set(&rig, 3, JOB_PAUSED, "disk full", true);
    set(&rig, 4, JOB_SUCCEEDED, NULL, false);
    assert_true(store_recover(rig.store, NULL));
    assert_int_equal(get(&rig, 1).state, JOB_QUEUED);
    assert_int_equal(get(&rig, 2).state, JOB_PAUSED);
    assert_int_equal(get(&rig, 3).state, JOB_QUEUED);
    assert_false(get(&rig, 3).waits_for_room);
    assert_int_equal(get(&rig, 4).state, JOB_SUCCEEDED);
    assert_events(&rig, 1, 2, "3 state {\"state\":\"queued\",\"reason\":null}\n");
    rig_close(&rig);
}

static void test_store_gives_a_key_to_one_job(void **state)
{
    (void)state;
    struct rig rig;
    struct error err = {0};
    int64_t id, found;
    char hash[SHA256_TEXT_SIZE] = "";
    rig_open(&rig);
    assert_true(store_find_key(rig.store, "k", &found, hash, NULL));
    assert_int_equal(found, 0);
    const struct job_order order = {rig.request, "some text", "k", "abc"};
    assert_true(store_add_job(rig.store, &order, &id, NULL));
    char *text = store_job_text(rig.store, id, NULL);
    assert_string_equal(text, "some text");
    free(text);
    assert_true(store_find_key(rig.store, "k", &found, hash, NULL));
    assert_int_equal(found, id);
    assert_string_equal(hash, "abc");
    assert_false(store_add_job(rig.store, &order, &found, &err));
    assert_true(store_delete_job(rig.store, id, NULL));
    assert_true(store_find_key(rig.store, "k", &found, hash, NULL));
    assert_int_equal(found, 0);
    assert_int_equal(add(&rig), id + 1); /* a number is not used again */
    rig_close(&rig);
}

/* ---- what a run tells ---- */

static void progress(struct rig *rig, int64_t id, uint64_t step, double nats)
{
    const struct metric metric = {.step = step, .epoch = 1, .train_nats = nats, .validation_nats = NAN};
    char text[40];
    snprintf(text, sizeof text, "{\"step\":%d}", (int)step);
    assert_true(store_add_progress(rig->store, id, &metric, text, NULL));
}

static void validate(struct rig *rig, int64_t id, uint64_t step, double nats)
{
    const struct metric metric = {.step = step, .epoch = 1, .train_nats = NAN, .validation_nats = nats};
    assert_true(store_add_validation(rig->store, id, &metric, "{}", "{\"step\":0}", NULL));
}

static void test_store_keeps_a_loss_curve_and_the_latest_progress(void **state)
{
    (void)state;
    struct rig rig;
    struct job job;
    rig_open(&rig);
    int64_t id = add(&rig);
    progress(&rig, id, 10, 3);
    progress(&rig, id, 20, 2);
    validate(&rig, id, 20, 2.5);
    validate(&rig, id, 25, INFINITY); /* what JSON and SQL have no number for is not known */
    assert_true(store_add_checkpoint(rig.store, id, "{\"step\":25}", NULL));
    progress(&rig, id, 30, 1);
    assert_metrics(&rig, id, "10:3/nan 20:2/2.5 25:nan/nan 30:1/nan ");
    char page[500] = "";
    assert_true(store_metrics(rig.store, &(struct store_range){id, 10, 2}, note_metric, page, NULL));
    assert_string_equal(page, "20:2/2.5 25:nan/nan ");
    assert_events(&rig, id, 1,
                  "4 validation {}\n5 validation {}\n6 checkpoint {\"step\":25}\n7 progress {\"step\":30}\n");
    assert_true(store_get_job(rig.store, id, &job, NULL));
    assert_int_equal(json_integer_value(json_object_get(job.progress, "step")), 30);
    store_close_job(&job);
    rig_close(&rig);
}

static void test_store_forgets_what_a_resumed_run_does_again(void **state)
{
    (void)state;
    struct rig rig;
    rig_open(&rig);
    int64_t id = add(&rig), other = add(&rig);
    for (uint64_t step = 10; step <= 40; step += 10) progress(&rig, id, step, 1);
    progress(&rig, other, 40, 4);
    progress(&rig, id, 25, 2);
    assert_metrics(&rig, id, "10:1/nan 20:1/nan 25:2/nan ");
    validate(&rig, id, 22, 3);
    assert_metrics(&rig, id, "10:1/nan 20:1/nan 22:nan/3 ");
    assert_metrics(&rig, other, "40:4/nan ");
    rig_close(&rig);
}

static void test_store_shows_the_samples_of_the_last_epoch(void **state)
{
    (void)state;
    struct rig rig;
    rig_open(&rig);
    int64_t id = add(&rig);
    json_t *samples = store_samples(rig.store, id, NULL);
    assert_int_equal(json_array_size(samples), 0);
    json_decref(samples);
    for (uint64_t epoch = 1; epoch <= 3; epoch++)
        for (int t = 1; t <= 2; t++) {
            const struct job_sample sample = {epoch, t, "p", epoch == 2 ? "two" : "other"};
            assert_true(store_add_sample(rig.store, id, &sample, "{}", NULL));
        }
    const struct job_sample again = {2, 1, "p", "once more"};
    assert_true(store_add_sample(rig.store, id, &again, "{}", NULL));
    samples = store_samples(rig.store, id, NULL);
    assert_int_equal(json_array_size(samples), 2);
    assert_string_equal(json_string_value(json_object_get(json_array_get(samples, 0), "text")), "once more");
    assert_string_equal(json_string_value(json_object_get(json_array_get(samples, 1), "text")), "two");
    json_decref(samples);
    rig_close(&rig);
}

static void assert_notes(struct rig *rig, int64_t id, size_t count, const char *first, const char *last)
{
    json_t *notes = store_notes(rig->store, id, NULL);
    assert_int_equal(json_array_size(notes), count);
    if (count) assert_string_equal(json_string_value(json_array_get(notes, 0)), first);
    if (count) assert_string_equal(json_string_value(json_array_get(notes, count - 1)), last);
    json_decref(notes);
}

/* A run that goes on says what it said before. */
static void test_store_keeps_notes_in_order_once_and_not_without_end(void **state)
{
    (void)state;
    struct rig rig;
    char text[64];
    rig_open(&rig);
    int64_t id = add(&rig), other = add(&rig);
    assert_notes(&rig, id, 0, NULL, NULL);
    const char *told[] = {"{\"text\":\"b\"}", "{\"text\":\"a\"}", "{\"text\":\"b\"}"};
    for (size_t i = 0; i < 3; i++) assert_true(store_add_note(rig.store, id, told[i], NULL));
    assert_true(store_add_note(rig.store, other, told[0], NULL));
    assert_events(&rig, id, 1, "2 note {\"text\":\"b\"}\n3 note {\"text\":\"a\"}\n");
    rig_reopen(&rig);
    assert_notes(&rig, id, 2, "b", "a");
    assert_notes(&rig, other, 1, "b", "b");
    for (int i = 0; i < STORE_NOTES; i++) {
        snprintf(text, sizeof text, "{\"text\":\"%d\"}", i);
        assert_true(store_add_note(rig.store, id, text, NULL));
    }
    assert_notes(&rig, id, STORE_NOTES, "b", "97");
    rig_close(&rig);
}

static void test_store_deletes_all_of_a_job_and_refuses_what_comes_late(void **state)
{
    (void)state;
    struct rig rig;
    struct error err = {0};
    rig_open(&rig);
    int64_t id = add(&rig);
    progress(&rig, id, 10, 1);
    assert_true(store_delete_job(rig.store, id, NULL));
    assert_metrics(&rig, id, "");
    assert_events(&rig, id, 0, "");
    assert_false(store_add_checkpoint(rig.store, id, "{}", &err));
    assert_events(&rig, id, 0, "");
    rig_close(&rig);
}

/* ---- files that are refused ---- */

static void assert_refused(const char *path, const char *text)
{
    struct error err = {0};
    assert_null(store_open(path, &err));
    assert_int_equal(err.code, ERROR_CORRUPT);
    if (!strstr(err.message, text) || !strstr(err.message, path)) fail_msg("\"%s\" lacks \"%s\"", err.message, text);
}

static void change_file(const char *path, const char *sql)
{
    sqlite3 *db;
    assert_int_equal(sqlite3_open(path, &db), SQLITE_OK);
    assert_int_equal(sqlite3_exec(db, sql, NULL, NULL, NULL), SQLITE_OK);
    sqlite3_close(db);
}

static void test_store_refuses_damaged_foreign_and_newer_files_and_leaves_them(void **state)
{
    (void)state;
    struct rig rig;
    rig_open(&rig);
    const char *text = in_dir(rig.directory, "text"), *foreign = in_dir(rig.directory, "foreign");
    write_text(text, "this is no database, however long the text may become: "
                     "a header of one hundred bytes is what SQLite looks at first");
    assert_refused(text, "move it away");
    char *same = read_text(text);
    assert_memory_equal(same, "this is no database", 19);
    free(same);
    change_file(foreign, "CREATE TABLE t (x)");
    assert_refused(foreign, "another program");
    store_close(rig.store);
    change_file(rig.path, "PRAGMA user_version = 99");
    assert_refused(rig.path, "newer lstmd (version 99");
    change_file(rig.path, "PRAGMA user_version = 1; PRAGMA wal_checkpoint(TRUNCATE)");
    rig.store = store_open(rig.path, NULL);
    assert_non_null(rig.store);
    rig_close(&rig);
}

static void test_store_refuses_a_file_with_a_broken_page(void **state)
{
    (void)state;
    struct rig rig;
    rig_open(&rig);
    for (int i = 0; i < 200; i++) add(&rig);
    store_close(rig.store); /* moves the log into the file */
    rig.store = NULL;
    FILE *file = fopen(rig.path, "r+");
    assert_non_null(file);
    for (long page = 1; page < 12; page++) {
        fseek(file, page * 4096, SEEK_SET);
        for (int i = 0; i < 64; i++) fputc(0xff, file);
    }
    fclose(file);
    assert_refused(rig.path, "damaged");
    rig_close(&rig);
}

/* ---- failures ---- */

static void test_store_that_is_locked_says_so(void **state)
{
    (void)state;
    struct rig rig;
    struct error err = {0};
    sqlite3 *other;
    rig_open(&rig);
    int64_t id = add(&rig);
    assert_int_equal(sqlite3_open(rig.path, &other), SQLITE_OK);
    assert_int_equal(sqlite3_exec(other, "BEGIN IMMEDIATE", NULL, NULL, NULL), SQLITE_OK);
    assert_false(store_delete_job(rig.store, id, &err)); /* after its timeout */
    assert_int_equal(err.code, ERROR_UNAVAILABLE);
    sqlite3_exec(other, "ROLLBACK", NULL, NULL, NULL);
    sqlite3_close(other);
    assert_true(store_delete_job(rig.store, id, NULL));
    rig_close(&rig);
}

/* A whole life of a job in a database of its own: what an attempt that failed left behind would make the next longer.
 */
static bool live(void *context, struct error *err)
{
    struct rig *rig = context;
    static const char *const files[] = {STORE_FILE, STORE_FILE "-wal", STORE_FILE "-shm"};
    for (size_t i = 0; i < sizeof files / sizeof *files; i++) unlink(in_dir(rig->directory, files[i]));
    const struct metric metric = {.step = 3, .train_nats = 1, .validation_nats = 2};
    const struct job_sample sample = {1, 0.5, "p", "t"};
    const struct job_change paused = {JOB_PAUSED, "why", true};
    char text[2000] = "";
    int64_t id, next;
    char hash[SHA256_TEXT_SIZE];
    struct job job;
    struct store *store = store_open(rig->path, err);
    bool ok = store && store_add_job(store, &(struct job_order){.request = rig->request, .text = "t"}, &id, err) &&
              store_find_key(store, "none", &next, hash, err) && store_add_progress(store, id, &metric, "{}", err) &&
              store_add_validation(store, id, &metric, "{}", "{}", err) &&
              store_add_sample(store, id, &sample, "{}", err) && store_add_checkpoint(store, id, "{}", err) &&
              store_add_note(store, id, "{\"text\":\"n\"}", err) && store_set_state(store, id, &paused, err) &&
              store_recover(store, err) && store_next_queued(store, 0, &next, err) &&
              store_events(store, &(struct store_range){id, 0, 9}, note_event, text, err) &&
              store_list_jobs(store, &(struct job_filter){JOB_STATES, 0, 5}, note_job, (char[100]){0}, err) &&
              store_metrics(store, &(struct store_range){id, -1, 100}, note_metric, (char[500]){0}, err);
    json_t *samples = ok ? store_samples(store, id, err) : NULL, *notes = samples ? store_notes(store, id, err) : NULL;
    ok = ok && notes && store_get_job(store, id, &job, err);
    if (ok) store_close_job(&job);
    json_decref(samples);
    json_decref(notes);
    store_close(store);
    return ok;
}

static void test_store_survives_failing_allocations_of_its_own(void **state)
{
    (void)state;
    struct rig rig;
    rig_open(&rig);
    store_close(rig.store);
    assert_survives_failing_allocations(live, &rig);
    rig.store = NULL;
    rig_close(&rig);
}

static void test_store_survives_failing_allocations_of_sqlite(void **state)
{
    (void)state;
    struct rig rig;
    rig_open(&rig);
    store_close(rig.store);
    rig.store = NULL;
    for (size_t n = 1;; n += 1 + n / 16) {
        struct error err = {0};
        sqlite_failed = false;
        sqlite_countdown = n;
        const bool done = live(&rig, &err);
        sqlite_countdown = 0;
        if (!done) assert_true(err.code == ERROR_NO_MEMORY || err.code == ERROR_IO);
        if (!done) assert_true(sqlite_failed); /* some failures cost SQLite nothing but a cache */
        if (!sqlite_failed) break;
    }
    rig_reopen(&rig); /* checks the file */
    rig_close(&rig);
}

static bool count_job(void *context, const struct job *job)
{
    (void)job;
    ++*(size_t *)context;
    return true;
}

static size_t count_queued(struct rig *rig)
{
    size_t count = 0;
    assert_true(store_list_jobs(rig->store, &(struct job_filter){JOB_QUEUED, 0, INT64_MAX}, count_job, &count, NULL));
    return count;
}

/* What fails is taken back, though nothing can be allocated for that either. */
static void test_store_without_memory_takes_back_what_it_began(void **state)
{
    (void)state;
    struct rig rig;
    size_t added = 0;
    rig_open(&rig);
    const struct job_order order = {.request = rig.request};
    for (size_t n = 1;; n++) {
        int64_t id;
        rig_reopen(&rig);
        sqlite_failed = false;
        sqlite_lasting = true;
        sqlite_countdown = n;
        added += store_add_job(rig.store, &order, &id, NULL);
        sqlite_countdown = 0;
        sqlite_lasting = false;
        assert_int_equal(count_queued(&rig), added);
        if (!sqlite_failed) break;
    }
    add(&rig);
    rig_close(&rig);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_store_keeps_jobs_over_a_restart),
        cmocka_unit_test(test_store_names_a_job_that_is_not_there),
        cmocka_unit_test(test_store_sets_the_times_of_a_life),
        cmocka_unit_test(test_store_lists_by_state_newest_first_in_pages),
        cmocka_unit_test(test_store_queues_what_a_dead_process_was_running),
        cmocka_unit_test(test_store_gives_a_key_to_one_job),
        cmocka_unit_test(test_store_keeps_a_loss_curve_and_the_latest_progress),
        cmocka_unit_test(test_store_forgets_what_a_resumed_run_does_again),
        cmocka_unit_test(test_store_shows_the_samples_of_the_last_epoch),
        cmocka_unit_test(test_store_keeps_notes_in_order_once_and_not_without_end),
        cmocka_unit_test(test_store_deletes_all_of_a_job_and_refuses_what_comes_late),
        cmocka_unit_test(test_store_refuses_damaged_foreign_and_newer_files_and_leaves_them),
        cmocka_unit_test(test_store_refuses_a_file_with_a_broken_page),
        cmocka_unit_test(test_store_that_is_locked_says_so),
        cmocka_unit_test(test_store_survives_failing_allocations_of_its_own),
        cmocka_unit_test(test_store_survives_failing_allocations_of_sqlite),
        cmocka_unit_test(test_store_without_memory_takes_back_what_it_began),
    };
    return cmocka_run_group_tests(tests, install_allocator, NULL);
}
