/* lstmd serve: the daemon. The file follows the life of the daemon: configuration, signals, serving, draining, the
 * end. */
#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/log.h"
#include "base/memory.h"
#include "base/notify.h"
#include "cli/arguments.h"
#include "cli/commands.h"
#include "config/config.h"
#include "server/daemon.h"

struct flags {
    const char *config, *model;
    struct option_list set;
};

static const struct option rows[] = {
    {"config", OPTION_TEXT, offsetof(struct flags, config), NULL, 1, 4095, NULL, NULL,
     "YAML file; default: the file that LSTMD_CONFIG names."},
    {"model", OPTION_TEXT, offsetof(struct flags, model), NULL, 1, 4095, NULL, NULL,
     "Model directory, the same as --set model.path=DIR."},
    {"set", OPTION_LIST, offsetof(struct flags, set), NULL, 0, 0, NULL, NULL,
     "key=value, wins over the file and the environment; may be repeated."},
};

static const struct command_line line = {
    .usage = "lstmd serve [--config FILE] [--model DIR] [--set KEY=VALUE]...",
    .description =
        "Serves a model over HTTP. On SIGTERM or Ctrl-C the daemon finishes running requests; a second signal ends it\n"
        "at once. On SIGHUP it reads the configuration, the token files and changed models again.",
    .table = {rows, sizeof rows / sizeof rows[0], NULL, NULL},
    .reference = &config_table,
};

/* Handlers only add to these. Rejected: signalfd, which needs SIGTERM blocked in every thread, also in those that a
 * library starts before main(). */
static volatile sig_atomic_t stops = -1, reloads = -1; /* eventfds; open until the process ends */

static void count_signal(int number)
{
    const int saved = errno;
    eventfd_write(number == SIGHUP ? reloads : stops, 1);
    errno = saved;
}

static bool open_signals(struct error *err)
{
    stops = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK | EFD_SEMAPHORE);
    reloads = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (stops < 0 || reloads < 0) return error_set_errno(err, errno, "cannot wait for signals");
    const struct sigaction action = {.sa_handler = count_signal, .sa_flags = SA_RESTART};
    sigaction(SIGTERM, &action, NULL);
    sigaction(SIGINT, &action, NULL);
    sigaction(SIGHUP, &action, NULL);
    return true;
}

/* Whether an eventfd has counted a signal since the last call. */
static bool serve_take_signal(int fd)
{
    eventfd_t count;
    return eventfd_read(fd, &count) == 0;
}

/* Waits for one of the signals that end the daemon, or until `deadline_ns` (0: none), or until `other_fd` is readable.
 * True: such a signal came. False also if another handler ran. */
static bool wait_for_stop(int other_fd, uint64_t deadline_ns)
{
    int timeout = -1;
    if (deadline_ns) {
        const uint64_t now = clock_monotonic_ns();
        timeout = now < deadline_ns ? (int)((deadline_ns - now) / 1000000) + 1 : 0;
    }
    struct pollfd wait[2] = {{.fd = stops, .events = POLLIN}, {.fd = other_fd, .events = POLLIN}};
    return poll(wait, 2, timeout) > 0 && wait[0].revents && serve_take_signal(stops);
}

/* Lets running requests finish. False if a second signal ended the wait. */
static bool serve_drain(struct daemon *daemon)
{
    const double seconds = daemon->services.config->drain_seconds;
    const uint64_t deadline = clock_monotonic_ns() + (uint64_t)(seconds * 1e9);
    daemon_drain(daemon);
    notify_service_manager("STOPPING=1");
    log_event(LOG_INFO, "draining", LOG_INTEGER("requests", http_server_open_requests(daemon->services.http)),
              LOG_REAL("seconds", seconds));
    while (http_server_open_requests(daemon->services.http) > 0 && clock_monotonic_ns() < deadline) {
        if (wait_for_stop(http_server_idle_fd(daemon->services.http), deadline)) return false;
        serve_take_signal(http_server_idle_fd(daemon->services.http));
    }
    return true;
}

static void serve_warn_overridden(const char *key, const char *variable, const char *overridden)
{
    log_event(LOG_WARNING, "the environment overrides the file", LOG_TEXT("key", key), LOG_TEXT("variable", variable),
              LOG_TEXT("line", overridden));
}

/* --model is short for --set model.path. */
static bool set_model(struct config *config, const char *model, struct error *err)
{
    const struct option_table table = config_origins(config);
    const struct option *option = options_find(&table, "model.path");
    const char *before = table.origins[option - table.options].place;
    if (before && strcmp(before, "--set") == 0)
        return error_set(err, ERROR_USAGE, "--model: given twice, as --set model.path is the same");
    config->model_path = model;
    return option_note_origin(&table, option, "--model", false, &config->arena, err);
}

static bool read_config(struct config *config, const struct flags *flags, struct error *err)
{
    if (!config_load(config, flags->config, environ, flags->set.items, flags->set.count, err)) return false;
    return !flags->model || set_model(config, flags->model, err);
}

static void serve_reload(struct daemon *daemon, const struct flags *flags)
{
    struct config config;
    struct error err = {0};
    if (read_config(&config, flags, &err)) {
        config_each_override(&config, serve_warn_overridden);
        daemon_reload(daemon, &config);
    } else {
        daemon_refuse_reload(daemon, &err);
    }
    config_close(&config);
}

static int serve_run(const struct config *config, const struct flags *flags, struct error *err)
{
    int exit_code = 1;
    struct daemon daemon = {0};
    if (open_signals(err) && daemon_open(&daemon, config, err)) {
        if (!notify_service_manager("READY=1"))
            log_event(LOG_WARNING, "not_notified", LOG_TEXT("NOTIFY_SOCKET", getenv("NOTIFY_SOCKET")));
        while (!wait_for_stop(reloads, 0))
            if (serve_take_signal(reloads)) serve_reload(&daemon, flags);
        exit_code = serve_drain(&daemon) ? 0 : 1;
    }
    daemon_close(&daemon);
    return exit_code;
}

int cmd_serve(int argc, char **argv)
{
    struct arena arena = {0};
    struct flags flags;
    struct config config = {0};
    struct error err = {0};
    int exit_code;
    memory_return_large_blocks();
    if (arguments_parse(&line, argc, argv, &flags, &arena, &exit_code)) {
        if (read_config(&config, &flags, &err)) {
            log_configure((enum log_level)config.log_level, (enum log_format)config.log_format);
            config_each_override(&config, serve_warn_overridden);
            exit_code = serve_run(&config, &flags, &err);
            if (!err.code) log_event(LOG_INFO, "stopped", LOG_INTEGER("code", exit_code));
        }
        if (err.code) exit_code = command_fail(&err);
    }
    config_close(&config);
    arena_free(&arena);
    return exit_code;
}
