#include "base/sandbox.h"

#ifdef LSTMD_INSTRUMENTED

bool sandbox_enter(const struct sandbox *sandbox, struct error *err)
{
    (void)sandbox;
    return error_set(err, ERROR_UNAVAILABLE, "this program was built with sanitizers or for coverage");
}

#else

#include <errno.h>
#include <fcntl.h>
#include <linux/landlock.h>
#include <seccomp.h>
#include <stdint.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

/* ---- paths ---- */

/* Bits that newer kernels have and the headers of older ones do not (linux/landlock.h). */
#define ACCESS_TRUNCATE     (UINT64_C(1) << 14) /* ABI 3 */
#define ACCESS_IOCTL_DEVICE (UINT64_C(1) << 15) /* ABI 5 */

#define READ_FILE LANDLOCK_ACCESS_FS_READ_FILE
#define READ_TREE (READ_FILE | LANDLOCK_ACCESS_FS_READ_DIR)
#define WRITE_TREE                                                                                                     \
    (READ_TREE | LANDLOCK_ACCESS_FS_WRITE_FILE | LANDLOCK_ACCESS_FS_MAKE_REG | LANDLOCK_ACCESS_FS_MAKE_DIR |           \
     LANDLOCK_ACCESS_FS_REMOVE_FILE | LANDLOCK_ACCESS_FS_REMOVE_DIR | ACCESS_TRUNCATE)

/* Everything that a kernel with this ABI can forbid. */
static uint64_t handled_by(long abi)
{
    uint64_t handled = ((uint64_t)LANDLOCK_ACCESS_FS_MAKE_SYM << 1) - 1;
    if (abi >= 2) handled |= LANDLOCK_ACCESS_FS_REFER;
    if (abi >= 3) handled |= ACCESS_TRUNCATE;
    if (abi >= 5) handled |= ACCESS_IOCTL_DEVICE;
    return handled;
}

static bool allow_path(int ruleset, const char *path, uint64_t access, struct error *err)
{
    struct stat info;
    const int fd = open(path, O_PATH | O_CLOEXEC);
    if (fd < 0) return errno == ENOENT || errno == ENOTDIR || error_set_errno(err, errno, "%s", path);
    if (fstat(fd, &info) == 0 && !S_ISDIR(info.st_mode)) access &= READ_FILE;
    const struct landlock_path_beneath_attr rule = {.allowed_access = access, .parent_fd = fd};
    const bool added = syscall(SYS_landlock_add_rule, ruleset, LANDLOCK_RULE_PATH_BENEATH, &rule, 0) == 0;
    if (!added) error_set_errno(err, errno, "Landlock: %s", path);
    close(fd);
    return added;
}

static bool limit_paths(const struct sandbox *sandbox, struct error *err)
{
    const long abi = syscall(SYS_landlock_create_ruleset, NULL, 0, LANDLOCK_CREATE_RULESET_VERSION);
    const struct landlock_ruleset_attr attributes = {.handled_access_fs = handled_by(abi)};
    const int ruleset = abi < 1 ? -1 : (int)syscall(SYS_landlock_create_ruleset, &attributes, sizeof attributes, 0);
    if (ruleset < 0) return error_set_errno(err, errno, "Landlock");
    bool ok =
        !sandbox->writable || allow_path(ruleset, sandbox->writable, WRITE_TREE & attributes.handled_access_fs, err);
    for (size_t i = 0; ok && i < sandbox->readable_count; i++)
        ok = !sandbox->readable[i] || allow_path(ruleset, sandbox->readable[i], READ_TREE, err);
    if (ok && (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0 || syscall(SYS_landlock_restrict_self, ruleset, 0) != 0))
        ok = error_set_errno(err, errno, "Landlock");
    close(ruleset);
    return ok;
}

/* ---- system calls ---- */

/* Under the names of all architectures; one has some of them. */
static const int allowed[] = {
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

/* Calls that do harmless things and others. Memory never becomes code; a terminal is asked whether it is one, and typed
 * into by nobody; limits are read; the only process that gets a signal is this one. */
static int allow_some(scmp_filter_ctx filter)
{
    const struct {
        int call;
        struct scmp_arg_cmp comparison; /* which argument, how, with what; a mask comes before its value */
    } conditional[] = {
        {SCMP_SYS(mmap), {2, SCMP_CMP_MASKED_EQ, PROT_EXEC, 0}},
        {SCMP_SYS(mprotect), {2, SCMP_CMP_MASKED_EQ, PROT_EXEC, 0}},
        {SCMP_SYS(ioctl), {1, SCMP_CMP_EQ, TCGETS, 0}},
        {SCMP_SYS(fcntl), {1, SCMP_CMP_EQ, F_GETFD, 0}},
        {SCMP_SYS(fcntl), {1, SCMP_CMP_EQ, F_SETFD, 0}},
        {SCMP_SYS(fcntl), {1, SCMP_CMP_EQ, F_GETFL, 0}},
        {SCMP_SYS(prlimit64), {2, SCMP_CMP_EQ, 0, 0}},
        {SCMP_SYS(tgkill), {0, SCMP_CMP_EQ, (scmp_datum_t)getpid(), 0}},
    };
    int problem = 0;
    for (size_t i = 0; problem == 0 && i < sizeof conditional / sizeof *conditional; i++)
        problem = seccomp_rule_add_array(filter, SCMP_ACT_ALLOW, conditional[i].call, 1, &conditional[i].comparison);
    return problem;
}

/* What is not allowed looks as if the kernel did not have it (ENOSYS): a C library that tries something newer first
 * then falls back to what is. */
static bool limit_calls(struct error *err)
{
    scmp_filter_ctx filter = seccomp_init(SCMP_ACT_ERRNO(ENOSYS));
    if (!filter) return error_set(err, ERROR_UNAVAILABLE, "seccomp: the filter could not be made");
    int problem = 0;
    for (size_t i = 0; problem == 0 && i < sizeof allowed / sizeof *allowed; i++)
        problem = seccomp_rule_add_array(filter, SCMP_ACT_ALLOW, allowed[i], 0, NULL);
    if (problem == 0) problem = allow_some(filter);
    if (problem == 0) problem = seccomp_load(filter);
    if (problem == -ECANCELED) problem = -errno; /* the kernel refused; the library does not say why */
    seccomp_release(filter);
    return problem == 0 || error_set_errno(err, -problem, "seccomp");
}

/* Paths first: the system calls for it are none of those that stay. */
bool sandbox_enter(const struct sandbox *sandbox, struct error *err)
{
    closefrom(STDERR_FILENO + 1);
    const bool paths = limit_paths(sandbox, err);
    return limit_calls(err) && paths;
}

#endif
