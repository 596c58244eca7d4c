/* Command-line flags of one command, from a table of options over a struct of the command.
 *
 * The key `max_minutes` is the flag `--max-minutes VALUE` or `--max-minutes=VALUE`. A bool takes no value: `--json`,
 * `--no-json` (or `--json=false`). Only an OPTION_LIST may be given twice. `--` ends the flags. Every command has
 * `--help` and `-h`.
 *
 *     struct flags { const char *model; bool json; } flags;
 *     static const struct option rows[] = {...};
 *     static const struct command_line line = {.usage = "lstmd inspect DIR [--json]", .table = {rows, 2, NULL}, ...};
 *     int exit_code;
 *     if (!arguments_parse(&line, argc, argv, &flags, &arena, &exit_code)) { arena_free(&arena); return exit_code; }
 */
#ifndef LSTMD_CLI_ARGUMENTS_H
#define LSTMD_CLI_ARGUMENTS_H

#include <stdbool.h>

#include "base/arena.h"
#include "base/error.h"
#include "config/option.h"

struct command_line {
    const char *usage;       /* "lstmd inspect DIR [--json]" */
    const char *description; /* sentences for --help, or NULL */
    struct option_table table;
    const char *const *operands; /* keys for arguments without a flag, in this order; NULL-terminated; or NULL */
    const char *const *required; /* TEXT and LIST keys that must be given; NULL-terminated; or NULL */
    const char *file_key; /* the TEXT key that names a YAML file of the same keys, read before the flags; or NULL */
    const struct option_table *reference; /* a table that --help prints after the flags, or NULL */
};

/* The arguments of a command, as main() has them. */
struct arguments {
    const struct command_line *line;
    int argc;
    char **argv; /* [argc]; argv[0] is the command's name */
};

/* Fills the target: defaults, then the file of file_key, then flags. After --help it prints the help to stdout and sets
 * *help instead. Errors: ERROR_USAGE for wrong flags; the file's errors as they are.
 * Ownership: texts live in the arena. */
bool arguments_read(const struct arguments *arguments, void *target, struct arena *arena, bool *help,
                    struct error *err);

/* As arguments_read(). False if the command has nothing more to do: it has printed the help or the error, and the
 * caller returns *exit_code. */
bool arguments_parse(const struct command_line *line, int argc, char **argv, void *target, struct arena *arena,
                     int *exit_code);

/* Prints "lstmd: <message>" to stderr and returns the exit code for the error: 2 for ERROR_USAGE, otherwise 1. */
int command_fail(const struct error *err);

/* Says on standard error that a model directory is replaced, if `replaces` is true. Always returns true. */
bool command_note_replaced(const char *path, bool replaces);

/* Makes the parent directory of `path` if only that one is missing: models/titles needs models. It reports no error;
 * the later write to `path` does. */
void command_make_parent(const char *path);

#endif
