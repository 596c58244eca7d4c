/* The flags of lstmd train: the trainer's options (model/train/options.h) and a few of the command. */
#ifndef LSTMD_CLI_TRAIN_OPTIONS_H
#define LSTMD_CLI_TRAIN_OPTIONS_H

#include <stdbool.h>

#include "base/arena.h"
#include "config/option.h"
#include "model/train/options.h"

struct train_arguments {
    struct trainer_options trainer;
    struct option_list data; /* the source of trainer.data and more_data */
    const char *out, *config;
    bool resume;
};

/* Defaults (those of the preset; those of the saved run where --resume is given), then the file of --config, then
 * flags. False if there is nothing more to do: it has printed the help or the error, and the caller returns *exit_code.
 * The arena owns the texts. */
bool train_arguments_parse(int argc, char **argv, struct train_arguments *arguments, struct arena *arena,
                           int *exit_code);

#endif
