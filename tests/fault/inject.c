/* A library for LD_PRELOAD. It makes one call of a process fail, or kills the process at that call.
 *
 * The loader puts it before libc, so it sees our calls and those of libraries (SQLite, libmicrohttpd, jansson, libzip).
 * It does not see calls inside libc: a stack that pthread_create() maps, a buffer of stdio. tests/unit/support.c does
 * the same inside one unit program, only for our calls.
 *
 * FAULT_CONTROL names a file that holds a `struct control`. The driver (tests/http/inject.py) maps it, too. The driver
 * writes `kinds`, `mode` and `times`, and `countdown` last. From then on the countdown'th call of the chosen kinds
 * fails, and so do the `times` - 1 calls after it. Children of the process inherit all of this and count, too.
 */
#include <dirent.h>
#include <dlfcn.h>
#include <errno.h>
#include <execinfo.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <spawn.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <sys/types.h>
#include <sys/uio.h>
#include <unistd.h>

/* tests/http/inject.py uses the same order. */
enum kind {
    MEMORY,
    MAP,
    OPEN,
    READ,
    WRITE,
    SYNC,
    NAME,
    REMOVE,
    SEND,
    RECEIVE,
    ACCEPT,
    EVENT,
    THREAD,
    LOCK,
    STAT,
    KINDS
};

/* A mode above 0 is the errno that the call sets. */
enum { SHORT = -1, KILL = -2, KILL_HALF_WAY = -3 };

struct control {
    _Atomic uint64_t kinds;    /* a bit for each chosen kind */
    _Atomic int64_t mode;      /* the fault */
    _Atomic int64_t times;     /* number of consecutive calls that get the fault */
    _Atomic int64_t countdown; /* calls until the first fault; 0: no faults */
    _Atomic uint64_t sprung;   /* calls that got a fault */
    _Atomic uint64_t counts[KINDS];
};

static struct control *control;
static bool trace;

/* ---- the real functions ---------------------------------------------------------------------------------------------
 *
 * dlsym() may allocate before this library knows malloc(). That memory comes from here and is never freed. */
static _Alignas(64) char early[1 << 16];
static size_t early_used;
static _Thread_local bool resolving, reporting;

static bool is_early(const void *memory)
{
    return (const char *)memory >= early && (const char *)memory < early + sizeof early;
}

static void *early_alloc(size_t size)
{
    void *memory = early + early_used;
    early_used += (size + 63) / 64 * 64;
    return early_used <= sizeof early ? memory : NULL;
}

static void *find(const char *name)
{
    resolving = true;
    void *function = dlsym(RTLD_NEXT, name);
    resolving = false;
    return function;
}

