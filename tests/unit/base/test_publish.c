/* base/publish: publications of directories, and what they leave if a system call fails or the process ends there. */
#include "base/file.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>

#include "tests/unit/support.h"

static char *dir;

static int setup(void **state)
{
    (void)state;
    dir = temp_dir_new();
    fail_renameat2_with = 0;
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    temp_dir_remove(dir);
    return 0;
}

/* ---- publishing a directory -------------------------------------------------------------------------------------- */

/* A model of two files whose contents agree. */
static bool publish_model(const char *path, const char *content, struct error *err)
{
    struct directory_publish publish;
    size_t n = strlen(content);
    if (!directory_publish_begin(&publish, path, err)) return false;
    if (directory_publish_write(&publish, "one", content, n, err) &&
        directory_publish_write(&publish, "two", content, n, err))
        return directory_publish_commit(&publish, err);
    directory_publish_abort(&publish);
    return false;
}

static bool publish_file(void *path, struct error *err)
{
    return file_publish(path, "new", 3, err);
}

static bool publish_new_model(void *path, struct error *err)
{
    return publish_model(path, "new", err);
}

static bool has_text(const char *directory, const char *name, const char *expected)
{
    char *path = path_join(directory, name, NULL), *text = read_text(path);
    bool has = text && strcmp(text, expected) == 0;
    free(text);
    free(path);
    return has;
}

static bool has_model(const char *path, const char *content)
{
    return has_text(path, "one", content) && has_text(path, "two", content) && count_entries(path) == 2;
}

static void test_directory_publish_makes_and_replaces(void **state)
{
    (void)state;
    const char *path = in_dir(dir, "model");
    struct stat info;
    mode_t mask = umask(022);
    assert_true(publish_model(path, "old", NULL));
    umask(mask);
    assert_true(has_model(path, "old"));
    assert_int_equal(stat(path, &info), 0);
    assert_int_equal(info.st_mode & 0777, 0755);
    write_text(in_dir(path, "three"), "only in the old one");
    assert_true(publish_model(in_dir(dir, "model//"), "new", NULL));
    assert_true(has_model(path, "new"));
    assert_int_equal(count_entries(dir), 1);
}

static void test_directory_publish_is_invisible_until_commit(void **state)
{
    (void)state;
    const char *path = in_dir(dir, "model");
    struct directory_publish publish;
    assert_true(publish_model(path, "old", NULL));
    assert_true(directory_publish_begin(&publish, path, NULL));
    assert_true(directory_publish_write(&publish, "one", "new", 3, NULL));
    assert_true(has_model(path, "old"));
    directory_publish_abort(&publish);
    assert_true(has_model(path, "old"));
    assert_int_equal(count_entries(dir), 1);
    directory_publish_abort(&publish); /* again: nothing */
}

static void test_directory_publish_in_the_working_directory(void **state)
{
    (void)state;
    int before = open(".", O_RDONLY);
    assert_int_equal(chdir(dir), 0);
    bool done = publish_model("model", "old", NULL) && publish_model("model/", "new", NULL);
    assert_int_equal(fchdir(before), 0);
    close(before);
    assert_true(done);
    assert_true(has_model(in_dir(dir, "model"), "new"));
}

static void test_directory_publish_keeps_a_symbolic_link(void **state)
{
    (void)state;
    const char *path = in_dir(dir, "model"), *link = in_dir(dir, "link");
    struct stat info;
    assert_true(publish_model(path, "old", NULL));
    assert_int_equal(symlink("model", link), 0);
    assert_true(publish_model(link, "new", NULL));
    assert_true(has_model(path, "new"));
    assert_int_equal(lstat(link, &info), 0);
    assert_true(S_ISLNK(info.st_mode));
}

static void test_directory_publish_refuses_what_is_no_model(void **state)
{
    (void)state;
    const char *file = in_dir(dir, "file"), *full = in_dir(dir, "full");
    write_text(file, "x");
    assert_int_equal(mkdir(full, 0777), 0);
    assert_int_equal(mkdir(in_dir(full, "inner"), 0777), 0);
    write_text(in_dir(full, "precious"), "text");
    const struct {
        const char *path;
        enum error_code code;
    } cases[] = {{file, ERROR_CONFLICT},
                 {full, ERROR_CONFLICT},
                 {in_dir(dir, ".."), ERROR_INVALID},
                 {in_dir(dir, "no/model"), ERROR_NOT_FOUND},
                 {in_dir(file, "below"), ERROR_NOT_FOUND}};
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct error err = {0};
        assert_false(publish_model(cases[i].path, "new", &err));
        assert_int_equal(err.code, cases[i].code);
        assert_non_null(strstr(err.message, cases[i].path));
    }
    assert_file_content(in_dir(full, "precious"), "text");
    assert_int_equal(count_entries(dir), 2);
}

