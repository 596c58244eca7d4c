/* base/sandbox: a new process enters the sandbox for each attempt. */
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <sched.h>
#include <seccomp.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/file.h"
#include "base/sandbox.h"
#include "tests/unit/support.h"

enum { WORKED = 100, NO_SANDBOX = 101 };

static char *directory; /* holds "named", "other", "own/" and "beside/" */

/* A kernel or a container may refuse these. */
enum lacking { NOTHING, LANDLOCK, SECCOMP };

/* From here on this process's kernel lacks it. */
static bool refuse(enum lacking lacking)
{
    const struct scmp_arg_cmp seccomp_option = {0, SCMP_CMP_EQ, PR_SET_SECCOMP, 0};
    scmp_filter_ctx filter = seccomp_init(SCMP_ACT_ALLOW);
    int problem = 0;
    if (lacking == LANDLOCK)
        problem = seccomp_rule_add_array(filter, SCMP_ACT_ERRNO(ENOSYS), SCMP_SYS(landlock_create_ruleset), 0, NULL);
    if (lacking == SECCOMP) {
        problem = seccomp_rule_add_array(filter, SCMP_ACT_ERRNO(ENOSYS), SCMP_SYS(seccomp), 0, NULL);
        problem |= seccomp_rule_add_array(filter, SCMP_ACT_ERRNO(ENOSYS), SCMP_SYS(prctl), 1, &seccomp_option);
    }
    if (problem == 0) problem = seccomp_load(filter);
    seccomp_release(filter);
    return problem == 0;
}

static bool enter(struct error *err)
{
    const struct sandbox_path paths[] = {{in_dir(directory, "named"), SANDBOX_READ},
                                         {NULL, SANDBOX_READ},
                                         {in_dir(directory, "none"), SANDBOX_READ},
                                         {in_dir(directory, "own"), SANDBOX_WRITE}};
    return sandbox_enter(paths, 4, err);
}

/* Whether entering tells what is lacking. */
static bool enter_lacking(enum lacking lacking)
{
    static const char *const messages[] = {"", "Landlock: Function not implemented",
                                           "seccomp: Function not implemented"};
    struct error err = {0};
    return refuse(lacking) && !enter(&err) && strcmp(err.message, messages[lacking]) == 0;
}

static bool enter_whole(void)
{
    struct error err = {0};
    if (enter(&err)) return true;
    fprintf(stderr, "NOT TESTED: " SANDBOX_LACKING ": %s\n", err.message);
    return false;
}

/* Enters the sandbox in a child and returns what the attempt returned there: an errno value, or WORKED. Skips the test
 * where this system has no whole sandbox. */
static int attempt_where(enum lacking lacking, int (*function)(void))
{
    fflush(NULL);
    const pid_t child = fork();
    assert_true(child >= 0);
    if (child == 0) {
        const bool entered = lacking == NOTHING ? enter_whole() : enter_lacking(lacking);
        _exit(entered ? function() : NO_SANDBOX);
    }
    int status;
    assert_int_equal(waitpid(child, &status, 0), child);
    if (!WIFEXITED(status)) fail_msg("the child died of signal %d", WTERMSIG(status));
    if (WEXITSTATUS(status) != NO_SANDBOX) return WEXITSTATUS(status);
    if (lacking == NOTHING) skip();
    fail_msg("what is lacking was not told");
    return 0;
}

static int attempt(int (*function)(void))
{
    return attempt_where(NOTHING, function);
}

static int answer(bool worked)
{
    return worked ? WORKED : errno;
}

/* ---- programs, processes, the network ---- */

static int run_program(void)
{
    char *const arguments[] = {"true", NULL};
    execv("/bin/true", arguments);
    return answer(false);
}

static int fork_process(void)
{
    return answer(fork() >= 0);
}

static void *do_nothing(void *argument)
{
    return argument;
}

static int start_thread(void)
{
    pthread_t thread;
    const int problem = pthread_create(&thread, NULL, do_nothing, NULL);
    return problem == 0 ? WORKED : problem;
}

static int open_socket(void)
{
    return answer(socket(AF_INET, SOCK_STREAM, 0) >= 0);
}

static int open_local_socket(void)
{
    int ends[2];
    return answer(socketpair(AF_UNIX, SOCK_STREAM, 0, ends) == 0);
}

static int trace_parent(void)
{
    return answer(ptrace(PTRACE_ATTACH, getppid(), NULL, NULL) == 0);
}

static int signal_parent(void)
{
    return answer(kill(getppid(), 0) == 0);
}

static int limit_parent(void)
{
    const struct rlimit limit = {1, 1};
    return answer(prlimit(getppid(), RLIMIT_CORE, &limit, NULL) == 0);
}

