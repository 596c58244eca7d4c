#include "cli/train_options.h"

#include <stddef.h>
#include <stdio.h>
#include <string.h>

#include "cli/arguments.h"
#include "model/train/trainer.h"

static const struct option own_rows[] = {
    {"out", OPTION_TEXT, offsetof(struct train_arguments, out), NULL, 1, 4000, NULL, NULL,
     "the model directory to write; the first validation replaces an older model there"},
    {"config", OPTION_TEXT, offsetof(struct train_arguments, config), NULL, 1, 4095, NULL, NULL,
     "YAML file with the same keys (max_minutes: 5); flags win over it"},
    {"resume", OPTION_BOOL, offsetof(struct train_arguments, resume), "false", 0, 0, NULL, NULL,
     "go on with the interrupted run and its options; the list above names the flags that may change"},
};

#define OWN_ROWS (sizeof own_rows / sizeof own_rows[0])

static const char *const required[] = {"out", NULL};

static const struct command_line command = {
    .usage = "lstmd train --data FILE [--data FILE ...] --out DIR [--config FILE] [flags]",
    .description =
        "Trains a model on a text and writes it to a directory. The directory holds the best model so far: lstmd\n"
        "writes it at each best validation, or a few seconds later if validations come faster. Ctrl-C saves the run\n"
        "in DIR.train; lstmd train --out DIR --resume goes on with it, bit for bit. Progress goes to standard error.\n"
        "The result is one line on standard output: the directory, the model's nats and bits per character, and its\n"
        "epoch. The exit code is 0 if the training ended, 1 if it failed, diverged or was interrupted.\n\n"
        "    lstmd train --data titles.txt --format lines --out models/titles --preset small\n"
        "    lstmd train --data titles.txt --format lines --out models/titles --epochs 20 --patience 3\n\n"
        "Presets are complete sets of defaults. The file and flags win over them.",
    .required = required,
    .file_key = "config",
};

static enum option_type option_type(enum trainer_option_kind kind)
{
    static const enum option_type types[] = {
        [TRAINER_BOOL] = OPTION_BOOL, [TRAINER_INT] = OPTION_INT,       [TRAINER_REAL] = OPTION_REAL,
        [TRAINER_TEXT] = OPTION_TEXT, [TRAINER_CHOICE] = OPTION_CHOICE,
    };
    return types[kind];
}

/* The row of --data: a list, because a corpus may have several files. */
static struct option data_row(const struct trainer_option *row)
{
    return (struct option){.key = row->key,
                           .type = OPTION_LIST,
                           .offset = offsetof(struct train_arguments, data),
                           .minimum = row->minimum,
                           .maximum = row->maximum,
                           .help = row->help};
}

static struct option trainer_row(const struct trainer_option *row)
{
    if (row->offset == offsetof(struct trainer_options, data)) return data_row(row);
    return (struct option){.key = row->key,
                           .type = option_type(row->kind),
                           .offset = offsetof(struct train_arguments, trainer) + row->offset,
                           .fallback = row->fallback,
                           .minimum = row->minimum,
                           .maximum = row->maximum,
                           .choices = row->choices,
                           .unit = row->unit,
                           .help = row->help};
}

/* The command's rows and the trainer's, in one table. */
static struct option *make_rows(size_t *count, struct arena *arena, struct error *err)
{
    *count = OWN_ROWS + trainer_option_count;
    struct option *rows = arena_alloc(arena, *count, sizeof *rows, "the option table", err);
    if (!rows) return NULL;
    for (size_t i = 0; i < OWN_ROWS; i++) rows[i] = own_rows[i];
    for (size_t i = 0; i < trainer_option_count; i++) rows[OWN_ROWS + i] = trainer_row(&trainer_option_table[i]);
    return rows;
}

/* Lists the flags that a resumed run may change, wrapped into lines. */
static size_t list_adjustable(char *out, size_t size)
{
    size_t n = 0, column = 2;
    out[0] = '\0';
    for (size_t i = 0; i < trainer_option_count && n < size; i++) {
        const struct trainer_option *row = &trainer_option_table[i];
        if (!(row->flags & TRAINER_ADJUSTABLE)) continue;
        if (column + strlen(row->key) + 3 > 110) {
            n += (size_t)snprintf(out + n, size - n, "\n ");
            column = 2;
        }
        n += (size_t)snprintf(out + n, size - n, " --%s", row->key);
        column += strlen(row->key) + 3;
    }
    for (char *c = out; *c; c++)
        if (*c == '_') *c = '-';
    return n;
}

/* The command's description: a line for each preset, and the flags that a resumed run may change. */
static const char *train_options_describe(struct arena *arena, struct error *err)
{
    char text[4096], adjustable[512];
    size_t n = (size_t)snprintf(text, sizeof text, "%s", command.description);
    for (size_t i = 0; i < PRESET_COUNT && n < sizeof text; i++)
        n += (size_t)snprintf(text + n, sizeof text - n, "\n  %-12s%s", trainer_preset_names[i],
                              trainer_presets[i].help);
    list_adjustable(adjustable, sizeof adjustable);
    if (n < sizeof text)
        snprintf(
            text + n, sizeof text - n,
            "\n\nBeside --resume these flags may be given anew, and the rest of the run follows them:\n %s\nFiles may "
            "have moved, but must hold what they held when the run began. Every other flag must be as it was,\n"
            "or be left out.",
            adjustable);
    return arena_copy_text(arena, text, strlen(text), err);
}

