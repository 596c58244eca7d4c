/* Where a run writes: the model directory `out`, and its work directory `<out>.train`. */
#ifndef LSTMD_MODEL_TRAIN_DIRECTORIES_H
#define LSTMD_MODEL_TRAIN_DIRECTORIES_H

#include <stdbool.h>

#include "base/arena.h"
#include "base/error.h"

/* *model: `out` without trailing slashes; *work: `<out>.train`. Caller frees both, also after a failure. ERROR_INVALID
 * where `out` names no directory of its own ("", ".", ".."). */
bool training_directories_name(const char *out, char **model, char **work, struct error *err);

/* The directory that `path` is in; the arena's. */
const char *training_directories_parent(const char *path, struct arena *arena, struct error *err);

/* Finds out before the training, not after it, that the model cannot be written. Publishing replaces the whole
 * directory, so it must hold a model or nothing: else ERROR_CONFLICT. */
bool training_directories_check(const char *model, struct error *err);

#endif
