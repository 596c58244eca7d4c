/* A hidden state in a file: the text of model/generate/state_text.h, as in the daemon's answers, and a newline. */
#ifndef LSTMD_CLI_STATE_FILE_H
#define LSTMD_CLI_STATE_FILE_H

#include "cli/loaded.h"
#include "model/generate/state_text.h"

/* Allocates carried->state; the caller frees it, also after a failure. Errors: those of file_read() and of
 * state_text_read(), and ERROR_INVALID for a model that keeps no state. They name the file. */
bool state_file_read(const char *path, const struct loaded *loaded, struct carried_state *carried, struct error *err);

/* Replaces the file atomically: a reader sees the old state or the new. Errors: those of file_publish(),
 * ERROR_NO_MEMORY. */
bool state_file_write(const char *path, const struct loaded *loaded, const struct carried_state *carried,
                      struct error *err);

/* A model with a window keeps no state. */
bool state_file_is_possible(const struct loaded *loaded, struct error *err);

#endif