static int make_code(void)
{
    return answer(mmap(NULL, 4096, PROT_READ | PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0) != MAP_FAILED);
}

static int turn_into_code(void)
{
    void *page = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    return page == MAP_FAILED ? 0 : answer(mprotect(page, 4096, PROT_READ | PROT_EXEC) == 0);
}

static int type_into_terminal(void)
{
    return answer(ioctl(STDIN_FILENO, TIOCSTI, "x") == 0);
}

static void test_system_calls_that_are_given_up(void **state)
{
    (void)state;
    static int (*const functions[])(void) = {run_program,       fork_process,   start_thread,      open_socket,
                                             open_local_socket, trace_parent,   signal_parent,     limit_parent,
                                             make_code,         turn_into_code, type_into_terminal};
    for (size_t i = 0; i < sizeof functions / sizeof *functions; i++) {
        const int got = attempt(functions[i]);
        if (got != ENOSYS) fail_msg("call %zu: %s", i, got == WORKED ? "it worked" : strerror(got));
    }
}

/* ---- paths ---- */

static int open_in(const char *name, int flags)
{
    return answer(open(in_dir(directory, name), flags, 0644) >= 0);
}

static int read_other(void)
{
    return open_in("other", O_RDONLY);
}

static int read_passwd(void)
{
    return answer(open("/etc/passwd", O_RDONLY) >= 0);
}

static int write_named(void)
{
    return open_in("named", O_WRONLY);
}

static int empty_other(void)
{
    return open_in("other", O_WRONLY | O_TRUNC);
}

static int make_beside(void)
{
    return open_in("beside/new", O_WRONLY | O_CREAT);
}

static int make_through_parent(void)
{
    return open_in("own/../new", O_WRONLY | O_CREAT);
}

static int remove_other(void)
{
    return answer(unlink(in_dir(directory, "other")) == 0);
}

static int make_directory_beside(void)
{
    return answer(mkdir(in_dir(directory, "beside/new"), 0777) == 0);
}

static int move_out(void)
{
    const int own = open(in_dir(directory, "own/new"), O_WRONLY | O_CREAT, 0644);
    if (own < 0) return 0;
    char *from = strdup(in_dir(directory, "own/new"));
    return answer(rename(from, in_dir(directory, "beside/new")) == 0);
}

static void test_paths_that_are_given_up(void **state)
{
    (void)state;
    static int (*const functions[])(void) = {read_other,   read_passwd,           write_named,
                                             empty_other,  make_beside,           make_through_parent,
                                             remove_other, make_directory_beside, move_out};
    for (size_t i = 0; i < sizeof functions / sizeof *functions; i++) {
        const int got = attempt(functions[i]);
        if (got != EACCES && got != EXDEV) fail_msg("path %zu: %s", i, got == WORKED ? "it worked" : strerror(got));
    }
    char *text = read_text(in_dir(directory, "other"));
    assert_string_equal(text, "other");
    free(text);
    assert_int_equal(count_entries(in_dir(directory, "beside")), 0);
}

static int link_to_other(void)
{
    char *other = strdup(in_dir(directory, "other"));
    return answer(symlink(other, in_dir(directory, "own/link")) == 0 ||
                  link(other, in_dir(directory, "own/link")) == 0);
}

static void test_no_links_are_made(void **state)
{
    (void)state;
    assert_int_equal(attempt(link_to_other), ENOSYS);
}

/* ---- what stays ---- */

static int publish_in_own(void)
{
    struct directory_publish publish;
    struct error err = {0};
    for (int i = 0; i < 2; i++) /* the second replaces */
        if (!directory_publish_begin(&publish, in_dir(directory, "own/made"), &err) ||
            !directory_publish_write(&publish, "file", "text", 4, &err) || !directory_publish_commit(&publish, &err)) {
            fprintf(stderr, "%s\n", err.message);
            return 0;
        }
    return WORKED;
}

static int read_named(void)
{
    struct file_map map;
    struct error err = {0};
    const bool read = file_map_open(&map, in_dir(directory, "named"), &err) && map.size == 5;
    return read ? WORKED : 0;
}

static int missing_is_missing(void)
{
    return answer(open(in_dir(directory, "none"), O_RDONLY) >= 0);
}

static int take_memory(void)
{
    for (size_t size = 1; size < (size_t)64 << 20; size *= 4) {
        char *memory = malloc(size), *larger = memory ? realloc(memory, 2 * size) : NULL;
        if (!larger) return 0;
        memset(larger, 1, 2 * size);
        free(larger);
    }
    return WORKED;
}

static int descriptor;

