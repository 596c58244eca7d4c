#include "base/sandbox.h"

const char *const sandbox_choices[] = {"auto", "require", "off", NULL};

#ifdef LSTMD_INSTRUMENTED

static bool sandbox_refuse(struct error *err)
{
    return error_set(err, ERROR_UNAVAILABLE, "this program was built with sanitizers or for coverage");
}

bool sandbox_limit_paths(const struct sandbox_path *paths, size_t count, struct error *err)
{
    (void)paths, (void)count;
    return sandbox_refuse(err);
}

bool sandbox_limit_daemon(struct error *err)
{
    return sandbox_refuse(err);
}

bool sandbox_enter(const struct sandbox_path *paths, size_t count, struct error *err)
{
    (void)paths, (void)count;
    return sandbox_refuse(err);
}

#else

#include <errno.h>
#include <fcntl.h>
#include <linux/filter.h>
#include <linux/landlock.h>
#include <linux/seccomp.h>
#include <sched.h>
#include <seccomp.h>
#include <signal.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

/* ---- paths ---- */

/* Rights of newer kernels that older headers lack (linux/landlock.h). */
#define ACCESS_TRUNCATE     (UINT64_C(1) << 14) /* ABI 3 */
#define ACCESS_IOCTL_DEVICE (UINT64_C(1) << 15) /* ABI 5 */
#define ACCESS_TCP          UINT64_C(3)         /* ABI 4: bind and connect */
struct ruleset {
    uint64_t files, network;
};

#define READ_FILE  LANDLOCK_ACCESS_FS_READ_FILE
#define READ_TREE  (READ_FILE | LANDLOCK_ACCESS_FS_READ_DIR)
#define WRITE_FILE (READ_FILE | LANDLOCK_ACCESS_FS_WRITE_FILE | ACCESS_TRUNCATE)
#define WRITE_TREE                                                                                                     \
    (READ_TREE | WRITE_FILE | LANDLOCK_ACCESS_FS_MAKE_REG | LANDLOCK_ACCESS_FS_MAKE_DIR |                              \
     LANDLOCK_ACCESS_FS_REMOVE_FILE | LANDLOCK_ACCESS_FS_REMOVE_DIR | LANDLOCK_ACCESS_FS_REFER)
#define ON_FILES (WRITE_FILE | LANDLOCK_ACCESS_FS_EXECUTE) /* the rights that a path has if it is no directory */

static const uint64_t access_of[] = {
    [SANDBOX_READ] = READ_TREE,
    [SANDBOX_WRITE] = WRITE_TREE,
    [SANDBOX_RUN] = READ_TREE | LANDLOCK_ACCESS_FS_EXECUTE,
    [SANDBOX_REMOVE] = LANDLOCK_ACCESS_FS_REMOVE_FILE,
};

/* Everything that a kernel with this ABI can forbid. */
static struct ruleset handled_by(long abi)
{
    struct ruleset handled = {.files = ((uint64_t)LANDLOCK_ACCESS_FS_MAKE_SYM << 1) - 1};
    if (abi >= 2) handled.files |= LANDLOCK_ACCESS_FS_REFER;
    if (abi >= 3) handled.files |= ACCESS_TRUNCATE;
    if (abi >= 4) handled.network = ACCESS_TCP;
    if (abi >= 5) handled.files |= ACCESS_IOCTL_DEVICE;
    return handled;
}

static bool allow_path(int ruleset, const char *path, uint64_t access, struct error *err)
{
    struct stat info;
    const int fd = open(path, O_PATH | O_CLOEXEC);
    if (fd < 0) return errno == ENOENT || errno == ENOTDIR || error_set_errno(err, errno, "%s", path);
    if (fstat(fd, &info) == 0 && !S_ISDIR(info.st_mode)) access &= ON_FILES;
    const struct landlock_path_beneath_attr rule = {.allowed_access = access, .parent_fd = fd};
    const bool added = syscall(SYS_landlock_add_rule, ruleset, LANDLOCK_RULE_PATH_BENEATH, &rule, 0) == 0;
    if (!added) error_set_errno(err, errno, "Landlock: %s", path);
    close(fd);
    return added;
}

