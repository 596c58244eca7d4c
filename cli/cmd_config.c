/* lstmd config: checks the daemon's configuration and prints what is in effect and where it comes from, as YAML. */
#include <stddef.h>
#include <stdio.h>
#include <unistd.h>

#include "cli/arguments.h"
#include "cli/commands.h"
#include "config/config.h"
#include "server/settings.h"

struct flags {
    const char *config;
    struct option_list set;
};

static const struct option rows[] = {
    {"config", OPTION_TEXT, offsetof(struct flags, config), NULL, 1, 4095, NULL, NULL,
     "YAML file; default: the file that LSTMD_CONFIG names."},
    {"set", OPTION_LIST, offsetof(struct flags, set), NULL, 0, 0, NULL, NULL,
     "key=value, wins over the file and the environment; may be repeated."},
};

static const struct command_line line = {
    .usage = "lstmd config [--config FILE] [--set KEY=VALUE]...",
    .description =
        "Prints the configuration that lstmd serve would use, as YAML, with the origin of each value: the default,\n"
        "a line of the file, a variable of the environment, or --set. Warns of variables that override the file.\n"
        "Then checks the configuration as lstmd serve does, with the files, the user and the model that it names,\n"
        "but starts nothing. Each problem is a line on standard error, and the exit code is 1.\n"
        "Later sources win: defaults, the file, the environment (server.port is LSTMD_SERVER_PORT), --set.",
    .table = {rows, sizeof rows / sizeof rows[0], NULL, NULL},
    .reference = &config_table,
};

/* Warns on standard error, because standard output is a configuration file. */
static void config_warn_overridden(const char *key, const char *variable, const char *overridden)
{
    fprintf(stderr, "lstmd: warning: %s overrides %s of %s\n", variable, key, overridden);
}

static void config_print_all(const struct config *config)
{
    const struct option_table table = config_origins(config);
    options_print_yaml(&table, config, stdout);
    config_each_override(config, config_warn_overridden);
}

static void config_tell_problem(const struct error *err)
{
    command_fail(err);
}

static int config_show(const struct config *config)
{
    config_print_all(config);
    fflush(stdout);
    return settings_check(config, config_tell_problem) ? 0 : 1;
}

int cmd_config(int argc, char **argv)
{
    struct arena arena = {0};
    struct flags flags;
    int exit_code;
    if (arguments_parse(&line, argc, argv, &flags, &arena, &exit_code)) {
        struct config config;
        struct error err = {0};
        if (config_load(&config, flags.config, environ, flags.set.items, flags.set.count, &err))
            exit_code = config_show(&config);
        else
            exit_code = command_fail(&err);
        config_close(&config);
    }
    arena_free(&arena);
    return exit_code;
}