/* Makes the options of a preset or a saved run the defaults of the table. */
static bool set_fallbacks(struct option *rows, size_t count, const struct train_arguments *saved, struct arena *arena,
                          struct error *err)
{
    char text[4096];
    for (size_t i = OWN_ROWS; i < count; i++) {
        const void *field = (const char *)saved + rows[i].offset;
        if (rows[i].type == OPTION_LIST) continue;
        if (rows[i].type == OPTION_TEXT) {
            rows[i].fallback = *(const char *const *)field;
            continue;
        }
        int n = options_format(&rows[i], saved, text, sizeof text);
        rows[i].fallback = arena_copy_text(arena, text, n > 0 ? (size_t)n : 0, err);
        if (!rows[i].fallback) return false;
    }
    return true;
}

static bool apply_saved(struct option *rows, size_t count, const char *out, struct train_arguments *saved,
                        struct arena *arena, int *exit_code)
{
    struct error err = {0};
    if (trainer_saved_options(out, &saved->trainer, arena, &err) && set_fallbacks(rows, count, saved, arena, &err))
        return true;
    *exit_code = command_fail(&err);
    return false;
}

static bool apply_preset(struct option *rows, size_t count, int preset, struct arena *arena, int *exit_code)
{
    struct error err = {0};
    struct train_arguments defaults = {0};
    trainer_options_preset(&defaults.trainer, (enum trainer_preset_kind)preset);
    if (set_fallbacks(rows, count, &defaults, arena, &err)) return true;
    *exit_code = command_fail(&err);
    return false;
}

/* Sets the defaults for the second reading, from the preset or the saved run that the first reading found. A saved run
 * has all options. */
static bool apply_defaults(struct option *rows, size_t count, const struct train_arguments *arguments,
                           struct train_arguments *saved, struct arena *arena, int *exit_code)
{
    if (arguments->resume && arguments->out) return apply_saved(rows, count, arguments->out, saved, arena, exit_code);
    return apply_preset(rows, count, arguments->trainer.preset, arena, exit_code);
}

/* Sets the data: files in flags replace those of the configuration file or the saved run. */
static bool set_data(struct train_arguments *arguments, const struct option_list *flags,
                     const struct train_arguments *saved, struct error *err)
{
    struct trainer_options *options = &arguments->trainer;
    const struct option_list *data = flags->count > 0 ? flags : &arguments->data;
    options->data = saved->trainer.data;
    options->more_count = saved->trainer.more_count;
    memcpy(options->more_data, saved->trainer.more_data, sizeof options->more_data);
    if (data->count == 0)
        return options->data || error_set(err, ERROR_USAGE, "--data is missing; usage: %s", command.usage);
    if (data->count > TRAINER_MAX_FILES)
        return error_set(err, ERROR_USAGE, "--data names %zu files: at most %d are read", data->count,
                         TRAINER_MAX_FILES);
    options->data = data->items[0];
    options->more_count = data->count - 1;
    for (size_t i = 1; i < data->count; i++) options->more_data[i - 1] = data->items[i];
    return true;
}

static bool train_options_check(struct train_arguments *arguments, const struct option_list *flags,
                                const struct train_arguments *saved, int *exit_code)
{
    struct error err = {0};
    if (set_data(arguments, flags, saved, &err) && trainer_options_validate(&arguments->trainer, &err)) return true;
    err.code = ERROR_USAGE;
    *exit_code = command_fail(&err);
    return false;
}

bool train_arguments_parse(int argc, char **argv, struct train_arguments *arguments, struct arena *arena,
                           int *exit_code)
{
    struct error err = {0};
    size_t count;
    struct option *rows = make_rows(&count, arena, &err);
    const char *description = train_options_describe(arena, &err);
    if (!rows || !description) {
        *exit_code = command_fail(&err);
        return false;
    }
    struct command_line line = command;
    struct train_arguments saved = {0};
    line.table = (struct option_table){rows, count, NULL, NULL};
    line.description = description;
    line.required = NULL; /* a resumed run has its data */
    line.file_key = NULL; /* the first reading reads only flags */
    if (!arguments_parse(&line, argc, argv, arguments, arena, exit_code)) return false;
    const struct option_list data = arguments->data;
    line.file_key = command.file_key;
    if (!arguments_parse(&line, argc, argv, arguments, arena, exit_code) ||
        !apply_defaults(rows, count, arguments, &saved, arena, exit_code))
        return false;
    line.required = command.required;
    return arguments_parse(&line, argc, argv, arguments, arena, exit_code) &&
           train_options_check(arguments, &data, &saved, exit_code);
}
