/* server/store: jobs, their states and keys, and the records of their runs. */
#include "server/store/store.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

#include "tests/unit/store/store_support.h"
#include "tests/unit/support.h"

static void set(struct store_rig *rig, int64_t id, enum job_state state, const char *reason, bool waits)
{
    const struct job_change wanted = {state, reason, waits};
    struct error err = {0};
    if (!store_set_state(rig->store, id, &wanted, &err)) fail_msg("%s", err.message);
}

static struct job get(struct store_rig *rig, int64_t id)
{
    struct job job;
    struct error err = {0};
    if (!store_get_job(rig->store, id, &job, &err)) fail_msg("%s", err.message);
    store_close_job(&job);
    return job;
}

/* ---- jobs ---- */

static void test_store_keeps_jobs_over_a_restart(void **state)
{
    (void)state;
    struct store_rig rig;
    struct job job;
    store_rig_open(&rig);
    assert_int_equal(store_rig_add(&rig), 1);
    set(&rig, 1, JOB_RUNNING, NULL, false);
    set(&rig, 1, JOB_PAUSED, "disk full", true);
    store_rig_reopen(&rig);
    assert_true(store_get_job(rig.store, 1, &job, NULL));
    assert_int_equal(job.state, JOB_PAUSED);
    assert_true(job.waits_for_room);
    assert_string_equal(job.reason, "disk full");
    assert_true(json_equal(job.request, rig.request));
    assert_null(job.progress);
    assert_true(*job.created && *job.started && !*job.finished);
    store_close_job(&job);
    store_rig_close(&rig);
}

static void test_store_names_a_job_that_is_not_there(void **state)
{
    (void)state;
    struct store_rig rig;
    struct job job;
    struct error err = {0};
    store_rig_open(&rig);
    assert_false(store_get_job(rig.store, 7, &job, &err));
    assert_int_equal(err.code, ERROR_NOT_FOUND);
    store_close_job(&job);
    store_rig_close(&rig);
}

static void test_store_sets_the_times_of_a_life(void **state)
{
    (void)state;
    struct store_rig rig;
    store_rig_open(&rig);
    int64_t id = store_rig_add(&rig);
    assert_string_equal(get(&rig, id).started, "");
    set(&rig, id, JOB_RUNNING, NULL, false);
    struct job first = get(&rig, id);
    assert_string_not_equal(first.started, "");
    set(&rig, id, JOB_QUEUED, NULL, false);
    set(&rig, id, JOB_RUNNING, NULL, false);
    assert_string_equal(get(&rig, id).started, first.started); /* the first start counts */
    set(&rig, id, JOB_FAILED, "why", false);
    assert_string_not_equal(get(&rig, id).finished, "");
    assert_string_equal(get(&rig, id).reason, "why");
    store_assert_events(
        &rig, id, 0,
        "1 state {\"state\":\"queued\",\"reason\":null}\n2 state {\"state\":\"running\",\"reason\":null}\n"
        "3 state {\"state\":\"queued\",\"reason\":null}\n4 state {\"state\":\"running\",\"reason\":null}\n"
        "5 state {\"state\":\"failed\",\"reason\":\"why\"}\n");
    store_rig_close(&rig);
}

static void test_store_lists_by_state_newest_first_in_pages(void **state)
{
    (void)state;
    struct store_rig rig;
    store_rig_open(&rig);
    for (int i = 0; i < 5; i++) store_rig_add(&rig);
    set(&rig, 2, JOB_CANCELLED, NULL, false);
    store_assert_list(&rig, JOB_STATES, 0, 10, "5 4 3 2 1 ");
    store_assert_list(&rig, JOB_STATES, 0, 2, "5 4 ");
    store_assert_list(&rig, JOB_STATES, 4, 2, "3 2 ");
    store_assert_list(&rig, JOB_CANCELLED, 0, 10, "2 ");
    int64_t id;
    assert_true(store_next_queued(rig.store, 1, &id, NULL));
    assert_int_equal(id, 3);
    assert_true(store_next_queued(rig.store, 5, &id, NULL));
    assert_int_equal(id, 0);
    store_rig_close(&rig);
}

static void test_store_queues_what_a_dead_process_was_running(void **state)
{
    (void)state;
    struct store_rig rig;
    store_rig_open(&rig);
    for (int i = 0; i < 4; i++) store_rig_add(&rig);
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
    store_assert_events(&rig, 1, 2, "3 state {\"state\":\"queued\",\"reason\":null}\n");
    store_rig_close(&rig);
}

static void test_store_gives_a_key_to_one_job(void **state)
{
    (void)state;
    struct store_rig rig;
    struct error err = {0};
    int64_t id, found;
    char hash[SHA256_TEXT_SIZE] = "";
    store_rig_open(&rig);
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
    assert_int_equal(store_rig_add(&rig), id + 1); /* a number is not used again */
    store_rig_close(&rig);
}

/* ---- what a run tells ---- */

static void progress(struct store_rig *rig, int64_t id, uint64_t step, double nats)
{
    const struct metric metric = {.step = step, .epoch = 1, .train_nats = nats, .validation_nats = NAN};
    char text[40];
    snprintf(text, sizeof text, "{\"step\":%d}", (int)step);
    assert_true(store_add_progress(rig->store, id, &metric, text, NULL));
}

