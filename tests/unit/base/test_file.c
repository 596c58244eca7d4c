#include "base/file.h"

#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
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

/* ---- reading ----------------------------------------------------------------------------------------------------- */

static void test_file_read_gives_content_and_a_nul(void **state)
{
    (void)state;
    const char *path = in_dir(dir, "a");
    char *data;
    size_t size;
    write_file(path, "ab\0cd", 5);
    assert_true(file_read(path, 5, &data, &size, NULL));
    assert_int_equal(size, 5);
    assert_memory_equal(data, "ab\0cd", 6);
    free(data);
    write_text(path, "");
    assert_true(file_read(path, 0, &data, &size, NULL));
    assert_int_equal(size, 0);
    assert_int_equal(*data, 0);
    free(data);
}

static void test_file_read_errors_name_the_path(void **state)
{
    (void)state;
    const char *path = in_dir(dir, "a"), *fifo = in_dir(dir, "fifo");
    write_text(path, "123456");
    assert_int_equal(mkfifo(fifo, 0600), 0);
    const struct {
        const char *path;
        enum error_code code;
        const char *part;
    } cases[] = {{in_dir(dir, "none"), ERROR_NOT_FOUND, "No such file"},
                 {in_dir(path, "below"), ERROR_NOT_FOUND, "Not a directory"},
                 {dir, ERROR_INVALID, "a directory, not a regular file"},
                 {fifo, ERROR_INVALID, "not a regular file"},
                 {path, ERROR_TOO_LARGE, "has 6 bytes, at most 5 are allowed"}};
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct error err = {0};
        char *data;
        size_t size;
        assert_false(file_read(cases[i].path, 5, &data, &size, &err));
        assert_int_equal(err.code, cases[i].code);
        assert_non_null(strstr(err.message, cases[i].path));
        assert_non_null(strstr(err.message, cases[i].part));
    }
}

/* A sparse file of a terabyte: its size is refused before memory is taken. */
static void test_file_read_refuses_before_taking_memory(void **state)
{
    (void)state;
    const char *path = in_dir(dir, "huge");
    struct error err = {0};
    char *data;
    size_t size;
    write_text(path, "x");
    if (truncate(path, (off_t)1 << 40) != 0) skip();
    fail_allocation(1);
    assert_false(file_read(path, 1 << 20, &data, &size, &err));
    assert_false(fail_allocation_done());
    assert_int_equal(err.code, ERROR_TOO_LARGE);
}

static void test_file_map_shows_the_content(void **state)
{
    (void)state;
    const char *path = in_dir(dir, "a");
    struct file_map map;
    struct error err = {0};
    write_text(path, "mapped");
    assert_true(file_map_open(&map, path, &err));
    assert_int_equal(map.size, 6);
    assert_memory_equal(map.data, "mapped", 6);
    file_map_close(&map);
    file_map_close(&map);
    write_text(path, "");
    assert_true(file_map_open(&map, path, &err));
    assert_null(map.data);
    assert_int_equal(map.size, 0);
    file_map_close(&map);
    assert_false(file_map_open(&map, dir, &err));
    assert_int_equal(err.code, ERROR_INVALID);
}

static void test_path_join_puts_one_slash_between(void **state)
{
    (void)state;
    static const char *const cases[][3] = {{"a", "b", "a/b"}, {"a/", "b", "a/b"}, {"/", "b", "/b"}, {"", "b", "b"}};
    for (size_t i = 0; i < 4; i++) {
        char *path = path_join(cases[i][0], cases[i][1], NULL);
        assert_string_equal(path, cases[i][2]);
        free(path);
    }
}

/* ---- publishing a file ------------------------------------------------------------------------------------------- */

static void test_file_publish_replaces_and_leaves_nothing_aside(void **state)
{
    (void)state;
    const char *path = in_dir(dir, "a");
    struct stat info;
    mode_t mask = umask(027);
    assert_true(file_publish(path, "old", 3, NULL));
    umask(mask);
    assert_file_content(path, "old");
    assert_int_equal(stat(path, &info), 0);
    assert_int_equal(info.st_mode & 0777, 0640);
    assert_true(file_publish(path, "new content", 11, NULL));
    assert_file_content(path, "new content");
    assert_true(file_publish(path, "", 0, NULL));
    assert_file_content(path, "");
    assert_int_equal(count_entries(dir), 1);
}

static void test_file_publish_keeps_a_symbolic_link(void **state)
{
    (void)state;
    const char *path = in_dir(dir, "a"), *link = in_dir(dir, "link");
    struct stat info;
    write_text(path, "old");
    assert_int_equal(symlink("a", link), 0);
    assert_true(file_publish(link, "new", 3, NULL));
    assert_file_content(path, "new");
    assert_int_equal(lstat(link, &info), 0);
    assert_true(S_ISLNK(info.st_mode));
}

static void test_file_publish_refuses_what_is_no_file(void **state)
{
    (void)state;
    const char *file = in_dir(dir, "file"), *fifo = in_dir(dir, "fifo");
    write_text(file, "x");
    assert_int_equal(mkfifo(fifo, 0600), 0);
    const struct {
        const char *path;
        enum error_code code;
    } cases[] = {{dir, ERROR_CONFLICT},
                 {fifo, ERROR_CONFLICT},
                 {"", ERROR_INVALID},
                 {"/", ERROR_INVALID},
                 {in_dir(dir, "."), ERROR_INVALID},
                 {in_dir(dir, "no/file"), ERROR_NOT_FOUND},
                 {in_dir(file, "below"), ERROR_NOT_FOUND}};
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct error err = {0};
        assert_false(file_publish(cases[i].path, "new", 3, &err));
        assert_int_equal(err.code, cases[i].code);
        assert_non_null(strstr(err.message, cases[i].path));
    }
    assert_int_equal(count_entries(dir), 2);
}

/* A limit of file size fails a write in the middle, as a full disk does. */
static void test_file_publish_on_a_full_disk_keeps_the_old(void **state)
{
    (void)state;
    const char *path = in_dir(dir, "a");
    static char data[100000];
    struct error err = {0};
    struct rlimit before, limit;
    write_text(path, "old");
    assert_int_equal(getrlimit(RLIMIT_FSIZE, &before), 0);
    limit = before;
    limit.rlim_cur = 50000;
    signal(SIGXFSZ, SIG_IGN);
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &limit), 0);
    bool done = file_publish(path, data, sizeof data, &err);
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &before), 0);
    assert_false(done);
    assert_int_equal(err.code, ERROR_NO_SPACE);
    assert_non_null(strstr(err.message, path));
    assert_file_content(path, "old");
    assert_int_equal(count_entries(dir), 1);
}

#define FILE_TEST(f) cmocka_unit_test_setup_teardown(f, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        FILE_TEST(test_file_read_gives_content_and_a_nul),
        FILE_TEST(test_file_read_errors_name_the_path),
        FILE_TEST(test_file_read_refuses_before_taking_memory),
        FILE_TEST(test_file_map_shows_the_content),
        FILE_TEST(test_path_join_puts_one_slash_between),
        FILE_TEST(test_file_publish_replaces_and_leaves_nothing_aside),
        FILE_TEST(test_file_publish_keeps_a_symbolic_link),
        FILE_TEST(test_file_publish_refuses_what_is_no_file),
        FILE_TEST(test_file_publish_on_a_full_disk_keeps_the_old),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