bool sandbox_limit_paths(const struct sandbox_path *paths, size_t count, struct error *err)
{
    const long abi = syscall(SYS_landlock_create_ruleset, NULL, 0, LANDLOCK_CREATE_RULESET_VERSION);
    const struct ruleset handled = handled_by(abi);
    const int ruleset = abi < 1 ? -1 : (int)syscall(SYS_landlock_create_ruleset, &handled, sizeof handled, 0);
    if (ruleset < 0) return error_set_errno(err, errno, "Landlock");
    bool ok = true;
    for (size_t i = 0; ok && i < count; i++)
        ok = !paths[i].path || allow_path(ruleset, paths[i].path, access_of[paths[i].access] & handled.files, err);
    if (ok && (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0 || syscall(SYS_landlock_restrict_self, ruleset, 0) != 0))
        ok = error_set_errno(err, errno, "Landlock");
    close(ruleset);
    return ok;
}

/* ---- system calls ---- */

/* Names of system calls of all architectures; each architecture has some of them. */
static const int reader_calls[] = {
    /* files, by descriptor */
    SCMP_SYS(read),
    SCMP_SYS(pread64),
    SCMP_SYS(readv),
    SCMP_SYS(write),
    SCMP_SYS(pwrite64),
    SCMP_SYS(writev),
    SCMP_SYS(lseek),
    SCMP_SYS(close),
    SCMP_SYS(fstat),
    SCMP_SYS(getdents64),
    SCMP_SYS(flock),
    SCMP_SYS(fsync),
    SCMP_SYS(fdatasync),
    /* files, by path; Landlock checks the path */
    SCMP_SYS(open),
    SCMP_SYS(openat),
    SCMP_SYS(stat),
    SCMP_SYS(lstat),
    SCMP_SYS(newfstatat),
    SCMP_SYS(statx),
    SCMP_SYS(access),
    SCMP_SYS(faccessat),
    SCMP_SYS(faccessat2),
    SCMP_SYS(readlink),
    SCMP_SYS(readlinkat),
    SCMP_SYS(getcwd),
    SCMP_SYS(mkdir),
    SCMP_SYS(mkdirat),
    SCMP_SYS(rename),
    SCMP_SYS(renameat),
    SCMP_SYS(renameat2),
    SCMP_SYS(unlink),
    SCMP_SYS(unlinkat),
    SCMP_SYS(rmdir),
    /* memory; mmap and mprotect are below */
    SCMP_SYS(brk),
    SCMP_SYS(munmap),
    SCMP_SYS(mremap),
    SCMP_SYS(madvise),
    /* calls that the C library makes on its own */
    SCMP_SYS(futex),
    SCMP_SYS(rt_sigaction),
    SCMP_SYS(rt_sigprocmask),
    SCMP_SYS(rt_sigreturn),
    SCMP_SYS(sigaltstack),
    SCMP_SYS(restart_syscall),
    SCMP_SYS(set_robust_list),
    SCMP_SYS(rseq),
    SCMP_SYS(getpid),
    SCMP_SYS(gettid),
    SCMP_SYS(sched_getaffinity),
    SCMP_SYS(sched_yield),
    SCMP_SYS(clock_gettime),
    SCMP_SYS(clock_getres),
    SCMP_SYS(gettimeofday),
    SCMP_SYS(time),
    SCMP_SYS(getrandom),
    SCMP_SYS(exit),
    SCMP_SYS(exit_group),
};

