/* The places of models: <state_dir>/models/<name>, which come first, and model.path, under the name of its directory.
 * Also the file <state_dir>/default. It reads directories on every call and caches nothing. Immutable, so any thread
 * may use it.
 */
#ifndef LSTMD_SERVER_MODELS_PLACES_H
#define LSTMD_SERVER_MODELS_PLACES_H

#include <jansson.h>
#include <stdbool.h>

#include "base/error.h"
#include "server/store/state_dir.h"

struct model_places {
    const struct state_dir *state; /* NULL: none */
    const char *path;              /* model.path; NULL: none */
    char *path_name;               /* its name as a model */
    char *default_file;            /* NULL: no state directory */
};

/* state and path are borrowed. Close with model_places_close(), also after a failure. */
bool model_places_open(struct model_places *places, const struct state_dir *state, const char *path, struct error *err);
void model_places_close(struct model_places *places);

/* Whether this is the name of model.path. */
bool model_places_is_path(const struct model_places *places, const char *name);

/* The directory of a model; free() it. NULL: ERROR_NOT_FOUND, ERROR_NO_MEMORY, and ERROR_CONFLICT if it, or
 * something in it, is a link in the state directory. */
char *model_places_find(const struct model_places *places, const char *name, struct error *err);

/* The same in the state directory alone, links in it allowed: for a model that is removed. */
char *model_places_find_in_state(const struct model_places *places, const char *name, struct error *err);

/* The names of all models except links, as the keys of an object; the caller's. NULL with the error. */
json_t *model_places_names(const struct model_places *places, struct error *err);

/* The name in the file <state_dir>/default; free() it. NULL without an error: there is no such file. */
char *model_places_default(const struct model_places *places, struct error *err);

/* Publishes that file. Without a state directory it does nothing. */
bool model_places_set_default(const struct model_places *places, const char *name, struct error *err);

/* Removes the directory from a message about it, in place, because clients that may see models need not know their
 * paths. For a file of the directory, the message keeps only the file's name. */
void model_places_hide(char *message, const char *directory);

#endif
