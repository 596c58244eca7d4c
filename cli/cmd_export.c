/* lstmd export: a model for PyTorch or Keras. */
#include <stdbool.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/file.h"
#include "cli/arguments.h"
#include "cli/commands.h"
#include "model/files/checkpoint.h"
#include "model/interop/export.h"

#define VOCABULARY_ENDING ".vocabulary.json"

struct flags {
    const char *model, *out;
    int to;
};

enum {
    TO_PYTORCH, /* a state_dict, as safetensors */
    TO_KERAS,   /* a model, as HDF5 */
};
static const char *const formats[] = {"pytorch", "keras", NULL};

static const struct option rows[] = {
    {"model", OPTION_TEXT, offsetof(struct flags, model), NULL, 1, 4095, NULL, NULL, "The model directory to read."},
    {"to", OPTION_CHOICE, offsetof(struct flags, to), "pytorch", 0, 0, formats, NULL,
     "pytorch: a state_dict as safetensors; keras: a model as HDF5."},
    {"out", OPTION_TEXT, offsetof(struct flags, out), NULL, 1, 4000, NULL, NULL, "The file to write."},
};

static const struct command_line line = {
    .usage = "lstmd export DIR [--to pytorch|keras] --out FILE",
    .description =
        "Writes the weights of a model directory as float32 for PyTorch (names and shapes of nn.LSTM, nn.GRU, nn.RNN\n"
        "and nn.Linear, for load_state_dict) or Keras (for load_model). Also writes FILE" VOCABULARY_ENDING ",\n"
        "the tokens in the order of their ids. docs/import.md shows how to open both in Python. `lstmd import` reads\n"
        "the files again.",
    .table = {rows, sizeof rows / sizeof rows[0], NULL, NULL},
    .operands = (const char *const[]){"model", NULL},
    .required = (const char *const[]){"model", "out", NULL},
};

/* Writes the vocabulary first, so that it is there when the weights appear. */
static bool export_publish(const struct flags *flags, const struct model *model, const void *weights, size_t size,
                           struct error *err)
{
    const size_t room = strlen(flags->out) + sizeof VOCABULARY_ENDING;
    char *path = malloc(room);
    if (!path) return error_set_no_memory(err, room, "a path");
    (void)snprintf(path, room, "%s" VOCABULARY_ENDING, flags->out);
    size_t n;
    command_make_parent(flags->out);
    char *vocabulary = vocabulary_to_json(model->vocabulary, &n, err);
    const bool done =
        vocabulary && file_publish(path, vocabulary, n, err) && file_publish(flags->out, weights, size, err);
    free(vocabulary);
    free(path);
    return done;
}

static bool export_model(const struct flags *flags, struct error *err)
{
    struct model model;
    unsigned char *data;
    size_t size;
    if (!model_load(&model, flags->model, err)) return false;
    const bool made = flags->to == TO_KERAS ? export_keras(&model.network, &data, &size, err)
                                            : export_torch(&model.network, &data, &size, err);
    if (!made) error_add_context(err, "%s", flags->model);
    const bool done = made && export_publish(flags, &model, data, size, err);
    if (done && model.network.architecture.window.size > 0)
        fprintf(stderr, "lstmd: the model sees windows of %u tokens, which the file does not say\n",
                model.network.architecture.window.size);
    if (made) free(data);
    model_close(&model);
    return done;
}

int cmd_export(int argc, char **argv)
{
    struct arena arena = {0};
    struct flags flags;
    int exit_code;
    if (arguments_parse(&line, argc, argv, &flags, &arena, &exit_code)) {
        struct error err = {0};
        if (!export_model(&flags, &err)) exit_code = command_fail(&err);
    }
    arena_free(&arena);
    return exit_code;
}