/* Looks up the real NAME once. */
#define REAL(name)                                                                                                     \
    static __typeof__(&name) real;                                                                                     \
    if (!real) *(void **)&real = find(#name)

__attribute__((constructor)) static void attach(void)
{
    const char *path = getenv("FAULT_CONTROL");
    const int fd = path ? open(path, O_RDWR | O_CLOEXEC) : -1;
    if (fd < 0) return;
    void *memory = mmap(NULL, sizeof *control, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    close(fd);
    trace = getenv("FAULT_TRACE") != NULL;
    if (memory != MAP_FAILED) control = memory;
}

static void report(void)
{
    void *frames[40];
    reporting = true;
    backtrace_symbols_fd(frames, backtrace(frames, 40), STDERR_FILENO);
    reporting = false;
}

/* Tells whether this call gets a fault. */
static bool springs(enum kind kind)
{
    if (!control || resolving || reporting) return false;
    atomic_fetch_add(&control->counts[kind], 1);
    if (!(atomic_load(&control->kinds) >> kind & 1)) return false;
    int64_t left = atomic_load(&control->countdown);
    while (left > 0 && !atomic_compare_exchange_weak(&control->countdown, &left, left - 1)) continue;
    if (left != 1) return false;
    /* The next call gets a fault, too, while there are any left. */
    if (atomic_fetch_sub(&control->times, 1) > 1) atomic_store(&control->countdown, 1);
    atomic_fetch_add(&control->sprung, 1);
    if (trace) report();
    return true;
}

/* Tells whether the call fails, and then sets errno. A mode that is not an error changes only transfers. */
static bool fails(enum kind kind)
{
    if (!springs(kind)) return false;
    const int64_t mode = atomic_load(&control->mode);
    if (mode == KILL || mode == KILL_HALF_WAY) kill(getpid(), SIGKILL);
    if (mode <= 0) return false;
    errno = (int)mode;
    return true;
}

/* Returns how many bytes a transfer of `size` may move: all, half if it must be short, -1 if it fails. */
static ssize_t allowed(enum kind kind, size_t size, bool *last)
{
    *last = false;
    if (!springs(kind)) return (ssize_t)size;
    const int64_t mode = atomic_load(&control->mode);
    if (mode == KILL) kill(getpid(), SIGKILL);
    *last = mode == KILL_HALF_WAY;
    if (mode == SHORT || *last) return (ssize_t)(size > 1 ? size / 2 : size);
    errno = (int)mode;
    return -1;
}

/* ---- memory ------------------------------------------------------------------------------------------------------ */

void *malloc(size_t size)
{
    if (resolving) return early_alloc(size);
    REAL(malloc);
    return fails(MEMORY) ? NULL : real(size);
}

void *calloc(size_t count, size_t size)
{
    if (resolving) return early_alloc(count * size);
    REAL(calloc);
    return fails(MEMORY) ? NULL : real(count, size);
}

void *realloc(void *memory, size_t size)
{
    if (resolving) return early_alloc(size);
    REAL(realloc);
    if (is_early(memory)) return NULL;
    return fails(MEMORY) ? NULL : real(memory, size);
}

void free(void *memory)
{
    if (!memory || is_early(memory)) return;
    REAL(free);
    real(memory);
}

int posix_memalign(void **memory, size_t alignment, size_t size)
{
    REAL(posix_memalign);
    return fails(MEMORY) ? ENOMEM : real(memory, alignment, size);
}

void *aligned_alloc(size_t alignment, size_t size)
{
    REAL(aligned_alloc);
    return fails(MEMORY) ? NULL : real(alignment, size);
}

char *strdup(const char *text)
{
    REAL(strdup);
    return fails(MEMORY) ? NULL : real(text);
}

char *strndup(const char *text, size_t n)
{
    REAL(strndup);
    return fails(MEMORY) ? NULL : real(text, n);
}

FILE *open_memstream(char **text, size_t *size)
{
    REAL(open_memstream);
    return fails(MEMORY) ? NULL : real(text, size);
}

int __vasprintf_chk(char **text, int flag, const char *format, va_list arguments);
int __vasprintf_chk(char **text, int flag, const char *format, va_list arguments)
{
    REAL(__vasprintf_chk);
    return fails(MEMORY) ? -1 : real(text, flag, format, arguments);
}

int __asprintf_chk(char **text, int flag, const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    const int n = __vasprintf_chk(text, flag, format, arguments);
    va_end(arguments);
    return n;
}

void *mmap(void *address, size_t size, int protection, int flags, int fd, off_t offset)
{
    REAL(mmap);
    return fails(MAP) ? MAP_FAILED : real(address, size, protection, flags, fd, offset);
}

void *mmap64(void *address, size_t size, int protection, int flags, int fd, off64_t offset)
{
    REAL(mmap64);
    return fails(MAP) ? MAP_FAILED : real(address, size, protection, flags, fd, offset);
}

void *mremap(void *old, size_t old_size, size_t size, int flags, ...)
{
    REAL(mremap);
    return fails(MAP) ? MAP_FAILED : real(old, old_size, size, flags);
}

/* ---- files ------------------------------------------------------------------------------------------------------- */

/* FORWARD(kind, type, failure, name, parameters, arguments) */
#define FORWARD(kind, type, failure, name, parameters, arguments)                                                      \
    type name parameters                                                                                               \
    {                                                                                                                  \
        REAL(name);                                                                                                    \
        return fails(kind) ? (failure) : real arguments;                                                               \
    }

static bool exists(int fd, const char *path)
{
    struct stat info;
    REAL(fstatat);
    return real(fd, path, &info, AT_SYMLINK_NOFOLLOW) == 0;
}

static bool makes_file(int fd, const char *path, int flags)
{
    return (flags & O_TMPFILE) == O_TMPFILE || (flags & O_CREAT && !exists(fd, path));
}

int mkdir(const char *path, mode_t mode)
{
    REAL(mkdir);
    return !exists(AT_FDCWD, path) && fails(NAME) ? -1 : real(path, mode);
}

#define FORWARD_OPEN(name)                                                                                             \
    int name(const char *path, int flags, ...)                                                                         \
    {                                                                                                                  \
        REAL(name);                                                                                                    \
        va_list arguments;                                                                                             \
        va_start(arguments, flags);                                                                                    \
        const mode_t mode = (flags & O_CREAT) || (flags & O_TMPFILE) == O_TMPFILE ? va_arg(arguments, mode_t) : 0;     \
        va_end(arguments);                                                                                             \
        return fails(makes_file(AT_FDCWD, path, flags) ? NAME : OPEN) ? -1 : real(path, flags, mode);                  \
    }

#define FORWARD_OPENAT(name)                                                                                           \
    int name(int fd, const char *path, int flags, ...)                                                                 \
    {                                                                                                                  \
        REAL(name);                                                                                                    \
        va_list arguments;                                                                                             \
        va_start(arguments, flags);                                                                                    \
        const mode_t mode = flags & O_CREAT ? va_arg(arguments, mode_t) : 0;                                           \
        va_end(arguments);                                                                                             \
        return fails(makes_file(fd, path, flags) ? NAME : OPEN) ? -1 : real(fd, path, flags, mode);                    \
    }

FORWARD_OPEN(open)
FORWARD_OPEN(open64)
FORWARD_OPENAT(openat)
FORWARD_OPENAT(openat64)
FORWARD(OPEN, FILE *, NULL, fopen, (const char *path, const char *mode), (path, mode))
FORWARD(OPEN, DIR *, NULL, opendir, (const char *path), (path))
FORWARD(OPEN, DIR *, NULL, fdopendir, (int fd), (fd))
FORWARD(OPEN, int, -1, mkostemp, (char *path, int flags), (path, flags))
FORWARD(READ, struct dirent *, NULL, readdir, (DIR * directory), (directory))

/* Tells that it is no socket, event or log. */
static bool is_file(int fd)
{
    struct stat info;
    REAL(fstat);
    return real(fd, &info) == 0 && S_ISREG(info.st_mode);
}

/* TRANSFER(kind, name, parameters, size, arguments with n for the size) */
#define TRANSFER(kind, name, parameters, size, arguments)                                                              \
    ssize_t name parameters                                                                                            \
    {                                                                                                                  \
        REAL(name);                                                                                                    \
        bool last = false;                                                                                             \
        const ssize_t n =                                                                                              \
            ((kind) != READ && (kind) != WRITE) || is_file(fd) ? allowed(kind, size, &last) : (ssize_t)size;           \
        const ssize_t done = n < 0 ? -1 : real arguments;                                                              \
        if (last) kill(getpid(), SIGKILL);                                                                             \
        return done;                                                                                                   \
    }

TRANSFER(READ, pread, (int fd, void *data, size_t size, off_t offset), size, (fd, data, (size_t)n, offset))
TRANSFER(READ, pread64, (int fd, void *data, size_t size, off64_t offset), size, (fd, data, (size_t)n, offset))
TRANSFER(READ, read, (int fd, void *data, size_t size), size, (fd, data, (size_t)n))
TRANSFER(WRITE, pwrite, (int fd, const void *data, size_t size, off_t offset), size, (fd, data, (size_t)n, offset))
TRANSFER(WRITE, pwrite64, (int fd, const void *data, size_t size, off64_t offset), size, (fd, data, (size_t)n, offset))
TRANSFER(WRITE, write, (int fd, const void *data, size_t size), size, (fd, data, (size_t)n))
TRANSFER(SEND, send, (int fd, const void *data, size_t size, int flags), size, (fd, data, (size_t)n, flags))
TRANSFER(RECEIVE, recv, (int fd, void *data, size_t size, int flags), size, (fd, data, (size_t)n, flags))
FORWARD(SEND, ssize_t, -1, sendmsg, (int fd, const struct msghdr *message, int flags), (fd, message, flags))
FORWARD(SEND, ssize_t, -1, sendfile64, (int out, int in, off64_t *offset, size_t n), (out, in, offset, n))

FORWARD(SYNC, int, -1, fsync, (int fd), (fd))
FORWARD(SYNC, int, -1, fdatasync, (int fd), (fd))
FORWARD(NAME, int, -1, ftruncate, (int fd, off_t size), (fd, size))
FORWARD(NAME, int, -1, ftruncate64, (int fd, off64_t size), (fd, size))
FORWARD(NAME, int, errno, posix_fallocate, (int fd, off_t offset, off_t size), (fd, offset, size))
FORWARD(NAME, int, -1, rename, (const char *from, const char *to), (from, to))
FORWARD(NAME, int, -1, renameat, (int from_fd, const char *from, int to_fd, const char *to), (from_fd, from, to_fd, to))
FORWARD(NAME, int, -1, renameat2, (int from_fd, const char *from, int to_fd, const char *to, unsigned flags),
        (from_fd, from, to_fd, to, flags))
FORWARD(REMOVE, int, -1, unlink, (const char *path), (path))
FORWARD(REMOVE, int, -1, unlinkat, (int fd, const char *path, int flags), (fd, path, flags))
FORWARD(REMOVE, int, -1, rmdir, (const char *path), (path))
FORWARD(LOCK, int, -1, flock, (int fd, int operation), (fd, operation))
FORWARD(STAT, int, -1, stat, (const char *restrict path, struct stat *restrict info), (path, info))
FORWARD(STAT, int, -1, stat64, (const char *restrict path, struct stat64 *restrict info), (path, info))
FORWARD(STAT, int, -1, lstat, (const char *restrict path, struct stat *restrict info), (path, info))
FORWARD(STAT, int, -1, lstat64, (const char *restrict path, struct stat64 *restrict info), (path, info))
FORWARD(STAT, int, -1, fstat, (int fd, struct stat *info), (fd, info))
FORWARD(STAT, int, -1, fstat64, (int fd, struct stat64 *info), (fd, info))
FORWARD(STAT, int, -1, fstatat, (int fd, const char *restrict path, struct stat *restrict info, int flags),
        (fd, path, info, flags))
FORWARD(STAT, int, -1, statvfs, (const char *restrict path, struct statvfs *restrict info), (path, info))

/* Locks of SQLite. An unlock does not fail. */
int fcntl64(int fd, int command, ...)
{
    REAL(fcntl64);
    va_list arguments;
    va_start(arguments, command);
    void *argument = va_arg(arguments, void *);
    va_end(arguments);
    const bool takes = (command == F_SETLK || command == F_SETLKW) && ((struct flock *)argument)->l_type != F_UNLCK;
    return takes && fails(LOCK) ? -1 : real(fd, command, argument);
}

/* Only calls that take memory of the kernel can fail. */
int epoll_ctl(int epoll, int operation, int fd, struct epoll_event *event)
{
    REAL(epoll_ctl);
    return operation == EPOLL_CTL_ADD && fails(EVENT) ? -1 : real(epoll, operation, fd, event);
}

/* ---- descriptors, threads, processes ----------------------------------------------------------------------------- */

FORWARD(ACCEPT, int, -1, accept4, (int fd, struct sockaddr *address, socklen_t *size, int flags),
        (fd, address, size, flags))
FORWARD(EVENT, int, -1, eventfd, (unsigned count, int flags), (count, flags))
FORWARD(EVENT, int, -1, epoll_create1, (int flags), (flags))
FORWARD(EVENT, int, -1, pipe2, (int ends[2], int flags), (ends, flags))
FORWARD(EVENT, int, -1, socket, (int domain, int type, int protocol), (domain, type, protocol))
FORWARD(THREAD, pid_t, -1, fork, (void), ())
FORWARD(THREAD, int, errno, pthread_create,
        (pthread_t * thread, const pthread_attr_t *attributes, void *(*function)(void *), void *argument),
        (thread, attributes, function, argument))
FORWARD(THREAD, int, errno, posix_spawn,
        (pid_t * child, const char *path, const posix_spawn_file_actions_t *actions,
         const posix_spawnattr_t *attributes, char *const arguments[], char *const environment[]),
        (child, path, actions, attributes, arguments, environment))
