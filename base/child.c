#include "base/child.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <spawn.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/clock.h"

#define MAX_ARGUMENTS 32
#define LOOK_MS       100 /* how often the parent checks for cancelling and the time limit */

/* Sets the child's descriptors and directory: /dev/null to read and to write, the pipe as stderr, nothing else. */
static int set_actions(posix_spawn_file_actions_t *actions, const char *directory, int output)
{
    int problem = posix_spawn_file_actions_addopen(actions, STDIN_FILENO, "/dev/null", O_RDONLY, 0);
    if (problem == 0) problem = posix_spawn_file_actions_addopen(actions, STDOUT_FILENO, "/dev/null", O_WRONLY, 0);
    if (problem == 0) problem = posix_spawn_file_actions_adddup2(actions, output, STDERR_FILENO);
    if (problem == 0) problem = posix_spawn_file_actions_addclosefrom_np(actions, STDERR_FILENO + 1);
    if (problem == 0) problem = posix_spawn_file_actions_addchdir_np(actions, directory);
    return problem;
}

/* Gives the child default signals and a process group of its own, so a Ctrl-C at the daemon's terminal reaches only the
 * daemon. */
static int set_attributes(posix_spawnattr_t *attributes)
{
    sigset_t none, all;
    sigemptyset(&none);
    sigfillset(&all);
    int problem =
        posix_spawnattr_setflags(attributes, POSIX_SPAWN_SETSIGMASK | POSIX_SPAWN_SETSIGDEF | POSIX_SPAWN_SETPGROUP);
    if (problem == 0) problem = posix_spawnattr_setsigmask(attributes, &none);
    return problem == 0 ? posix_spawnattr_setsigdefault(attributes, &all) : problem;
}

static int child_start_process(pid_t *child, const struct child_options *options, int output)
{
    const char *arguments[MAX_ARGUMENTS + 2] = {"lstmd"};
    for (size_t i = 0; i < MAX_ARGUMENTS && options->arguments[i]; i++) arguments[i + 1] = options->arguments[i];
    posix_spawn_file_actions_t actions;
    posix_spawnattr_t attributes;
    int problem = posix_spawn_file_actions_init(&actions);
    if (problem != 0) return problem;
    problem = posix_spawnattr_init(&attributes);
    if (problem == 0) {
        problem = set_actions(&actions, options->directory, output);
        if (problem == 0) problem = set_attributes(&attributes);
        if (problem == 0)
            problem = posix_spawn(child, "/proc/self/exe", &actions, &attributes, (char *const *)arguments, environ);
        posix_spawnattr_destroy(&attributes);
    }
    posix_spawn_file_actions_destroy(&actions);
    return problem;
}

/* Appends to the text, and drops its beginning if there is no more room. */
static void keep_end(char *text, size_t room, const char *more, size_t n)
{
    size_t used = strlen(text);
    if (n > room - 1) {
        more += n - (room - 1);
        n = room - 1;
    }
    size_t kept = used + n > room - 1 ? room - 1 - n : used;
    memmove(text, text + used - kept, kept);
    memcpy(text + kept, more, n);
    text[kept + n] = '\0';
}

/* Reads the child's stderr until the child ends. Kills the child if it takes too long or is cancelled. */
static void listen_to(const struct child_options *options, pid_t child, int input, struct child_result *result)
{
    uint64_t end = clock_monotonic_ns() + (uint64_t)(options->seconds * 1e9);
    struct pollfd polled = {.fd = input, .events = POLLIN};
    for (ssize_t n = 1; n != 0;) {
        if (clock_monotonic_ns() > end || atomic_load(options->cancelled)) kill(child, SIGKILL);
        if (poll(&polled, 1, LOOK_MS) <= 0) continue;
        char piece[1024];
        n = read(input, piece, sizeof piece - 1);
        if (n > 0) {
            for (ssize_t i = 0; i < n; i++)
                if (piece[i] == '\0') piece[i] = ' ';
            keep_end(result->message, sizeof result->message, piece, (size_t)n);
        }
    }
}

bool child_run(const struct child_options *options, struct child_result *result, struct error *err)
{
    int ends[2], status = 0;
    pid_t child;
    *result = (struct child_result){.exit_code = -1};
    if (pipe2(ends, O_CLOEXEC) != 0) return error_set_errno(err, errno, "could not make a pipe");
    int problem = child_start_process(&child, options, ends[1]);
    close(ends[1]);
    if (problem == 0) {
        listen_to(options, child, ends[0], result);
        while (waitpid(child, &status, 0) < 0 && errno == EINTR) continue;
        if (WIFEXITED(status)) result->exit_code = WEXITSTATUS(status);
    }
    close(ends[0]);
    if (problem != 0) return error_set_errno(err, problem, "could not start the program once more");
    if (!atomic_load(options->cancelled)) return true;
    return error_set(err, ERROR_UNAVAILABLE, "the daemon is shutting down");
}
