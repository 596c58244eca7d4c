/* lstmd config: checks the daemon's configuration and prints what is in effect, as YAML. */
#include <stddef.h>
#include <stdio.h>
#include <unistd.h>

#include "cli/arguments.h"
#include "cli/commands.h"
#include "config/config.h"

struct flags {
    const char *config;
    struct option_list set;
};

static const struct option rows[] = {
    {"config", OPTION_TEXT, offsetof(struct flags, config), NULL, 1, 4095, NULL, NULL,
     "YAML file; without it, the one that LSTMD_CONFIG names."},
    {"set", OPTION_LIST, offsetof(struct flags, set), NULL, 0, 0, NULL, NULL,
     "key=value, wins over the file and the environment; may be repeated."},
};

static const struct command_line line = {
    .usage = "lstmd config [--config FILE] [--set KEY=VALUE]...",
    .description = "Checks the configuration of lstmd serve and prints what is in effect, as YAML.\n"
                   "Later ones win: defaults, the file, the environment (server.port is LSTMD_SERVER_PORT), --set.",
    .table = {rows, sizeof rows / sizeof rows[0], NULL},
    .reference = &config_table,
};

int cmd_config(int argc, char **argv)
{
    struct arena arena = {0};
    struct flags flags;
    int exit_code;
    if (arguments_parse(&line, argc, argv, &flags, &arena, &exit_code)) {
        struct config config;
        struct error err = {0};
        if (config_load(&config, flags.config, environ, flags.set.items, flags.set.count, &err))
            options_print_yaml(&config_table, &config, stdout);
        else
            exit_code = command_fail(&err);
        config_close(&config);
    }
    arena_free(&arena);
    return exit_code;
}
