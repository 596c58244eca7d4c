#include "tests/unit/support.h"

#include <dirent.h>
#include <errno.h>
#include <ftw.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* ---- failing calls ----------------------------------------------------------------------------------------------- */

static atomic_size_t countdown; /* allocations until the one that fails; 0: none will */
static atomic_bool failed;

int fail_fsync_with, fail_renameat2_with;

void fail_allocation(size_t n)
{
    atomic_store(&failed, false);
    atomic_store(&countdown, n);
}

bool fail_allocation_done(void)
{
    atomic_store(&countdown, 0);
    return atomic_load(&failed);
}

static bool fails_now(void)
{
    size_t left = atomic_load(&countdown);
    while (left > 0 && !atomic_compare_exchange_weak(&countdown, &left, left - 1)) continue;
    if (left != 1) return false;
    atomic_store(&failed, true);
    errno = ENOMEM;
    return true;
}

void *__real_malloc(size_t size);
void *__real_calloc(size_t count, size_t size);
void *__real_realloc(void *memory, size_t size);
void *__real_aligned_alloc(size_t alignment, size_t size);
int __real_posix_memalign(void **memory, size_t alignment, size_t size);
char *__real_strdup(const char *text);
char *__real_strndup(const char *text, size_t n);
int __real_fsync(int fd);
int __real_renameat2(int from_fd, const char *from, int to_fd, const char *to, unsigned flags);
void *__wrap_malloc(size_t size);
void *__wrap_calloc(size_t count, size_t size);
void *__wrap_realloc(void *memory, size_t size);
void *__wrap_aligned_alloc(size_t alignment, size_t size);
int __wrap_posix_memalign(void **memory, size_t alignment, size_t size);
char *__wrap_strdup(const char *text);
char *__wrap_strndup(const char *text, size_t n);
int __wrap_fsync(int fd);
int __wrap_renameat2(int from_fd, const char *from, int to_fd, const char *to, unsigned flags);

void *__wrap_malloc(size_t size)
{
    return fails_now() ? NULL : __real_malloc(size);
}

void *__wrap_calloc(size_t count, size_t size)
{
    return fails_now() ? NULL : __real_calloc(count, size);
}

void *__wrap_realloc(void *memory, size_t size)
{
    return fails_now() ? NULL : __real_realloc(memory, size);
}

void *__wrap_aligned_alloc(size_t alignment, size_t size)
{
    return fails_now() ? NULL : __real_aligned_alloc(alignment, size);
}

int __wrap_posix_memalign(void **memory, size_t alignment, size_t size)
{
    return fails_now() ? ENOMEM : __real_posix_memalign(memory, alignment, size);
}

char *__wrap_strdup(const char *text)
{
    return fails_now() ? NULL : __real_strdup(text);
}

char *__wrap_strndup(const char *text, size_t n)
{
    return fails_now() ? NULL : __real_strndup(text, n);
}

int __wrap_fsync(int fd)
{
    if (fail_fsync_with == 0) return __real_fsync(fd);
    errno = fail_fsync_with;
    return -1;
}

int __wrap_renameat2(int from_fd, const char *from, int to_fd, const char *to, unsigned flags)
{
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
    static char paths[16][4096]; /* enough for those that one test holds at a time */
    static size_t next;
    char *path = paths[next++ % 16];
    snprintf(path, sizeof paths[0], "%s/%s", directory, name);
    return path;
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