/* A file system that cannot exchange two names. */
static void test_directory_publish_without_exchange(void **state)
{
    (void)state;
    const char *path = in_dir(dir, "model");
    fail_renameat2_with = EINVAL;
    bool made = publish_model(path, "old", NULL), replaced = publish_model(path, "new", NULL);
    fail_renameat2_with = 0;
    assert_true(made);
    assert_true(replaced);
    assert_true(has_model(path, "new"));
    assert_int_equal(count_entries(dir), 1);
}

static void test_publish_survives_failing_allocations(void **state)
{
    (void)state;
    const char *path = in_dir(dir, "model"), *file = in_dir(dir, "file");
    assert_survives_failing_allocations(publish_file, (void *)(uintptr_t)file);
    assert_true(publish_model(path, "old", NULL));
    assert_survives_failing_allocations(publish_new_model, (void *)(uintptr_t)path);
    assert_true(has_model(path, "new"));
    assert_int_equal(count_entries(dir), 2);
}

/* ---- every system call fails, or is the last ----------------------------------------------------------------------
 */

/* Success means the new content. Failure means the old with nothing left aside; or, after the last fsync, the new. */
static void check_after_failure(size_t n, bool done, const struct error *err, const char *path)
{
    bool has_old = has_model(path, "old"), has_new = has_model(path, "new");
    if (done ? !has_new : !has_old && !has_new)
        fail_msg("call %zu: done %d, old %d, new %d", n, done, has_old, has_new);
    if (!done && (err->code != ERROR_NO_SPACE || !strstr(err->message, path)))
        fail_msg("call %zu: code %d, \"%s\"", n, (int)err->code, err->message);
}

static void fail_each_call(const char *path)
{
    for (size_t n = 1;; n++) {
        struct error err = {0};
        assert_true(publish_model(path, "old", NULL));
        assert_int_equal(count_entries(dir), 1); /* what the failure before has left is gone */
        fail_call(n, ENOSPC);
        bool done = publish_model(path, "new", &err);
        if (!fail_call_done()) {
            assert_true(n > 10);
            return;
        }
        check_after_failure(n, done, &err, path);
        if (!done && has_model(path, "old")) assert_int_equal(count_entries(dir), 1);
    }
}

static void test_directory_publish_any_call_failing_leaves_old_or_new(void **state)
{
    (void)state;
    fail_each_call(in_dir(dir, "model"));
    fail_renameat2_with = EINVAL;
    fail_each_call(in_dir(dir, "model"));
    fail_renameat2_with = 0;
}

/* Publishes in a process that dies before its n-th system call. Returns false if the process reaches its end. */
static bool killed_at(size_t n, bool (*publish)(void *, struct error *), const char *path)
{
    pid_t child = fork();
    if (child == 0) {
        fail_call(n, KILLED);
        _exit(publish((void *)(uintptr_t)path, NULL) ? 0 : 1);
    }
    int status;
    assert_int_equal(waitpid(child, &status, 0), child);
    if (WIFSIGNALED(status)) return true;
    assert_int_equal(WEXITSTATUS(status), 0);
    return false;
}

static void test_directory_publish_killed_at_any_call_leaves_old_or_new(void **state)
{
    (void)state;
    const char *path = in_dir(dir, "model");
    size_t old = 0, new = 0;
    for (size_t n = 1;; n++) {
        assert_true(publish_model(path, "old", NULL));
        assert_int_equal(count_entries(dir), 1); /* the leftover of the killed one is gone */
        if (!killed_at(n, publish_new_model, path)) break;
        old += has_model(path, "old");
        new += has_model(path, "new");
        assert_int_equal(old + new, n);
    }
    assert_true(old > 3 && new > 1);
}