static int descriptor_is_closed(void)
{
    return answer(fcntl(descriptor, F_GETFD) >= 0);
}

static void test_what_is_named_stays(void **state)
{
    (void)state;
    assert_int_equal(attempt(read_named), WORKED);
    assert_int_equal(attempt(publish_in_own), WORKED);
    assert_int_equal(attempt(missing_is_missing), ENOENT);
    assert_int_equal(attempt(take_memory), WORKED);
}

static void test_descriptors_are_closed(void **state)
{
    (void)state;
    descriptor = open("/etc/passwd", O_RDONLY | O_CLOEXEC);
    assert_true(descriptor > STDERR_FILENO);
    const int got = attempt(descriptor_is_closed);
    close(descriptor);
    assert_int_equal(got, EBADF);
}

/* ---- a daemon ---- */

static int run_true(void)
{
    const pid_t child = fork();
    if (child == 0) {
        execl("/bin/true", "true", NULL);
        _exit(1);
    }
    int status = 1;
    return answer(child > 0 && waitpid(child, &status, 0) == child && status == 0);
}

static int open_datagram_socket(void)
{
    return answer(socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0) >= 0);
}

static int connect_nowhere(void)
{
    return answer(connect(STDIN_FILENO, NULL, 0) == 0);
}

static int become_root(void)
{
    return answer(setuid(0) == 0);
}

static int leave_namespace(void)
{
    return answer(unshare(CLONE_NEWUSER) == 0);
}

static int make_namespace(void)
{
    return answer(syscall(SYS_clone, CLONE_NEWUSER | SIGCHLD, NULL, NULL, NULL, NULL) >= 0);
}

static int make_writable_code(void)
{
    return answer(mmap(NULL, 4096, PROT_READ | PROT_WRITE | PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0) !=
                  MAP_FAILED);
}

static int make_nameless_program(void)
{
    return answer(memfd_create("program", 0) >= 0);
}

/* A thread that was there before the filter waits for it, and tries then. */
static pthread_barrier_t limited;

static void *open_socket_in_thread(void *result)
{
    pthread_barrier_wait(&limited);
    *(int *)result = open_socket();
    return NULL;
}

/* Limits a child as a daemon and returns what the attempt returned there, in another thread of the daemon where
 * `in_thread`. */
static int attempt_as_daemon(int (*function)(void), bool in_thread)
{
    fflush(NULL);
    const pid_t child = fork();
    assert_true(child >= 0);
    if (child == 0) {
        struct error err = {0};
        pthread_t thread;
        int result = 0;
        pthread_barrier_init(&limited, NULL, 2);
        if (in_thread && pthread_create(&thread, NULL, open_socket_in_thread, &result) != 0) _exit(0);
        if (!sandbox_limit_daemon(&err)) {
            fprintf(stderr, "NOT TESTED: %s\n", err.message);
            _exit(NO_SANDBOX);
        }
        if (!in_thread) _exit(function());
        pthread_barrier_wait(&limited);
        pthread_join(thread, NULL);
        _exit(result);
    }
    int status;
    assert_int_equal(waitpid(child, &status, 0), child);
    if (!WIFEXITED(status)) fail_msg("the child died of signal %d", WTERMSIG(status));
    if (WEXITSTATUS(status) == NO_SANDBOX) skip();
    return WEXITSTATUS(status);
}

static void test_system_calls_that_a_daemon_gives_up(void **state)
{
    (void)state;
    static int (*const functions[])(void) = {
        open_socket,        open_local_socket, connect_nowhere, become_root,        trace_parent,
        limit_parent,       leave_namespace,   make_namespace,  make_writable_code, make_nameless_program,
        type_into_terminal, make_code,         turn_into_code,
    };
    for (size_t i = 0; i < sizeof functions / sizeof *functions; i++) {
        const int got = attempt_as_daemon(functions[i], false);
        if (got != ENOSYS) fail_msg("call %zu: %s", i, got == WORKED ? "it worked" : strerror(got));
    }
    assert_int_equal(attempt_as_daemon(NULL, true), ENOSYS);
}

static void test_what_a_daemon_keeps(void **state)
{
    (void)state;
    static int (*const functions[])(void) = {run_true,       start_thread, open_datagram_socket,
                                             publish_in_own, take_memory,  read_named};
    for (size_t i = 0; i < sizeof functions / sizeof *functions; i++) {
        const int got = attempt_as_daemon(functions[i], false);
        if (got != WORKED) fail_msg("call %zu: %s", i, strerror(got));
    }
}

