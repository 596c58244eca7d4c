/* Shared by all unit tests: temporary directories, files, and failing allocations and system calls.
 *
 * The Makefile links every unit test with support.c and -Wl,--wrap=malloc (and its relatives, and the system calls
 * below), so that the calls in our objects pass through here. Calls inside shared libraries do not.
 */
#ifndef LSTMD_TESTS_UNIT_SUPPORT_H
#define LSTMD_TESTS_UNIT_SUPPORT_H

/* cmocka.h needs the first four before it. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdatomic.h>
#include <stdbool.h>

#include "base/error.h"

/* A fresh directory; temp_dir_remove() removes it with everything in it, and frees the name. */
char *temp_dir_new(void);
void temp_dir_remove(char *path);

/* "directory/name", valid as long as the program runs. For one thread. */
const char *in_dir(const char *directory, const char *name);

void write_file(const char *path, const void *data, size_t size);
void write_text(const char *path, const char *text);
/* Returns the content with a NUL after it, or NULL if there is no such file. free() it. */
char *read_text(const char *path);
void assert_file_content(const char *path, const char *expected);
/* How many entries a directory has, without "." and "..". */
size_t count_entries(const char *path);

/* Makes the n-th allocation from now fail (1: the next one), once. 0: none does. Any thread's allocation counts. */
void fail_allocation(size_t n);
/* Ends that, and tells whether an allocation has failed. */
bool fail_allocation_done(void);

/* Calls attempt(context, err) with its first allocation failing, then with the second, and so on until none is reached.
 * Each failure must return false with ERROR_NO_MEMORY, and the last call true. Leaks are the sanitizer's to find. */
void assert_survives_failing_allocations(bool (*attempt)(void *context, struct error *err), void *context);

/* Makes the n-th system call from now fail once with errno_value, or end the process as kill -9 does. The calls are
 * open, write, fsync, mkdir, rename, renameat2, unlink, unlinkat and rmdir. 0: none does. */
#define KILLED (-1)
void fail_call(size_t n, int errno_value);
/* Ends that, and tells whether a call has failed. */
bool fail_call_done(void);

/* errno values with which every such call fails until they are set to 0 again: a broken disk (EIO), a file system that
 * cannot exchange names (EINVAL). */
extern int fail_fsync_with, fail_renameat2_with;
/* Makes fsync() do nothing, for tests that save often. Otherwise they would only wait for the disk. */
extern bool skip_fsync;
/* How often fsync() was called. */
extern atomic_size_t fsync_calls;

/* Runs function(context) with what it writes to the descriptor (1 or 2) going to a file; returns that text, free() it.
 */
char *capture_output(int descriptor, void (*function)(void *context), void *context);

#endif