static void test_file_publish_killed_at_any_call_leaves_old_or_new(void **state)
{
    (void)state;
    const char *path = in_dir(dir, "file");
    size_t old = 0, new = 0;
    for (size_t n = 1;; n++) {
        assert_true(file_publish(path, "old", 3, NULL));
        assert_int_equal(count_entries(dir), 1);
        if (!killed_at(n, publish_file, path)) break;
        char *text = read_text(path);
        old += strcmp(text, "old") == 0;
        new += strcmp(text, "new") == 0;
        free(text);
        assert_int_equal(old + new, n);
    }
    assert_true(old > 2 && new > 0);
}

/* A model with something below it, which publishing would not replace. */
static void make_tree(const char *path)
{
    assert_true(publish_model(path, "old", NULL));
    assert_int_equal(mkdir(in_dir(path, "below"), 0777), 0);
    write_text(in_dir(path, "below/file"), "x");
    assert_int_equal(symlink("..", in_dir(path, "below/up")), 0);
}

static bool has_tree(const char *path)
{
    return access(in_dir(path, "below/file"), F_OK) == 0 && count_entries(path) > 1;
}

static bool remove_tree(void *context, struct error *err)
{
    return directory_remove(context, err);
}

static void test_directory_remove_takes_all_and_follows_no_link(void **state)
{
    (void)state;
    const char *path = in_dir(dir, "model"), *link = in_dir(dir, "link");
    struct error err = {0};
    make_tree(path);
    assert_int_equal(symlink("model", link), 0);
    assert_true(directory_remove(link, NULL));
    assert_true(has_tree(path));
    assert_true(directory_remove(path, NULL));
    assert_int_equal(count_entries(dir), 0);
    assert_false(directory_remove(path, &err));
    assert_int_equal(err.code, ERROR_NOT_FOUND);
}

static void test_directory_remove_killed_at_any_call_leaves_all_or_nothing(void **state)
{
    (void)state;
    const char *path = in_dir(dir, "model");
    size_t whole = 0, gone = 0;
    for (size_t n = 1;; n++) {
        make_tree(path);
        if (!killed_at(n, remove_tree, path)) break;
        const bool there = access(path, F_OK) == 0;
        assert_true(!there || has_tree(path));
        whole += there;
        gone += !there;
        assert_true(directory_sweep(dir, NULL));
        assert_int_equal(count_entries(dir), there);
        if (there) assert_true(directory_remove(path, NULL));
    }
    assert_true(whole > 0 && gone > 4);
    assert_int_equal(count_entries(dir), 0);
}

static void test_directory_sweep_removes_leftovers_alone(void **state)
{
    (void)state;
    struct directory_publish publish;
    write_text(in_dir(dir, "a.tmp-0123456789ab"), "x");
    write_text(in_dir(dir, "a.tmp-0123456789a"), "x");
    write_text(in_dir(dir, ".tmp-0123456789ab"), "x");
    make_tree(in_dir(dir, "b.tmp-0123456789ab"));
    assert_true(directory_publish_begin(&publish, in_dir(dir, "c"), NULL));
    assert_true(directory_sweep(dir, NULL));
    assert_int_equal(count_entries(dir), 3);
    assert_true(directory_publish_commit(&publish, NULL));
    assert_int_equal(access(in_dir(dir, "c"), F_OK), 0);
    struct error err = {0};
    assert_false(directory_sweep(in_dir(dir, "none"), &err));
    assert_int_equal(err.code, ERROR_NOT_FOUND);
}

static void test_directory_sweep_gives_old_content_its_name_back(void **state)
{
    (void)state;
    assert_true(publish_model(in_dir(dir, "a.old-0123456789ab"), "old", NULL));
    assert_true(publish_model(in_dir(dir, "b.old-0123456789ab"), "old", NULL));
    assert_true(publish_model(in_dir(dir, "b"), "new", NULL));
    assert_true(directory_sweep(dir, NULL));
    assert_int_equal(count_entries(dir), 2);
    assert_true(has_model(in_dir(dir, "a"), "old"));
    assert_true(has_model(in_dir(dir, "b"), "new"));
}