/* Nothing that is asked of the system or the C library is granted afterwards. */
static void take_all_memory(void)
{
    static void *volatile last;
    setrlimit(RLIMIT_AS, &(struct rlimit){0, 0});
    for (size_t size = 1 << 20; size >= 16; size /= 2) {
        do last = malloc(size);
        while (last);
    }
}

static void test_a_daemon_without_memory_is_limited(void **state)
{
    (void)state;
    (void)attempt_as_daemon(open_socket, false); /* skips the test if there is no sandbox */
    fflush(NULL);
    const pid_t child = fork();
    assert_true(child >= 0);
    if (child == 0) {
        struct error err = {0};
        take_all_memory();
        _exit(sandbox_limit_daemon(&err) ? open_socket() : NO_SANDBOX);
    }
    int status;
    assert_int_equal(waitpid(child, &status, 0), child);
    if (!WIFEXITED(status)) fail_msg("the child died of signal %d", WTERMSIG(status));
    assert_int_equal(WEXITSTATUS(status), ENOSYS);
}

static int run_from(enum sandbox_access access)
{
    const struct sandbox_path paths[] = {{"/bin/true", access},   {"/lib", SANDBOX_RUN},
                                         {"/lib64", SANDBOX_RUN}, {"/usr/lib", SANDBOX_RUN},
                                         {"/etc", SANDBOX_READ},  {in_dir(directory, "own"), SANDBOX_REMOVE}};
    struct error err = {0};
    if (!sandbox_limit_paths(paths, sizeof paths / sizeof *paths, &err)) return NO_SANDBOX;
    return run_true();
}

static int run_named_program(void)
{
    return run_from(SANDBOX_RUN);
}

static int run_readable_program(void)
{
    return run_from(SANDBOX_READ);
}

static int remove_alone(void)
{
    const int fd = open(in_dir(directory, "own/removed"), O_WRONLY | O_CREAT, 0644);
    const int ran = run_from(SANDBOX_RUN);
    if (fd < 0 || ran != WORKED) return ran;
    if (unlink(in_dir(directory, "own/removed")) != 0) return errno;
    return open(in_dir(directory, "own/removed"), O_WRONLY | O_CREAT, 0644) < 0 ? WORKED : 0;
}

/* In a child of its own, without the sandbox of a reader. */
static int attempt_alone(int (*function)(void))
{
    fflush(NULL);
    const pid_t child = fork();
    assert_true(child >= 0);
    if (child == 0) _exit(function());
    int status;
    assert_int_equal(waitpid(child, &status, 0), child);
    if (WEXITSTATUS(status) == NO_SANDBOX) skip();
    return WEXITSTATUS(status);
}

static void test_programs_and_removal_are_granted_by_path(void **state)
{
    (void)state;
    assert_int_equal(attempt_alone(run_named_program), WORKED);
    assert_int_not_equal(attempt_alone(run_readable_program), WORKED);
    assert_int_equal(attempt_alone(remove_alone), WORKED);
}

/* ---- kernels that grant only one of the two ---- */

static void test_without_landlock_system_calls_are_given_up(void **state)
{
    (void)state;
    (void)attempt(read_named); /* skips the test if there is no sandbox */
    assert_int_equal(attempt_where(LANDLOCK, fork_process), ENOSYS);
    assert_int_equal(attempt_where(LANDLOCK, open_socket), ENOSYS);
    assert_int_equal(attempt_where(LANDLOCK, read_other), WORKED);
}

static void test_without_seccomp_paths_are_given_up(void **state)
{
    (void)state;
    (void)attempt(read_named);
    assert_int_equal(attempt_where(SECCOMP, read_other), EACCES);
    assert_int_equal(attempt_where(SECCOMP, make_beside), EACCES);
    assert_int_equal(attempt_where(SECCOMP, read_named), WORKED);
    assert_int_equal(attempt_where(SECCOMP, open_socket), WORKED);
}

static int set_up(void **state)
{
    (void)state;
    directory = temp_dir_new();
    write_text(in_dir(directory, "named"), "named");
    write_text(in_dir(directory, "other"), "other");
    return mkdir(in_dir(directory, "own"), 0777) | mkdir(in_dir(directory, "beside"), 0777);
}

static int tear_down(void **state)
{
    (void)state;
    temp_dir_remove(directory);
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_system_calls_that_are_given_up, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_paths_that_are_given_up, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_no_links_are_made, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_what_is_named_stays, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_descriptors_are_closed, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_system_calls_that_a_daemon_gives_up, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_what_a_daemon_keeps, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_a_daemon_without_memory_is_limited, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_programs_and_removal_are_granted_by_path, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_without_landlock_system_calls_are_given_up, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_without_seccomp_paths_are_given_up, set_up, tear_down),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
