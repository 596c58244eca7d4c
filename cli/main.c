/* lstmd <command> ...: finds the command in the table and runs it. */
#include <errno.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>

#include "base/hint.h"
#include "base/version.h"
#include "cli/arguments.h"
#include "cli/commands.h"
#include "model/kernels/blas.h"

static const struct command {
    const char *name, *summary;
    int (*run)(int argc, char **argv);
} commands[] = {
    {"serve", "serves a model over HTTP", cmd_serve},
    {"train", "trains a model on a text", cmd_train},
    {"generate", "continues a prompt", cmd_generate},
    {"next", "shows the distribution of the token after a prompt", cmd_next},
    {"eval", "measures how well a model predicts a text", cmd_eval},
    {"inspect", "prints a model's layers, shapes and parameter counts", cmd_inspect},
    {"import", "makes a model directory from a file of Keras or PyTorch", cmd_import},
    {"quantize", "writes a model directory with weights in fewer bits", cmd_quantize},
    {"export", "writes a model for PyTorch or Keras", cmd_export},
    {"config", "checks and prints the daemon's configuration", cmd_config},
    {"bench", "measures this machine, lstmd and other programs", cmd_bench},
    {"healthcheck", "asks a running daemon whether it is ready", cmd_healthcheck},
};

#define COMMAND_COUNT (sizeof commands / sizeof commands[0])

static void print_help(FILE *out)
{
    fputs("Usage: lstmd <command> [flags]\n\n"
          "Trains and serves small recurrent text generators.\n\n"
          "Commands:\n",
          out);
    for (size_t i = 0; i < COMMAND_COUNT; i++) fprintf(out, "  %-12s %s\n", commands[i].name, commands[i].summary);
    fputs("\nlstmd <command> --help describes a command; lstmd --version prints the version.\n", out);
}

static const struct command *find_command(const char *name)
{
    for (size_t i = 0; i < COMMAND_COUNT; i++)
        if (strcmp(commands[i].name, name) == 0) return &commands[i];
    return NULL;
}

static int refuse_command(const char *name)
{
    struct error err = {0};
    struct hint hint;
    hint_begin(&hint, name);
    for (size_t i = 0; i < COMMAND_COUNT; i++) hint_try(&hint, commands[i].name);
    if (hint.found)
        error_set(&err, ERROR_USAGE, "unknown command \"%.80s\", did you mean \"%s\"? lstmd --help lists all", name,
                  hint.found);
    else
        error_set(&err, ERROR_USAGE, "unknown command \"%.80s\"; lstmd --help lists all", name);
    return command_fail(&err);
}

static void print_version(void)
{
    const bool library = blas_load(NULL);
    puts(version_full);
    printf("kernels %s; products own%s%s\n", kernels_select("auto")->name, library ? " or " : ", no OpenBLAS here",
           library ? blas_name() : "");
}

static int main_run_command(int argc, char **argv)
{
    if (argc < 2) {
        print_help(stderr);
        return 2;
    }
    if (strcmp(argv[1], "help") == 0 && argc > 2) {
        const struct command *topic = find_command(argv[2]);
        return topic ? topic->run(2, (char *[]){argv[2], "--help", NULL}) : refuse_command(argv[2]);
    }
    if (strcmp(argv[1], "--help") == 0 || strcmp(argv[1], "-h") == 0 || strcmp(argv[1], "help") == 0) {
        print_help(stdout);
        return 0;
    }
    if (strcmp(argv[1], "--version") == 0) {
        print_version();
        return 0;
    }
    const struct command *command = find_command(argv[1]);
    return command ? command->run(argc - 1, argv + 1) : refuse_command(argv[1]);
}

int main(int argc, char **argv)
{
    /* A write to a closed pipe, or beyond the file size limit, then fails with an error and does not kill the
     * process. */
    signal(SIGPIPE, SIG_IGN);
    signal(SIGXFSZ, SIG_IGN);
    int exit_code = main_run_command(argc, argv);
    bool written = fflush(stdout) == 0 && !ferror(stdout);
    if (!written) {
        if (errno != EPIPE) fprintf(stderr, "lstmd: cannot write to standard output: %s\n", strerror(errno));
        if (exit_code == 0) exit_code = 1;
    }
    return exit_code;
}