static const int daemon_calls[] = {
    /* waiting */
    SCMP_SYS(poll),
    SCMP_SYS(ppoll),
    SCMP_SYS(select),
    SCMP_SYS(pselect6),
    SCMP_SYS(epoll_create1),
    SCMP_SYS(epoll_ctl),
    SCMP_SYS(epoll_wait),
    SCMP_SYS(epoll_pwait),
    SCMP_SYS(epoll_pwait2),
    SCMP_SYS(eventfd2),
    SCMP_SYS(nanosleep),
    SCMP_SYS(clock_nanosleep),
    SCMP_SYS(futex_waitv),
    SCMP_SYS(rt_sigtimedwait),
    SCMP_SYS(rt_sigsuspend),
    SCMP_SYS(pause),
    /* open sockets */
    SCMP_SYS(listen),
    SCMP_SYS(accept4),
    SCMP_SYS(recvfrom),
    SCMP_SYS(recvmsg),
    SCMP_SYS(sendto),
    SCMP_SYS(sendmsg),
    SCMP_SYS(sendfile),
    SCMP_SYS(shutdown),
    SCMP_SYS(getsockopt),
    SCMP_SYS(setsockopt),
    SCMP_SYS(getsockname),
    SCMP_SYS(getpeername),
    /* files: the database locks files; uploads and scratch files change and read their sizes */
    SCMP_SYS(fcntl),
    SCMP_SYS(dup),
    SCMP_SYS(dup2),
    SCMP_SYS(dup3),
    SCMP_SYS(pipe2),
    SCMP_SYS(close_range),
    SCMP_SYS(preadv),
    SCMP_SYS(pwritev),
    SCMP_SYS(ftruncate),
    SCMP_SYS(fallocate),
    SCMP_SYS(fadvise64),
    SCMP_SYS(copy_file_range),
    SCMP_SYS(sync_file_range),
    SCMP_SYS(statfs),
    SCMP_SYS(fstatfs),
    SCMP_SYS(umask),
    SCMP_SYS(chdir),
    SCMP_SYS(fchdir),
    SCMP_SYS(msync),
    SCMP_SYS(mlock),
    SCMP_SYS(munlock),
    /* threads, and how they are scheduled */
    SCMP_SYS(set_tid_address),
    SCMP_SYS(arch_prctl),
    SCMP_SYS(membarrier),
    SCMP_SYS(getpriority),
    SCMP_SYS(sched_getattr),
    SCMP_SYS(sched_setattr),
    SCMP_SYS(sched_getparam),
    SCMP_SYS(sched_getscheduler),
    SCMP_SYS(sched_setscheduler),
    SCMP_SYS(sched_get_priority_max),
    SCMP_SYS(sched_get_priority_min),
    SCMP_SYS(sched_setaffinity),
    SCMP_SYS(getcpu),
    /* starting this program as a child, and its own limits */
    SCMP_SYS(execve),
    SCMP_SYS(vfork),
    SCMP_SYS(fork),
    SCMP_SYS(wait4),
    SCMP_SYS(waitid),
    SCMP_SYS(getppid),
    SCMP_SYS(getpgrp),
    SCMP_SYS(setpgid),
    SCMP_SYS(setrlimit),
    SCMP_SYS(getrlimit),
    SCMP_SYS(seccomp),
    SCMP_SYS(landlock_create_ruleset),
    SCMP_SYS(landlock_add_rule),
    SCMP_SYS(landlock_restrict_self),
    /* own identity and directory */
    SCMP_SYS(getuid),
    SCMP_SYS(geteuid),
    SCMP_SYS(getgid),
    SCMP_SYS(getegid),
    SCMP_SYS(uname),
    SCMP_SYS(sysinfo),
    SCMP_SYS(getrusage),
    SCMP_SYS(times),
};

/* A condition on one argument: its value under a mask. */
struct comparison {
    unsigned argument;
    uint64_t mask, value;
};

/* A call that is harmless only with certain arguments, and the conditions on these. */
struct conditional {
    int call;
    unsigned count; /* of comparisons */
    struct comparison comparisons[2];
};

#define ALL        UINT64_MAX
#define LENGTH(of) (sizeof(of) / sizeof *(of))

/* ---- the program that the kernel runs for each call ----
 *
 * libseccomp gives the names and numbers of the calls. Rejected: its generator of filter programs, because without
 * memory it follows null pointers, never ends, or leaves rules out. The code below allocates nothing. */

struct filter {
    struct sock_filter code[512];
    unsigned short size;
};

#define LOAD  (BPF_LD | BPF_W | BPF_ABS)
#define AND   (BPF_ALU | BPF_AND | BPF_K)
#define EQUAL (BPF_JMP | BPF_JEQ | BPF_K)
#define GO    (BPF_JMP | BPF_JA)
#define END   (BPF_RET | BPF_K)

#define LOW  (__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__ ? 0 : 4) /* offsets of the two halves of an argument */
#define HIGH (4 - LOW)

#define LONGEST_LIST  255 /* the longest jump */
#define OF_COMPARISON 6   /* instructions per comparison */
#define OF_CONDITION  (3 + 2 * OF_COMPARISON)

