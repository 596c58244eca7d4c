/* lstmd quantize: a model directory whose weights take fewer bits. */
#include <stdbool.h>
#include <stddef.h>
#include <stdio.h>
#include <unistd.h>

#include "cli/arguments.h"
#include "cli/commands.h"
#include "model/files/checkpoint.h"
#include "model/network/quantize.h"

struct flags {
    const char *model, *out;
    int to;
};

static const char *const formats[] = {"int8", "bf16", NULL};
static const enum kernel_format format_of[] = {KERNEL_INT8, KERNEL_BF16};

static const struct option rows[] = {
    {"model", OPTION_TEXT, offsetof(struct flags, model), NULL, 1, 4095, NULL, NULL, "The model directory to read."},
    {"to", OPTION_CHOICE, offsetof(struct flags, to), "int8", 0, 0, formats, NULL,
     "int8: 8 bits and a scale per row; bf16: 16 bits."},
    {"out", OPTION_TEXT, offsetof(struct flags, out), NULL, 1, 4095, NULL, NULL,
     "The model directory to write; lstmd replaces an existing model."},
};

static const struct command_line line = {
    .usage = "lstmd quantize DIR [--to int8|bf16] --out DIR2",
    .description =
        "Writes a model directory with fewer bits for the weights that generation multiplies. Biases and rows that\n"
        "generation looks up per token do not change. The other commands take DIR2 like any model. It is faster if\n"
        "DIR does not fit into the cache. `lstmd eval` on both shows the loss. lstmd writes DIR2 under another name\n"
        "and then renames it. Training cannot restore the rounded bits, so keep DIR.",
    .table = {rows, sizeof rows / sizeof rows[0], NULL, NULL},
    .operands = (const char *const[]){"model", NULL},
    .required = (const char *const[]){"model", "out", NULL},
};

static bool quantize_run(const struct flags *flags, struct error *err)
{
    struct model model;
    const enum kernel_format format = format_of[flags->to];
    if (!model_load(&model, flags->model, err)) return false;
    bool ok = true;
    if (model.weights != KERNEL_F32)
        ok = error_set(err, ERROR_INVALID, "%s: its weights are %s already; quantize the model that it came from",
                       flags->model, kernel_format_name(model.weights));
    const struct checkpoint_parts parts = {.network = &model.network,
                                           .vocabulary = model.vocabulary,
                                           .format = format,
                                           .training = json_object_get(model.config, "training"),
                                           .extra = model.config};
    command_make_parent(flags->out);
    const bool replaces = access(flags->out, F_OK) == 0;
    ok = ok && checkpoint_save_as(flags->out, &parts, err) && command_note_replaced(flags->out, replaces);
    if (ok) fprintf(stderr, "%s: weights are %s\n", flags->out, kernel_format_name(format));
    model_close(&model);
    return ok;
}

int cmd_quantize(int argc, char **argv)
{
    struct arena arena = {0};
    struct flags flags;
    int exit_code;
    if (arguments_parse(&line, argc, argv, &flags, &arena, &exit_code)) {
        struct error err = {0};
        if (!quantize_run(&flags, &err)) exit_code = command_fail(&err);
    }
    arena_free(&arena);
    return exit_code;
}
