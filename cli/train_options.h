/* The flags of lstmd train: the trainer's options (model/train/options.h) and a few of the command. */
#ifndef LSTMD_CLI_TRAIN_OPTIONS_H
#define LSTMD_CLI_TRAIN_OPTIONS_H

#include <stdbool.h>

#include "base/arena.h"
#include "config/option.h"
#include "model/train/options.h"

struct train_arguments {
    struct trainer_options trainer;
    struct option_list data; /* where trainer.data and more_data are from */
    const char *out, *config;
    bool resume;
};

/* Defaults (those of the preset; those of the saved run where --resume is given), then the file of --config, then
 * flags. false where there is nothing more to do: help or error is printed and *exit_code is what to return. Texts are
 * the arena's. */
bool train_arguments_parse(int argc, char **argv, struct train_arguments *arguments, struct arena *arena,
                           int *exit_code);

#endif
