#include "server/store/state_dir.h"

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "tests/unit/support.h"

static char *dir;

static int setup(void **state)
{
    (void)state;
    dir = temp_dir_new();
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    temp_dir_remove(dir);
    return 0;
}

static void test_state_dir_makes_its_parts_for_their_owner_alone(void **state)
{
    (void)state;
    const char *path = in_dir(dir, "state");
    for (int i = 0; i < 2; i++) { /* the second time everything exists */
        struct error err = {0};
        struct state_dir *opened = state_dir_open(path, &err);
        if (!opened) fail_msg("%s", err.message);
        assert_string_equal(state_dir_path(opened), path);
        assert_string_equal(state_dir_models(opened), in_dir(path, "models"));
        assert_string_equal(state_dir_datasets(opened), in_dir(path, "datasets"));
        assert_string_equal(state_dir_jobs(opened), in_dir(path, "jobs"));
        const char *const made[] = {path, state_dir_models(opened), state_dir_datasets(opened), state_dir_jobs(opened)};
        for (size_t k = 0; k < sizeof made / sizeof made[0]; k++) {
            struct stat info;
            assert_int_equal(stat(made[k], &info), 0);
            assert_int_equal(info.st_mode & 0777, 0700);
        }
        state_dir_close(opened);
    }
}

static void assert_refused(const char *path, enum error_code code, const char *part)
{
    struct error err = {0};
    assert_null(state_dir_open(path, &err));
    assert_int_equal(err.code, code);
    if (!strstr(err.message, part)) fail_msg("%s", err.message);
}

static void test_state_dir_is_of_one_daemon_at_a_time(void **state)
{
    (void)state;
    char holder[64];
    struct state_dir *first = state_dir_open(dir, NULL);
    assert_non_null(first);
    snprintf(holder, sizeof holder, "another daemon uses this state directory (process %ld)", (long)getpid());
    assert_refused(dir, ERROR_CONFLICT, holder);
    state_dir_close(first);
    state_dir_close(state_dir_open(dir, NULL));
}

/* kill -9 leaves the file behind, not the lock. */
static void test_state_dir_lock_ends_with_its_process(void **state)
{
    (void)state;
    pid_t child = fork();
    if (child == 0) {
        if (!state_dir_open(dir, NULL)) _exit(1);
        kill(getpid(), SIGKILL);
    }
    int status;
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_true(WIFSIGNALED(status));
    assert_int_equal(access(in_dir(dir, "lock"), F_OK), 0);
    struct state_dir *opened = state_dir_open(dir, NULL);
    assert_non_null(opened);
    state_dir_close(opened);
}

static void test_state_dir_errors_name_the_path(void **state)
{
    (void)state;
    write_text(in_dir(dir, "file"), "x");
    assert_refused(in_dir(dir, "file"), ERROR_INVALID, "server.state_dir: ");
    assert_refused(in_dir(dir, "none/below"), ERROR_NOT_FOUND, "none/below: cannot make this directory");
    assert_int_equal(mkdir(in_dir(dir, "state"), 0700), 0);
    write_text(in_dir(dir, "state/models"), "x");
    assert_refused(in_dir(dir, "state"), ERROR_INVALID, "state/models: is there and is not a directory");
}

static void test_state_dir_open_sweeps(void **state)
{
    (void)state;
    static const char *const directories[] = {
        "models",  "datasets", "jobs", "jobs/1", "jobs/1/model.tmp-0123456789ab", "models/a.tmp-0123456789ab",
        "models/a"};
    for (size_t i = 0; i < sizeof directories / sizeof directories[0]; i++)
        assert_int_equal(mkdir(in_dir(dir, directories[i]), 0700), 0);
    write_text(in_dir(dir, "models/a.tmp-0123456789ab/config.json"), "x");
    write_text(in_dir(dir, "datasets/a.tmp-0123456789ab"), "x");
    write_text(in_dir(dir, "default.tmp-0123456789ab"), "x");
    struct state_dir *opened = state_dir_open(dir, NULL);
    assert_non_null(opened);
    assert_int_equal(count_entries(dir), 4); /* with the lock */
    assert_int_equal(count_entries(state_dir_models(opened)), 1);
    assert_int_equal(count_entries(state_dir_datasets(opened)), 0);
    assert_int_equal(count_entries(in_dir(dir, "jobs/1")), 0);
    state_dir_close(opened);
}

static bool open_and_close(void *context, struct error *err)
{
    struct state_dir *opened = state_dir_open(context, err);
    state_dir_close(opened);
    return opened != NULL;
}

static void test_state_dir_survives_failing_allocations(void **state)
{
    (void)state;
    assert_int_equal(mkdir(in_dir(dir, "jobs"), 0700), 0);
    assert_int_equal(mkdir(in_dir(dir, "jobs/1"), 0700), 0);
    assert_survives_failing_allocations(open_and_close, dir);
}

static void test_state_dir_require_says_how_to_get_one(void **state)
{
    (void)state;
    struct error err = {0};
    assert_false(state_dir_require(NULL, &err));
    assert_int_equal(err.code, ERROR_CONFLICT);
    assert_non_null(strstr(err.message, "--set server.state_dir=DIR"));
}

static void test_state_name_is_restricted(void **state)
{
    (void)state;
    static const char longest[] = "0123456789012345678901234567890123456789012345678901234567890123";
    static const char *const good[] = {"a", "Z9", "a.b-c_d", "_", "a.tmp", "a.tmp-0123", longest};
    static const char *const bad[] = {"",
                                      ".",
                                      "..",
                                      ".a",
                                      "-a",
                                      "a/b",
                                      "a b",
                                      "\xC3\xA9",
                                      "a\n",
                                      "a%2",
                                      "a\\b",
                                      "a\"b",
                                      "a:b",
                                      "a.tmp-0123456789ab",
                                      "a.old-0123456789ab"};
    for (size_t i = 0; i < sizeof good / sizeof good[0]; i++) assert_true(state_name_valid(good[i], strlen(good[i])));
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) assert_false(state_name_valid(bad[i], strlen(bad[i])));
    assert_false(state_name_valid("a\0b", 3));
    assert_true(state_name_valid("a/b", 1)); /* only the given size counts */
    char too_long[66];
    snprintf(too_long, sizeof too_long, "%s4", longest);
    assert_false(state_name_valid(too_long, 65));
    struct error err = {0};
    assert_true(state_name_check("a", 1, "a model's name", &err));
    assert_false(state_name_check("../a", 4, "a model's name", &err));
    assert_int_equal(err.code, ERROR_INVALID);
    assert_non_null(strstr(err.message, "a model's name has 1 to 64 letters"));
}

#define STATE_TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        STATE_TEST(test_state_dir_makes_its_parts_for_their_owner_alone),
        STATE_TEST(test_state_dir_is_of_one_daemon_at_a_time),
        STATE_TEST(test_state_dir_lock_ends_with_its_process),
        STATE_TEST(test_state_dir_errors_name_the_path),
        STATE_TEST(test_state_dir_open_sweeps),
        STATE_TEST(test_state_dir_survives_failing_allocations),
        cmocka_unit_test(test_state_dir_require_says_how_to_get_one),
        cmocka_unit_test(test_state_name_is_restricted),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