/* `yes` and `no`: how many instructions the jump skips. */
static void filter_put(struct filter *filter, unsigned code, size_t value, size_t yes, size_t no)
{
    filter->code[filter->size++] =
        (struct sock_filter){.code = (uint16_t)code, .jt = (uint8_t)yes, .jf = (uint8_t)no, .k = (uint32_t)value};
}

static void put_number(struct filter *filter)
{
    filter_put(filter, LOAD, offsetof(struct seccomp_data, nr), 0, 0);
}

/* Refuses calls of other architectures, whose numbers differ. A forbidden call fails as if the kernel did not have it
 * (ENOSYS): a C library that tries a newer call first then falls back to an older one. */
static void filter_begin(struct filter *filter)
{
    filter->size = 0;
    filter_put(filter, LOAD, offsetof(struct seccomp_data, arch), 0, 0);
    filter_put(filter, EQUAL, seccomp_arch_native(), 1, 0);
    filter_put(filter, END, SECCOMP_RET_KILL_PROCESS, 0, 0);
    put_number(filter);
}

/* Skips calls that this architecture does not have: their numbers are below 0. */
static void allow_all(struct filter *filter, const int *calls, size_t count)
{
    size_t left = 0;
    for (size_t i = 0; i < count; i++) left += calls[i] >= 0;
    for (size_t i = 0; i < count; i++)
        if (calls[i] >= 0) filter_put(filter, EQUAL, (size_t)calls[i], left--, 0);
    filter_put(filter, GO, 1, 0, 0);
    filter_put(filter, END, SECCOMP_RET_ALLOW, 0, 0);
}

/* `left`: how many instructions a wrong half skips, from here on. */
static void put_half(struct filter *filter, size_t offset, uint64_t mask, uint64_t value, size_t left)
{
    filter_put(filter, LOAD, offset, 0, 0);
    filter_put(filter, AND, (uint32_t)mask, 0, 0);
    filter_put(filter, EQUAL, (uint32_t)value, 0, left - OF_COMPARISON / 2);
}

static void allow_some(struct filter *filter, const struct conditional *some, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        if (some[i].call < 0) continue;
        size_t left = OF_COMPARISON * some[i].count + 1; /* to the instruction that loads the call's number again */
        filter_put(filter, EQUAL, (size_t)some[i].call, 0, left + 1);
        for (unsigned j = 0; j < some[i].count; j++) {
            const struct comparison *is = &some[i].comparisons[j];
            const size_t offset = offsetof(struct seccomp_data, args) + is->argument * sizeof(uint64_t);
            put_half(filter, offset + LOW, is->mask, is->value, left);
            put_half(filter, offset + HIGH, is->mask >> 32, is->value >> 32, left - OF_COMPARISON / 2);
            left -= OF_COMPARISON;
        }
        filter_put(filter, END, SECCOMP_RET_ALLOW, 0, 0);
        put_number(filter);
    }
}

static bool filter_load(struct filter *filter, unsigned flags, struct error *err)
{
    filter_put(filter, END, SECCOMP_RET_ERRNO | ENOSYS, 0, 0);
    const struct sock_fprog program = {.len = filter->size, .filter = filter->code};
    const bool quiet = prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0;
    const long problem = quiet ? syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, flags, &program) : -1;
    if (problem > 0) errno = ESRCH; /* a thread that has another filter */
    return problem == 0 || error_set_errno(err, errno, "seccomp");
}

/* ---- what is allowed ---- */

/* Harmless arguments: memory is never executable; ioctl() may ask whether a descriptor is a terminal, but types nothing
 * into it; limits may be read; a signal may go to this process only. */
static bool limit_reader(struct error *err)
{
    const struct conditional some[] = {
        {SCMP_SYS(mmap), 1, {{2, PROT_EXEC, 0}}},  {SCMP_SYS(mprotect), 1, {{2, PROT_EXEC, 0}}},
        {SCMP_SYS(ioctl), 1, {{1, ALL, TCGETS}}},  {SCMP_SYS(fcntl), 1, {{1, ALL, F_GETFD}}},
        {SCMP_SYS(fcntl), 1, {{1, ALL, F_SETFD}}}, {SCMP_SYS(fcntl), 1, {{1, ALL, F_GETFL}}},
        {SCMP_SYS(prlimit64), 1, {{2, ALL, 0}}},   {SCMP_SYS(tgkill), 1, {{0, ALL, (uint64_t)getpid()}}},
    };
    struct filter filter;
    _Static_assert(LENGTH(reader_calls) + LENGTH(some) * OF_CONDITION + 7 <= LENGTH(filter.code), "there is room");
    filter_begin(&filter);
    allow_all(&filter, reader_calls, LENGTH(reader_calls));
    allow_some(&filter, some, LENGTH(some));
    return filter_load(&filter, 0, err);
}

