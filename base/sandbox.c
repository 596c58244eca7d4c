#include "base/sandbox.h"

const char *const sandbox_choices[] = {"auto", "require", "off", NULL};

#ifdef LSTMD_INSTRUMENTED

static bool refuse(struct error *err)
{
    return error_set(err, ERROR_UNAVAILABLE, "this program was built with sanitizers or for coverage");
}

bool sandbox_limit_paths(const struct sandbox_path *paths, size_t count, struct error *err)
{
    (void)paths, (void)count;
    return refuse(err);
}

bool sandbox_limit_daemon(struct error *err)
{
    return refuse(err);
}

bool sandbox_enter(const struct sandbox_path *paths, size_t count, struct error *err)
{
    (void)paths, (void)count;
    return refuse(err);
}

#else

#include <errno.h>
#include <fcntl.h>
#include <linux/landlock.h>
#include <sched.h>
#include <seccomp.h>
#include <signal.h>
#include <stdint.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

/* ---- paths ---- */

/* What newer kernels have and the headers of older ones do not (linux/landlock.h). */
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
#define ON_FILES (WRITE_FILE | LANDLOCK_ACCESS_FS_EXECUTE) /* what makes sense for a path that is no directory */

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

/* The names of all architectures; each has some of them. */
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
    /* by path, which Landlock judges */
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
    /* what the C library does on its own */
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
    /* the sockets that are there */
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
    /* files: the database locks them, large ones are made and measured */
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
    SCMP_SYS(chmod),
    SCMP_SYS(fchmod),
    SCMP_SYS(utimensat),
    SCMP_SYS(link),
    SCMP_SYS(linkat),
    SCMP_SYS(symlink),
    SCMP_SYS(symlinkat),
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
    SCMP_SYS(setpriority),
    SCMP_SYS(sched_getattr),
    SCMP_SYS(sched_setattr),
    SCMP_SYS(sched_getparam),
    SCMP_SYS(sched_getscheduler),
    SCMP_SYS(sched_setscheduler),
    SCMP_SYS(sched_get_priority_max),
    SCMP_SYS(sched_get_priority_min),
    SCMP_SYS(sched_setaffinity),
    SCMP_SYS(getcpu),
    /* a program of ours that is started, and what it limits itself to */
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
    /* who and where one is */
    SCMP_SYS(getuid),
    SCMP_SYS(geteuid),
    SCMP_SYS(getgid),
    SCMP_SYS(getegid),
    SCMP_SYS(uname),
    SCMP_SYS(sysinfo),
    SCMP_SYS(getrusage),
    SCMP_SYS(times),
};

/* A call that does harmless things and others, and the arguments of the harmless ones. */
struct conditional {
    int call;
    unsigned count;                     /* of the comparisons */
    struct scmp_arg_cmp comparisons[2]; /* which argument, how, with what; a mask comes before its value */
};

static int allow_all(scmp_filter_ctx filter, const int *calls, size_t count)
{
    int problem = 0;
    for (size_t i = 0; problem == 0 && i < count; i++)
        problem = seccomp_rule_add_array(filter, SCMP_ACT_ALLOW, calls[i], 0, NULL);
    return problem;
}

static int allow_some(scmp_filter_ctx filter, const struct conditional *some, size_t count)
{
    int problem = 0;
    for (size_t i = 0; problem == 0 && i < count; i++)
        problem = seccomp_rule_add_array(filter, SCMP_ACT_ALLOW, some[i].call, some[i].count, some[i].comparisons);
    return problem;
}

#define ARRAY(array) (array), sizeof(array) / sizeof *(array)

/* Memory never becomes code; a terminal is asked whether it is one, and typed into by nobody; limits are read; the only
 * process that gets a signal is this one. */
static int allow_reader(scmp_filter_ctx filter)
{
    const struct conditional some[] = {
        {SCMP_SYS(mmap), 1, {{2, SCMP_CMP_MASKED_EQ, PROT_EXEC, 0}}},
        {SCMP_SYS(mprotect), 1, {{2, SCMP_CMP_MASKED_EQ, PROT_EXEC, 0}}},
        {SCMP_SYS(ioctl), 1, {{1, SCMP_CMP_EQ, TCGETS, 0}}},
        {SCMP_SYS(fcntl), 1, {{1, SCMP_CMP_EQ, F_GETFD, 0}}},
        {SCMP_SYS(fcntl), 1, {{1, SCMP_CMP_EQ, F_SETFD, 0}}},
        {SCMP_SYS(fcntl), 1, {{1, SCMP_CMP_EQ, F_GETFL, 0}}},
        {SCMP_SYS(prlimit64), 1, {{2, SCMP_CMP_EQ, 0, 0}}},
        {SCMP_SYS(tgkill), 1, {{0, SCMP_CMP_EQ, (scmp_datum_t)getpid(), 0}}},
    };
    const int problem = allow_all(filter, ARRAY(reader_calls));
    return problem == 0 ? allow_some(filter, ARRAY(some)) : problem;
}

