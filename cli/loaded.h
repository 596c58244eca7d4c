/* A loaded model that is ready for stepping, for the commands that read a model directory. */
#ifndef LSTMD_CLI_LOADED_H
#define LSTMD_CLI_LOADED_H

#include "model/files/checkpoint.h"
#include "model/generate/generate.h"
#include "model/generate/step.h"

struct loaded {
    struct model model;
    struct stepper stepper;
};

/* weights: 0: as the directory keeps them, else 1 + enum kernel_format (kernel_format_choose()). Close with
 * loaded_close(), also after a failure. */
bool loaded_open_as(struct loaded *loaded, const char *directory, int weights, struct error *err);
bool loaded_open(struct loaded *loaded, const char *directory, struct error *err); /* as the directory keeps them */
void loaded_close(struct loaded *loaded);

/* Prints the warnings about skipped prompt text to stderr. */
void loaded_print_warnings(const struct generation *generation, const char *prompt);

#endif