static void validate(struct store_rig *rig, int64_t id, uint64_t step, double nats)
{
    const struct metric metric = {.step = step, .epoch = 1, .train_nats = NAN, .validation_nats = nats};
    assert_true(store_add_validation(rig->store, id, &metric, "{}", "{\"step\":0}", NULL));
}

static void test_store_keeps_a_loss_curve_and_the_latest_progress(void **state)
{
    (void)state;
    struct store_rig rig;
    struct job job;
    store_rig_open(&rig);
    int64_t id = store_rig_add(&rig);
    progress(&rig, id, 10, 3);
    progress(&rig, id, 20, 2);
    validate(&rig, id, 20, 2.5);
    validate(&rig, id, 25, INFINITY); /* JSON and SQL have no number for it: it counts as not known */
    assert_true(store_add_checkpoint(rig.store, id, "{\"step\":25}", NULL));
    progress(&rig, id, 30, 1);
    store_assert_metrics(&rig, id, "10:3/nan 20:2/2.5 25:nan/nan 30:1/nan ");
    char page[500] = "";
    assert_true(store_metrics(rig.store, &(struct store_range){id, 10, 2}, store_note_metric, page, NULL));
    assert_string_equal(page, "20:2/2.5 25:nan/nan ");
    store_assert_events(&rig, id, 1,
                        "4 validation {}\n5 validation {}\n6 checkpoint {\"step\":25}\n7 progress {\"step\":30}\n");
    assert_true(store_get_job(rig.store, id, &job, NULL));
    assert_int_equal(json_integer_value(json_object_get(job.progress, "step")), 30);
    store_close_job(&job);
    store_rig_close(&rig);
}

static void test_store_forgets_what_a_resumed_run_does_again(void **state)
{
    (void)state;
    struct store_rig rig;
    store_rig_open(&rig);
    int64_t id = store_rig_add(&rig), other = store_rig_add(&rig);
    for (uint64_t step = 10; step <= 40; step += 10) progress(&rig, id, step, 1);
    progress(&rig, other, 40, 4);
    progress(&rig, id, 25, 2);
    store_assert_metrics(&rig, id, "10:1/nan 20:1/nan 25:2/nan ");
    validate(&rig, id, 22, 3);
    store_assert_metrics(&rig, id, "10:1/nan 20:1/nan 22:nan/3 ");
    store_assert_metrics(&rig, other, "40:4/nan ");
    store_rig_close(&rig);
}

static void test_store_shows_the_samples_of_the_last_epoch(void **state)
{
    (void)state;
    struct store_rig rig;
    store_rig_open(&rig);
    int64_t id = store_rig_add(&rig);
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
    store_rig_close(&rig);
}

static void assert_notes(struct store_rig *rig, int64_t id, size_t count, const char *first, const char *last)
{
    json_t *notes = store_notes(rig->store, id, NULL);
    assert_int_equal(json_array_size(notes), count);
    if (count) assert_string_equal(json_string_value(json_array_get(notes, 0)), first);
    if (count) assert_string_equal(json_string_value(json_array_get(notes, count - 1)), last);
    json_decref(notes);
}

/* A run that goes on repeats its notes. */
static void test_store_keeps_notes_in_order_once_and_not_without_end(void **state)
{
    (void)state;
    struct store_rig rig;
    char text[64];
    store_rig_open(&rig);
    int64_t id = store_rig_add(&rig), other = store_rig_add(&rig);
    assert_notes(&rig, id, 0, NULL, NULL);
    const char *told[] = {"{\"text\":\"b\"}", "{\"text\":\"a\"}", "{\"text\":\"b\"}"};
    for (size_t i = 0; i < 3; i++) assert_true(store_add_note(rig.store, id, told[i], NULL));
    assert_true(store_add_note(rig.store, other, told[0], NULL));
    store_assert_events(&rig, id, 1, "2 note {\"text\":\"b\"}\n3 note {\"text\":\"a\"}\n");
    store_rig_reopen(&rig);
    assert_notes(&rig, id, 2, "b", "a");
    assert_notes(&rig, other, 1, "b", "b");
    for (int i = 0; i < STORE_NOTES; i++) {
        snprintf(text, sizeof text, "{\"text\":\"%d\"}", i);
        assert_true(store_add_note(rig.store, id, text, NULL));
    }
    assert_notes(&rig, id, STORE_NOTES, "b", "97");
    store_rig_close(&rig);
}

static void test_store_deletes_all_of_a_job_and_refuses_what_comes_late(void **state)
{
    (void)state;
    struct store_rig rig;
    struct error err = {0};
    store_rig_open(&rig);
    int64_t id = store_rig_add(&rig);
    progress(&rig, id, 10, 1);
    assert_true(store_delete_job(rig.store, id, NULL));
    store_assert_metrics(&rig, id, "");
    store_assert_events(&rig, id, 0, "");
    assert_false(store_add_checkpoint(rig.store, id, "{}", &err));
    store_assert_events(&rig, id, 0, "");
    store_rig_close(&rig);
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
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
