/* The commands of lstmd. Each is cli/cmd_<name>.c and has a row in the table of main.c.
 *
 * argv[0] is the name of the command. A command prints its result to stdout and everything else to stderr, and returns
 * the exit code: 0 done, 1 failed, 2 wrong usage. main() returns 1 if writing to stdout failed.
 */
#ifndef LSTMD_CLI_COMMANDS_H
#define LSTMD_CLI_COMMANDS_H

int cmd_bench(int argc, char **argv);
int cmd_config(int argc, char **argv);
int cmd_eval(int argc, char **argv);
int cmd_export(int argc, char **argv);
int cmd_generate(int argc, char **argv);
int cmd_healthcheck(int argc, char **argv);
int cmd_import(int argc, char **argv);
int cmd_inspect(int argc, char **argv);
int cmd_next(int argc, char **argv);
int cmd_quantize(int argc, char **argv);
int cmd_serve(int argc, char **argv);
int cmd_train(int argc, char **argv);

#endif