/* Landlock does not check changes of a file's mode, owner or times, so the filter forbids them. Code comes from files,
 * never from written memory. A new thread or process makes no new namespace. The only signal to children is a kill; a
 * started program raises its own signals itself. */
bool sandbox_limit_daemon(struct error *err)
{
    const uint64_t containers =
        CLONE_NEWNS | CLONE_NEWUTS | CLONE_NEWIPC | CLONE_NEWUSER | CLONE_NEWPID | CLONE_NEWNET | CLONE_NEWCGROUP;
    const struct conditional some[] = {
        {SCMP_SYS(mmap), 1, {{2, PROT_EXEC, 0}}},
        {SCMP_SYS(mmap), 2, {{2, PROT_WRITE, 0}, {3, MAP_ANONYMOUS, 0}}},
        {SCMP_SYS(mprotect), 1, {{2, PROT_EXEC, 0}}},
        {SCMP_SYS(clone), 1, {{0, containers, 0}}},
        {SCMP_SYS(socket), 2, {{0, ALL, AF_UNIX}, {1, 0xf, SOCK_DGRAM}}},
        {SCMP_SYS(ioctl), 1, {{1, ALL, TCGETS}}},
        {SCMP_SYS(ioctl), 1, {{1, ALL, FIONREAD}}},
        {SCMP_SYS(ioctl), 1, {{1, ALL, FIONBIO}}},
        {SCMP_SYS(ioctl), 1, {{1, ALL, TIOCOUTQ}}}, /* what a peer has not received yet */
        {SCMP_SYS(prctl), 1, {{0, ALL, PR_SET_NAME}}},
        {SCMP_SYS(prctl), 1, {{0, ALL, PR_SET_NO_NEW_PRIVS}}},
        {SCMP_SYS(prctl), 1, {{0, ALL, PR_SET_PDEATHSIG}}},
        {SCMP_SYS(prctl), 1, {{0, ALL, PR_SET_SECCOMP}}},
        {SCMP_SYS(prctl), 1, {{0, ALL, PR_GET_SECCOMP}}},
        {SCMP_SYS(prlimit64), 1, {{0, ALL, 0}}},
        {SCMP_SYS(setpriority), 1, {{2, ALL, 19}}}, /* the lowest */
        {SCMP_SYS(kill), 1, {{1, ALL, SIGKILL}}},
        {SCMP_SYS(kill), 1, {{1, ALL, 0}}},
        {SCMP_SYS(tgkill), 1, {{2, ALL, SIGABRT}}},
        {SCMP_SYS(tgkill), 1, {{0, ALL, (uint64_t)getpid()}}},
    };
    struct filter filter;
    _Static_assert(LENGTH(reader_calls) <= LONGEST_LIST && LENGTH(daemon_calls) <= LONGEST_LIST, "jumps reach the end");
    _Static_assert(LENGTH(reader_calls) + LENGTH(daemon_calls) + LENGTH(some) * OF_CONDITION + 9 <= LENGTH(filter.code),
                   "there is room");
    filter_begin(&filter);
    allow_all(&filter, reader_calls, LENGTH(reader_calls));
    allow_all(&filter, daemon_calls, LENGTH(daemon_calls));
    allow_some(&filter, some, LENGTH(some));
    /* SPEC_ALLOW keeps memory fast: before Linux 5.16 a filter turns on a slow mitigation. */
    return filter_load(&filter, SECCOMP_FILTER_FLAG_TSYNC | SECCOMP_FILTER_FLAG_SPEC_ALLOW, err);
}

/* Paths first: the filter forbids the system calls of Landlock. */
bool sandbox_enter(const struct sandbox_path *paths, size_t count, struct error *err)
{
    closefrom(STDERR_FILENO + 1);
    const bool limited = sandbox_limit_paths(paths, count, err);
    return limit_reader(err) && limited;
}

#endif
