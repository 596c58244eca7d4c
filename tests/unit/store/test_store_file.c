/* server/store: the file. Refused files, another program's lock, failing allocations (also SQLite's). */
#include <sqlite3.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "server/store/store.h"
#include "tests/unit/store/store_support.h"
#include "tests/unit/support.h"

/* ---- SQLite's own allocations ---- */

static size_t sqlite_countdown; /* allocations until one fails; 0: none does */
static bool sqlite_lasting;     /* all allocations after it fail, too */
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
    struct store_rig rig;
    store_rig_open(&rig);
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
    store_rig_close(&rig);
}

static void test_store_refuses_a_file_with_a_broken_page(void **state)
{
    (void)state;
    struct store_rig rig;
    store_rig_open(&rig);
    for (int i = 0; i < 200; i++) store_rig_add(&rig);
    store_close(rig.store); /* SQLite moves the log into the file */
    rig.store = NULL;
    FILE *file = fopen(rig.path, "r+");
    assert_non_null(file);
    for (long page = 1; page < 12; page++) {
        fseek(file, page * 4096, SEEK_SET);
        for (int i = 0; i < 64; i++) fputc(0xff, file);
    }
    fclose(file);
    assert_refused(rig.path, "damaged");
    store_rig_close(&rig);
}

/* ---- failures ---- */

static void test_store_that_is_locked_says_so(void **state)
{
    (void)state;
    struct store_rig rig;
    struct error err = {0};
    sqlite3 *other;
    store_rig_open(&rig);
    int64_t id = store_rig_add(&rig);
    assert_int_equal(sqlite3_open(rig.path, &other), SQLITE_OK);
    assert_int_equal(sqlite3_exec(other, "BEGIN IMMEDIATE", NULL, NULL, NULL), SQLITE_OK);
    assert_false(store_delete_job(rig.store, id, &err)); /* after its timeout */
    assert_int_equal(err.code, ERROR_UNAVAILABLE);
    sqlite3_exec(other, "ROLLBACK", NULL, NULL, NULL);
    sqlite3_close(other);
    assert_true(store_delete_job(rig.store, id, NULL));
    store_rig_close(&rig);
}

/* A whole life of a job, in a new database: rows that a failed attempt left would make the next attempt longer. */
static bool live(void *context, struct error *err)
{
    struct store_rig *rig = context;
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
              store_events(store, &(struct store_range){id, 0, 9}, store_note_event, text, err) &&
              store_list_jobs(store, &(struct job_filter){JOB_STATES, 0, 5}, store_note_job, (char[100]){0}, err) &&
              store_metrics(store, &(struct store_range){id, -1, 100}, store_note_metric, (char[500]){0}, err);
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
    struct store_rig rig;
    store_rig_open(&rig);
    store_close(rig.store);
    assert_survives_failing_allocations(live, &rig);
    rig.store = NULL;
    store_rig_close(&rig);
}

static void test_store_survives_failing_allocations_of_sqlite(void **state)
{
    (void)state;
    struct store_rig rig;
    store_rig_open(&rig);
    store_close(rig.store);
    rig.store = NULL;
    for (size_t n = 1;; n += 1 + n / 16) {
        struct error err = {0};
        sqlite_failed = false;
        sqlite_countdown = n;
        const bool done = live(&rig, &err);
        sqlite_countdown = 0;
        if (!done) assert_true(err.code == ERROR_NO_MEMORY || err.code == ERROR_IO);
        if (!done) assert_true(sqlite_failed); /* SQLite gets along without a cache */
        if (!sqlite_failed) break;
    }
    store_rig_reopen(&rig); /* checks the file */
    store_rig_close(&rig);
}

static bool count_job(void *context, const struct job *job)
{
    (void)job;
    ++*(size_t *)context;
    return true;
}

static size_t count_queued(struct store_rig *rig)
{
    size_t count = 0;
    assert_true(store_list_jobs(rig->store, &(struct job_filter){JOB_QUEUED, 0, INT64_MAX}, count_job, &count, NULL));
    return count;
}

/* A transaction that fails is taken back, though nothing can be allocated for that either. */
static void test_store_without_memory_takes_back_what_it_began(void **state)
{
    (void)state;
    struct store_rig rig;
    size_t added = 0;
    store_rig_open(&rig);
    const struct job_order order = {.request = rig.request};
    for (size_t n = 1;; n++) {
        int64_t id;
        store_rig_reopen(&rig);
        sqlite_failed = false;
        sqlite_lasting = true;
        sqlite_countdown = n;
        added += store_add_job(rig.store, &order, &id, NULL);
        sqlite_countdown = 0;
        sqlite_lasting = false;
        assert_int_equal(count_queued(&rig), added);
        if (!sqlite_failed) break;
    }
    store_rig_add(&rig);
    store_rig_close(&rig);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_store_refuses_damaged_foreign_and_newer_files_and_leaves_them),
        cmocka_unit_test(test_store_refuses_a_file_with_a_broken_page),
        cmocka_unit_test(test_store_that_is_locked_says_so),
        cmocka_unit_test(test_store_survives_failing_allocations_of_its_own),
        cmocka_unit_test(test_store_survives_failing_allocations_of_sqlite),
        cmocka_unit_test(test_store_without_memory_takes_back_what_it_began),
    };
    return cmocka_run_group_tests(tests, install_allocator, NULL);
}
