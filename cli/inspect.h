/* The output of `lstmd inspect`, also for commands that have just made a model. */
#ifndef LSTMD_CLI_INSPECT_H
#define LSTMD_CLI_INSPECT_H

#include <stdbool.h>

#include "base/error.h"
#include "model/files/checkpoint.h"

/* Prints a table to stdout, or JSON. */
bool inspect_print(const struct model *model, bool as_json, struct error *err);

#endif