static void test_file_name_is_aside(void **state)
{
    (void)state;
    assert_true(file_name_is_aside("a.tmp-0123456789ab"));
    assert_true(file_name_is_aside("a.old-0123456789ab"));
    static const char *const others[] = {"",
                                         "a",
                                         ".tmp-0123456789ab",
                                         "a.tmp-0123456789a",
                                         "a.tmp-0123456789aB",
                                         "a.new-0123456789ab",
                                         "a.tmp-0123456789ab.txt"};
    for (size_t i = 0; i < sizeof others / sizeof others[0]; i++) assert_false(file_name_is_aside(others[i]));
}

static void test_publish_leaves_names_of_others_alone(void **state)
{
    (void)state;
    const char *path = in_dir(dir, "model");
    write_text(in_dir(dir, "model.tmp-backup"), "x");
    write_text(in_dir(dir, "model.tmp-0123456789ab"), "a file, not a directory");
    write_text(in_dir(dir, "other.tmp-0123456789ab"), "x");
    assert_int_equal(mkdir(in_dir(dir, "model.tmp-ba9876543210"), 0777), 0);
    assert_true(publish_model(path, "new", NULL));
    assert_int_equal(count_entries(dir), 4);
    assert_int_equal(access(in_dir(dir, "model.tmp-ba9876543210"), F_OK), -1);
}

static void test_directory_publish_in_progress_is_no_leftover(void **state)
{
    (void)state;
    const char *path = in_dir(dir, "model");
    struct directory_publish publish;
    assert_true(directory_publish_begin(&publish, path, NULL));
    assert_true(directory_publish_write(&publish, "one", "new", 3, NULL));
    assert_true(publish_model(path, "old", NULL));
    assert_true(directory_publish_write(&publish, "two", "new", 3, NULL));
    assert_true(directory_publish_commit(&publish, NULL));
    assert_true(has_model(path, "new"));
    assert_int_equal(count_entries(dir), 1);
}

/* Publishers of the same path do not take what another has just begun for a leftover. */
static void *publish_often(void *path)
{
    size_t failures = 0;
    for (int i = 0; i < 40; i++) {
        struct error err = {0};
        failures += !publish_model(path, i % 2 ? "old" : "new", &err);
        if (err.code != ERROR_NONE) print_error("%s\n", err.message);
        failures += access(path, F_OK) != 0;
    }
    return (void *)failures;
}

static void test_directory_publish_by_several_at_once(void **state)
{
    (void)state;
    char *path = path_join(dir, "model", NULL);
    pthread_t threads[3];
    for (size_t i = 0; i < 3; i++) assert_int_equal(pthread_create(&threads[i], NULL, publish_often, path), 0);
    for (size_t i = 0; i < 3; i++) {
        void *failures;
        pthread_join(threads[i], &failures);
        assert_null(failures);
    }
    assert_true(has_model(path, "old"));
    assert_true(publish_model(path, "new", NULL));
    assert_int_equal(count_entries(dir), 1);
    free(path);
}

#define PUBLISH_TEST(f) cmocka_unit_test_setup_teardown(f, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        PUBLISH_TEST(test_directory_publish_makes_and_replaces),
        PUBLISH_TEST(test_directory_publish_is_invisible_until_commit),
        PUBLISH_TEST(test_directory_publish_in_the_working_directory),
        PUBLISH_TEST(test_directory_publish_keeps_a_symbolic_link),
        PUBLISH_TEST(test_directory_publish_refuses_what_is_no_model),
        PUBLISH_TEST(test_directory_publish_without_exchange),
        PUBLISH_TEST(test_publish_survives_failing_allocations),
        PUBLISH_TEST(test_directory_publish_any_call_failing_leaves_old_or_new),
        PUBLISH_TEST(test_directory_publish_killed_at_any_call_leaves_old_or_new),
        PUBLISH_TEST(test_file_publish_killed_at_any_call_leaves_old_or_new),
        PUBLISH_TEST(test_directory_remove_takes_all_and_follows_no_link),
        PUBLISH_TEST(test_directory_remove_killed_at_any_call_leaves_all_or_nothing),
        PUBLISH_TEST(test_directory_sweep_removes_leftovers_alone),
        PUBLISH_TEST(test_directory_sweep_gives_old_content_its_name_back),
        PUBLISH_TEST(test_file_name_is_aside),
        PUBLISH_TEST(test_publish_leaves_names_of_others_alone),
        PUBLISH_TEST(test_directory_publish_in_progress_is_no_leftover),
        PUBLISH_TEST(test_directory_publish_by_several_at_once),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