/* Code comes from files, never from memory that was written. A thread or process is no new container. Children are
 * killed and not otherwise told anything; what a started program raises, it raises itself. */
static int allow_daemon(scmp_filter_ctx filter)
{
    const scmp_datum_t containers =
        CLONE_NEWNS | CLONE_NEWUTS | CLONE_NEWIPC | CLONE_NEWUSER | CLONE_NEWPID | CLONE_NEWNET | CLONE_NEWCGROUP;
    const struct conditional some[] = {
        {SCMP_SYS(mmap), 1, {{2, SCMP_CMP_MASKED_EQ, PROT_EXEC, 0}}},
        {SCMP_SYS(mmap), 2, {{2, SCMP_CMP_MASKED_EQ, PROT_WRITE, 0}, {3, SCMP_CMP_MASKED_EQ, MAP_ANONYMOUS, 0}}},
        {SCMP_SYS(mprotect), 1, {{2, SCMP_CMP_MASKED_EQ, PROT_EXEC, 0}}},
        {SCMP_SYS(clone), 1, {{0, SCMP_CMP_MASKED_EQ, containers, 0}}},
        {SCMP_SYS(socket), 2, {{0, SCMP_CMP_EQ, AF_UNIX, 0}, {1, SCMP_CMP_MASKED_EQ, 0xf, SOCK_DGRAM}}},
        {SCMP_SYS(ioctl), 1, {{1, SCMP_CMP_EQ, TCGETS, 0}}},
        {SCMP_SYS(ioctl), 1, {{1, SCMP_CMP_EQ, FIONREAD, 0}}},
        {SCMP_SYS(ioctl), 1, {{1, SCMP_CMP_EQ, FIONBIO, 0}}},
        {SCMP_SYS(prctl), 1, {{0, SCMP_CMP_EQ, PR_SET_NAME, 0}}},
        {SCMP_SYS(prctl), 1, {{0, SCMP_CMP_EQ, PR_SET_NO_NEW_PRIVS, 0}}},
        {SCMP_SYS(prctl), 1, {{0, SCMP_CMP_EQ, PR_SET_PDEATHSIG, 0}}},
        {SCMP_SYS(prctl), 1, {{0, SCMP_CMP_EQ, PR_SET_SECCOMP, 0}}},
        {SCMP_SYS(prctl), 1, {{0, SCMP_CMP_EQ, PR_GET_SECCOMP, 0}}},
        {SCMP_SYS(prlimit64), 1, {{0, SCMP_CMP_EQ, 0, 0}}},
        {SCMP_SYS(kill), 1, {{1, SCMP_CMP_EQ, SIGKILL, 0}}},
        {SCMP_SYS(kill), 1, {{1, SCMP_CMP_EQ, 0, 0}}},
        {SCMP_SYS(tgkill), 1, {{2, SCMP_CMP_EQ, SIGABRT, 0}}},
        {SCMP_SYS(tgkill), 1, {{0, SCMP_CMP_EQ, (scmp_datum_t)getpid(), 0}}},
    };
    int problem = allow_all(filter, ARRAY(reader_calls));
    if (problem == 0) problem = allow_all(filter, ARRAY(daemon_calls));
    if (problem == 0) problem = allow_some(filter, ARRAY(some));
    if (problem == 0) problem = seccomp_attr_set(filter, SCMP_FLTATR_CTL_TSYNC, 1);
    /* No slower memory for a process that has a filter (Linux before 5.16), and no walk through the list for each call.
     */
    if (problem == 0) problem = seccomp_attr_set(filter, SCMP_FLTATR_CTL_SSB, 1);
    return problem == 0 ? seccomp_attr_set(filter, SCMP_FLTATR_CTL_OPTIMIZE, 2) : problem;
}

/* What is not allowed looks as if the kernel did not have it (ENOSYS): a C library that tries something newer first
 * then falls back to what is. */
static bool limit_calls(int (*allow)(scmp_filter_ctx filter), struct error *err)
{
    scmp_filter_ctx filter = seccomp_init(SCMP_ACT_ERRNO(ENOSYS));
    if (!filter) return error_set(err, ERROR_UNAVAILABLE, "seccomp: the filter could not be made");
    int problem = allow(filter);
    if (problem == 0) problem = seccomp_load(filter);
    if (problem == -ECANCELED) problem = -errno; /* the kernel refused; the library does not say why */
    seccomp_release(filter);
    return problem == 0 || error_set_errno(err, -problem, "seccomp");
}

bool sandbox_limit_daemon(struct error *err)
{
    return limit_calls(allow_daemon, err);
}

/* Paths first: the system calls for it are none of those that stay. */
bool sandbox_enter(const struct sandbox_path *paths, size_t count, struct error *err)
{
    closefrom(STDERR_FILENO + 1);
    const bool limited = sandbox_limit_paths(paths, count, err);
    return limit_calls(allow_reader, err) && limited;
}

#endif
