/* The registry: the set of served models, by name. Each loaded model has its own engine, and one model is the default.
 * The registry does not generate; server/engine does.
 *
 * Sources: model.path is one directory, under its own name. A state directory (server/store/state_dir.h) adds all of
 * <state_dir>/models; these win if two have the same name. The start loads only the default: the one that the file
 * <state_dir>/default names, if it loads; else model.path; else the only existing model. If there is no default, the
 * first loaded model becomes it. registry_load() loads the others.
 *
 * A request acquires a model, and releases it at its end. A load prepares and warms the new model aside, then changes a
 * pointer. Later requests get the new model; running ones end on the old one. After the last release a thread of the
 * registry stops the old engine and frees the model. The prefix cache and the sessions of the old model are emptied at
 * once (server/engine/sessions.h: its sessions start afresh, and say so).
 *
 * Threads: any. But the HTTP thread must not call changes of the set (load, unload, set_default, remove, reload) or
 * descriptions: both read files, and changes wait for one another. A load holds only the lock that orders changes.
 */
#ifndef LSTMD_SERVER_MODELS_REGISTRY_H
#define LSTMD_SERVER_MODELS_REGISTRY_H

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/error.h"
#include "server/engine/sessions.h"
#include "server/models/served.h"
#include "server/store/state_dir.h"

struct registry;

struct registry_options {
    const struct state_dir *state; /* NULL: none */
    const char *path;              /* model.path */
    const char *path_origin;       /* the setting that names it, for messages */
    bool path_required;            /* registry_new() fails if it does not load */
    struct served_options served;
    struct sessions *sessions;
};

/* Loads the default. Everything that `options` points to is borrowed. A registry may have no models. */
struct registry *registry_new(const struct registry_options *options, struct error *err);

/* Ends all jobs of all models (ENGINE_STOPPED) and refuses further changes. Once, before registry_free(). */
void registry_stop(struct registry *registry);

/* All models must have been released. NULL allowed. */
void registry_free(struct registry *registry);

/* Acquires the model of that name (NULL: the default); the caller releases it. Any thread. Errors: ERROR_NOT_FOUND (the
 * message names the loaded models), ERROR_CONFLICT (it is not loaded), ERROR_UNAVAILABLE (it is being loaded for the
 * first time, or there is no default). */
struct served *registry_acquire(struct registry *registry, const char *name, size_t size, struct error *err);
void registry_release(struct served *served); /* NULL allowed */

/* The directory of a model, loaded or not; free() it. Any thread. NULL with ERROR_NOT_FOUND or ERROR_NO_MEMORY. */
char *registry_directory(const struct registry *registry, const char *name, struct error *err);

/* Loads <state_dir>/models/<name>, or model.path if that is its name, and swaps it in, even if the name is already
 * loaded. A failure changes only the error that registry_next() shows. Errors: ERROR_INVALID (not a valid name of a
 * model), ERROR_NOT_FOUND, ERROR_UNAVAILABLE (shutting down), those of model_load() and engine_new(). */
bool registry_load(struct registry *registry, const char *name, struct error *err);

/* Unloads a model; does nothing if it is not loaded. Errors: ERROR_NOT_FOUND, ERROR_CONFLICT (it is the default). */
bool registry_unload(struct registry *registry, const char *name, struct error *err);

/* Loads the model if it is not loaded, and writes its name into the state directory. Errors: those of registry_load(),
 * ERROR_CONFLICT (no state directory), ERROR_IO and ERROR_NO_SPACE; after an error the default is unchanged. */
bool registry_set_default(struct registry *registry, const char *name, struct error *err);

/* Removes <state_dir>/models/<name>. New requests no longer find the name; running requests end normally. Errors:
 * ERROR_NOT_FOUND, ERROR_CONFLICT (it is the default, or model.path, or there is no state directory), ERROR_IO. */
bool registry_remove(struct registry *registry, const char *name, struct error *err);

/* Loads again each loaded model whose files have changed, then takes the default that the state directory names. If a
 * model does not load, this is logged and the old one stays. Returns whether all loaded. */
bool registry_reload(struct registry *registry);

/* Describes the models one by one, loaded or not, in the order of names: the one after *position (NULL: the first), and
 * moves *position to it. *model is the caller's: {name, state, default, error, ...} (server/models/card.h, without
 * tensors and training). False: no further model, or an error. Reads files without a lock. */
bool registry_next(struct registry *registry, const void **position, json_t **model, struct error *err);

/* The next loaded model, acquired; NULL: there is no further one. */
struct served *registry_next_loaded(struct registry *registry, const void **position);

/* The complete description of one model; the caller's. Errors: ERROR_NOT_FOUND, ERROR_NO_MEMORY. */
json_t *registry_describe(struct registry *registry, const char *name, struct error *err);

/* Calls see() for every loaded model, in the order of names. It holds the lock meanwhile, so see() must be short. */
void registry_each_loaded(struct registry *registry,
                          void (*see)(void *context, const struct served *served, bool is_default), void *context);

#endif
