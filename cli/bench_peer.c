#include "cli/bench_peer.h"

#include <errno.h>
#include <fcntl.h>
#include <spawn.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

/* Starts the command with its input and output on pipes. */
static bool peer_start_command(struct bench_peer *peer, const char *command, struct error *err)
{
    int in[2], out[2];
    if (pipe2(in, O_CLOEXEC) != 0) return error_set_errno(err, errno, "peer %s: pipe", peer->name);
    if (pipe2(out, O_CLOEXEC) != 0) {
        error_set_errno(err, errno, "peer %s: pipe", peer->name);
        close(in[0]);
        close(in[1]);
        return false;
    }
    char *const argv[] = {(char[]){"sh"}, (char[]){"-c"}, strdup(command), NULL};
    posix_spawn_file_actions_t actions;
    posix_spawn_file_actions_init(&actions);
    posix_spawn_file_actions_adddup2(&actions, in[0], STDIN_FILENO);
    posix_spawn_file_actions_adddup2(&actions, out[1], STDOUT_FILENO);
    const int failure = posix_spawn(&peer->pid, "/bin/sh", &actions, NULL, argv, environ);
    posix_spawn_file_actions_destroy(&actions);
    free(argv[2]);
    close(in[0]);
    close(out[1]);
    peer->requests = fdopen(in[1], "w");
    peer->answers = fdopen(out[0], "r");
    if (failure != 0) {
        peer->pid = 0;
        return error_set_errno(err, failure, "peer %s: cannot start /bin/sh", peer->name);
    }
    return peer->requests && peer->answers ? true : error_set_no_memory(err, BUFSIZ, "a peer's pipes");
}

/* Reads a line; drops what does not fit into `out`. */
static bool read_line(struct bench_peer *peer, char *out, size_t size, struct error *err)
{
    if (!fgets(out, (int)size, peer->answers))
        return error_set(err, ERROR_UNAVAILABLE, "peer %s ended without an answer", peer->name);
    const size_t length = strcspn(out, "\n");
    for (int c = (unsigned char)out[length]; c != '\n' && c != EOF;) c = fgetc(peer->answers);
    out[length] = '\0';
    return true;
}

void bench_peer_name(struct bench_peer *peer, const char *name, const char *description)
{
    *peer = (struct bench_peer){0};
    snprintf(peer->name, sizeof peer->name, "%s", name);
    snprintf(peer->description, sizeof peer->description, "%s", description);
}

bool bench_peer_open(struct bench_peer *peer, const char *assignment, struct error *err)
{
    *peer = (struct bench_peer){0};
    const char *equals = strchr(assignment, '=');
    const size_t length = equals ? (size_t)(equals - assignment) : 0;
    if (length == 0 || length >= sizeof peer->name || equals[1] == '\0')
        return error_set(err, ERROR_USAGE, "--peer %.60s: NAME=COMMAND is expected, a name of at most %zu bytes",
                         assignment, sizeof peer->name - 1);
    memcpy(peer->name, assignment, length);
    return peer_start_command(peer, equals + 1, err) &&
           read_line(peer, peer->description, sizeof peer->description, err);
}

void bench_peer_close(struct bench_peer *peer)
{
    if (peer->requests) fclose(peer->requests);
    if (peer->answers) fclose(peer->answers);
    if (peer->pid > 0) {
        int status;
        while (waitpid(peer->pid, &status, 0) < 0 && errno == EINTR) continue;
    }
    *peer = (struct bench_peer){0};
}

static bool peer_ask(struct bench_peer *peer, double *rate, struct error *err, const char *format, ...)
    __attribute__((format(printf, 4, 5)));

static bool peer_ask(struct bench_peer *peer, double *rate, struct error *err, const char *format, ...)
{
    char answer[200], *end;
    va_list arguments;
    *rate = 0;
    if (!peer->requests) return true;
    va_start(arguments, format);
    vfprintf(peer->requests, format, arguments);
    va_end(arguments);
    fflush(peer->requests);
    if (!read_line(peer, answer, sizeof answer, err)) return false;
    if (strncmp(answer, "skip", 4) == 0) return true;
    *rate = strtod(answer, &end);
    if (end == answer || *end != '\0' || !(*rate > 0))
        return error_set(err, ERROR_INVALID, "peer %s answered \"%.80s\" instead of a rate", peer->name, answer);
    return true;
}

bool bench_peer_train(struct bench_peer *peer, const struct bench_shape *shape, size_t threads, double seconds,
                      double *rate, struct error *err)
{
    return peer_ask(peer, rate, err, "train %u %u %u %zu %zu %zu %.3f\n", shape->layers, shape->hidden,
                    shape->vocabulary, shape->batch, shape->window, threads, seconds);
}

bool bench_peer_step(struct bench_peer *peer, const struct bench_step_shape *shape, double seconds, double *rate,
                     struct error *err)
{
    return peer_ask(peer, rate, err, "step %u %u %u %zu %zu %.3f\n", shape->layers, shape->hidden, shape->vocabulary,
                    shape->batch, shape->threads, seconds);
}

bool bench_peer_product(struct bench_peer *peer, size_t size, size_t threads, double seconds, double *rate,
                        struct error *err)
{
    return peer_ask(peer, rate, err, "product %zu %zu %.3f\n", size, threads, seconds);
}
