#include "tests/unit/support.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

/* Runs only the tests whose names match $TEST_FILTER (* and ? as in a shell), before main() gives all to cmocka. */
static void __attribute__((constructor)) filter_tests(void)
{
    const char *pattern = getenv("TEST_FILTER");
    if (pattern) cmocka_set_test_filter(pattern);
}

/* ---- failing calls ----------------------------------------------------------------------------------------------- */

struct trap {
    atomic_size_t countdown; /* calls until the one that fails; 0: none will */
    atomic_bool sprung;
    atomic_int errno_value;
};

static struct trap allocations = {.errno_value = ENOMEM}, calls;

int fail_fsync_with, fail_renameat2_with;
bool skip_fsync;
atomic_size_t fsync_calls;

static void set_trap(struct trap *trap, size_t n, int errno_value)
{
    atomic_store(&trap->sprung, false);
    atomic_store(&trap->errno_value, errno_value);
    atomic_store(&trap->countdown, n);
}

static bool remove_trap(struct trap *trap)
{
    atomic_store(&trap->countdown, 0);
    return atomic_load(&trap->sprung);
}

/* Whether this call is the one that fails; errno is then set. */
static bool fails_now(struct trap *trap)
{
    size_t left = atomic_load(&trap->countdown);
    while (left > 0 && !atomic_compare_exchange_weak(&trap->countdown, &left, left - 1)) continue;
    if (left != 1) return false;
    if (atomic_load(&trap->errno_value) == KILLED) raise(SIGKILL);
    atomic_store(&trap->sprung, true);
    errno = atomic_load(&trap->errno_value);
    return true;
}

void fail_allocation(size_t n)
{
    set_trap(&allocations, n, ENOMEM);
}

bool fail_allocation_done(void)
{
    return remove_trap(&allocations);
}

void fail_call(size_t n, int errno_value)
{
    set_trap(&calls, n, errno_value);
}

bool fail_call_done(void)
{
    return remove_trap(&calls);
}

/* WRAP(type, name, parameters, arguments, trap, failure): the linker sends calls of name() here. */
#define WRAP(type, name, parameters, arguments, trap, failure)                                                         \
    type __real_##name parameters;                                                                                     \
    type __wrap_##name parameters;                                                                                     \
    type __wrap_##name parameters                                                                                      \
    {                                                                                                                  \
        return fails_now(&trap) ? (failure) : __real_##name arguments;                                                 \
    }

WRAP(void *, malloc, (size_t size), (size), allocations, NULL)
WRAP(void *, calloc, (size_t count, size_t size), (count, size), allocations, NULL)
WRAP(void *, realloc, (void *memory, size_t size), (memory, size), allocations, NULL)
WRAP(void *, aligned_alloc, (size_t alignment, size_t size), (alignment, size), allocations, NULL)
WRAP(int, posix_memalign, (void **memory, size_t alignment, size_t size), (memory, alignment, size), allocations,
     ENOMEM)
WRAP(char *, strdup, (const char *text), (text), allocations, NULL)
WRAP(char *, strndup, (const char *text, size_t n), (text, n), allocations, NULL)
WRAP(ssize_t, write, (int fd, const void *data, size_t size), (fd, data, size), calls, -1)
WRAP(int, mkdir, (const char *path, mode_t mode), (path, mode), calls, -1)
WRAP(int, rename, (const char *from, const char *to), (from, to), calls, -1)
WRAP(int, unlink, (const char *path), (path), calls, -1)
WRAP(int, unlinkat, (int fd, const char *path, int flags), (fd, path, flags), calls, -1)
WRAP(int, rmdir, (const char *path), (path), calls, -1)

int __real_fsync(int fd);
int __wrap_fsync(int fd);
int __wrap_fsync(int fd)
{
    fsync_calls++;
    if (fails_now(&calls)) return -1;
    if (fail_fsync_with == 0) return skip_fsync ? 0 : __real_fsync(fd);
    errno = fail_fsync_with;
    return -1;
}

int __real_open(const char *path, int flags, ...);
int __wrap_open(const char *path, int flags, ...);
int __wrap_open(const char *path, int flags, ...)
{
    va_list arguments;
    va_start(arguments, flags);
    mode_t mode = flags & O_CREAT ? va_arg(arguments, mode_t) : 0;
    va_end(arguments);
    return fails_now(&calls) ? -1 : __real_open(path, flags, mode);
}

