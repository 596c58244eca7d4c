/* lstmd import: a model directory from what another program saved. */
#include <errno.h>
#include <math.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>
#include <sys/resource.h>

#include "cli/arguments.h"
#include "cli/commands.h"
#include "cli/inspect.h"
#include "model/checkpoint.h"
#include "model/interop.h"

#if defined __SANITIZE_ADDRESS__ || defined __SANITIZE_THREAD__
#define LIMIT_MEMORY false /* sanitizers take terabytes of address space */
#else
#define LIMIT_MEMORY true
#endif
#define MIN_MEMORY ((uint64_t)256 << 20) /* with less, OpenBLAS does not even end */

struct flags {
    const char *file, *out, *vocabulary, *vocabulary_from_text;
    int vocabulary_order, token_level, activation;
    bool lower;
    int64_t window;
    uint64_t max_memory;
    double max_seconds;
};

static const char *const orders[] = {"sorted", "frequency", NULL};
static const char *const levels[] = {"auto", "char", "word", NULL};
static const char *const activations[] = {"auto", "tanh", "relu", NULL};
static const enum activation activation_of[] = {ACTIVATION_DEFAULT, ACTIVATION_TANH, ACTIVATION_RELU};

static const struct option rows[] = {
    {"file", OPTION_TEXT, offsetof(struct flags, file), NULL, 1, 4095, NULL, NULL, "The file to read."},
    {"out", OPTION_TEXT, offsetof(struct flags, out), NULL, 1, 4095, NULL, NULL, "The model directory to write."},
    {"vocabulary", OPTION_TEXT, offsetof(struct flags, vocabulary), NULL, 1, 4095, NULL, NULL,
     "The tokens by id: a Keras Tokenizer's JSON, a JSON list or map, or a text with a token per line."},
    {"vocabulary_from_text", OPTION_TEXT, offsetof(struct flags, vocabulary_from_text), NULL, 1, 4095, NULL, NULL,
     "The text that the model was trained on; its tokens are numbered again."},
    {"vocabulary_order", OPTION_CHOICE, offsetof(struct flags, vocabulary_order), "sorted", 0, 0, orders, NULL,
     "How that text's tokens were numbered: sorted(set(text)), or by frequency from 1 (Keras Tokenizer)."},
    {"lower", OPTION_BOOL, offsetof(struct flags, lower), "false", 0, 0, NULL, NULL,
     "That text was lower-cased first."},
    {"token_level", OPTION_CHOICE, offsetof(struct flags, token_level), "auto", 0, 0, levels, NULL,
     "What a token is; auto: a character where every token of the vocabulary is one."},
    {"window", OPTION_INT, offsetof(struct flags, window), "0", 0, NETWORK_MAX_WINDOW, NULL, "tokens",
     "Serve it as it was trained, every token from a window of the last N; 0: with its state carried on."},
    {"activation", OPTION_CHOICE, offsetof(struct flags, activation), "auto", 0, 0, activations, NULL,
     "Of nn.RNN, whose state_dict does not tell; auto: as the file says, otherwise tanh."},
    {"max_memory", OPTION_SIZE, offsetof(struct flags, max_memory), "0", 0, 1e14, NULL, "bytes",
     "Address space beyond which it fails, for files of strangers: 256MiB or more; 0: no limit."},
    {"max_seconds", OPTION_REAL, offsetof(struct flags, max_seconds), "0", 0, 86400, NULL, "s",
     "Processor time beyond which it is ended; 0: no limit."},
};

static const struct command_line line = {
    .usage = "lstmd import FILE --out DIR [--vocabulary FILE | --vocabulary-from-text FILE] [flags]",
    .description =
        "Makes a model directory of what Keras (.h5, .keras) or PyTorch (.pt, .pth, .safetensors) saved, or says why\n"
        "it would not give the same probabilities. The kind of file is recognised by its content. Nothing in the file\n"
        "is executed. A vocabulary in the file itself (tokens, char2int, ...) is used where none is given.",
    .table = {rows, sizeof rows / sizeof rows[0], NULL},
    .operands = (const char *const[]){"file", NULL},
    .required = (const char *const[]){"file", "out", NULL},
};

static bool check_flags(const struct flags *flags, struct error *err)
{
    if (flags->vocabulary && flags->vocabulary_from_text)
        return error_set(err, ERROR_USAGE, "--vocabulary and --vocabulary-from-text exclude each other");
    if (!flags->vocabulary_from_text && (flags->lower || flags->vocabulary_order != INTEROP_ORDER_SORTED))
        return error_set(err, ERROR_USAGE, "--lower and --vocabulary-order belong to --vocabulary-from-text");
    return true;
}

static bool set_limit(int resource, uint64_t most, const char *flag, struct error *err)
{
    const struct rlimit limit = {most, most};
    if (most == 0 || setrlimit((__rlimit_resource_t)resource, &limit) == 0) return true;
    return error_set_errno(err, errno, "could not set the limit of --%s", flag);
}

/* The parsers of libraries are not ours: what they may take is the system's to watch. */
static bool set_limits(const struct flags *flags, struct error *err)
{
    if (flags->max_memory > 0 && flags->max_memory < MIN_MEMORY)
        return error_set(err, ERROR_USAGE, "--max-memory must be 256MiB or more (or 0: no limit)");
    return set_limit(RLIMIT_AS, LIMIT_MEMORY ? flags->max_memory : 0, "max-memory", err) &&
           set_limit(RLIMIT_CPU, (uint64_t)ceil(flags->max_seconds), "max-seconds", err);
}

static bool print_imported(const char *directory, const json_t *notes, struct error *err)
{
    struct model model;
    size_t i;
    const json_t *note;
    bool ok = model_load(&model, directory, err) && inspect_print(&model, false, err);
    json_array_foreach(notes, i, note) fprintf(stderr, "note: %s\n", json_string_value(note));
    model_close(&model);
    return ok;
}

static bool import(const struct flags *flags, struct error *err)
{
    const struct interop_options options = {
        .vocabulary = flags->vocabulary,
        .vocabulary_text = flags->vocabulary_from_text,
        .order = (enum interop_order)flags->vocabulary_order,
        .lower = flags->lower,
        .level = (enum interop_level)flags->token_level,
        .window = (uint32_t)flags->window,
        .rnn_activation = activation_of[flags->activation],
    };
    const char *slash = strrchr(flags->file, '/');
    json_t *notes = NULL;
    const bool ok = check_flags(flags, err) && set_limits(flags, err) &&
                    interop_import(flags->file, slash ? slash + 1 : flags->file, &options, flags->out, &notes, err) &&
                    print_imported(flags->out, notes, err);
    json_decref(notes);
    return ok;
}

int cmd_import(int argc, char **argv)
{
    struct arena arena = {0};
    struct flags flags;
    int exit_code;
    if (arguments_parse(&line, argc, argv, &flags, &arena, &exit_code)) {
        struct error err = {0};
        if (!import(&flags, &err)) exit_code = command_fail(&err);
    }
    arena_free(&arena);
    return exit_code;
}