int __real_renameat2(int from_fd, const char *from, int to_fd, const char *to, unsigned flags);
int __wrap_renameat2(int from_fd, const char *from, int to_fd, const char *to, unsigned flags);
int __wrap_renameat2(int from_fd, const char *from, int to_fd, const char *to, unsigned flags)
{
    if (fails_now(&calls)) return -1;
    if (fail_renameat2_with == 0) return __real_renameat2(from_fd, from, to_fd, to, flags);
    errno = fail_renameat2_with;
    return -1;
}

void assert_survives_failing_allocations(bool (*attempt)(void *context, struct error *err), void *context)
{
    for (size_t n = 1; n < 100000; n++) {
        struct error err = {0};
        fail_allocation(n);
        bool done = attempt(context, &err);
        if (!fail_allocation_done()) {
            if (!done) fail_msg("without a failing allocation: %s", err.message);
            return;
        }
        if (done || err.code != ERROR_NO_MEMORY)
            fail_msg("allocation %zu fails: returned %d, code %d, \"%s\"", n, done, (int)err.code, err.message);
    }
    fail_msg("allocations without end");
}

/* ---- files ------------------------------------------------------------------------------------------------------- */

char *temp_dir_new(void)
{
    const char *parent = getenv("TMPDIR");
    char path[4096];
    snprintf(path, sizeof path, "%s/lstmd-test-XXXXXX", parent && *parent ? parent : "/tmp");
    assert_non_null(mkdtemp(path));
    return strdup(path);
}

static int remove_entry(const char *path, const struct stat *info, int type, struct FTW *place)
{
    (void)info, (void)type, (void)place;
    return remove(path);
}

void temp_dir_remove(char *path)
{
    assert_int_equal(nftw(path, remove_entry, 16, FTW_DEPTH | FTW_PHYS), 0);
    free(path);
}

const char *in_dir(const char *directory, const char *name)
{
    static struct path {
        struct path *next; /* keeps all reachable, so that none counts as leaked */
        char text[];
    } * paths;
    size_t size = strlen(directory) + strlen(name) + 2;
    struct path *path = __real_malloc(sizeof *path + size);
    assert_non_null(path);
    snprintf(path->text, size, "%s/%s", directory, name);
    path->next = paths;
    paths = path;
    return path->text;
}

void write_file(const char *path, const void *data, size_t size)
{
    FILE *file = fopen(path, "wb");
    assert_non_null(file);
    assert_int_equal(fwrite(data, 1, size, file), size);
    assert_int_equal(fclose(file), 0);
}

void write_text(const char *path, const char *text)
{
    write_file(path, text, strlen(text));
}

char *read_text(const char *path)
{
    FILE *file = fopen(path, "rb");
    if (!file) return NULL;
    assert_int_equal(fseek(file, 0, SEEK_END), 0);
    size_t size = (size_t)ftell(file);
    rewind(file);
    char *text = malloc(size + 1);
    assert_non_null(text);
    assert_int_equal(fread(text, 1, size, file), size);
    text[size] = '\0';
    fclose(file);
    return text;
}

void assert_file_content(const char *path, const char *expected)
{
    char *text = read_text(path);
    assert_non_null(text);
    assert_string_equal(text, expected);
    free(text);
}

size_t count_entries(const char *path)
{
    DIR *directory = opendir(path);
    assert_non_null(directory);
    size_t count = 0;
    while (readdir(directory)) count++;
    closedir(directory);
    return count - 2;
}

char *capture_output(int descriptor, void (*function)(void *context), void *context)
{
    char *directory = temp_dir_new();
    const char *path = in_dir(directory, "output");
    fflush(descriptor == STDOUT_FILENO ? stdout : stderr);
    int saved = dup(descriptor);
    FILE *file = fopen(path, "wb");
    assert_non_null(file);
    assert_true(dup2(fileno(file), descriptor) >= 0);
    function(context);
    fflush(descriptor == STDOUT_FILENO ? stdout : stderr);
    assert_true(dup2(saved, descriptor) >= 0);
    close(saved);
    fclose(file);
    char *text = read_text(path);
    temp_dir_remove(directory);
    return text;
}
