/* The models that are served: a set of names, of which those that are loaded have a model each, with an engine of its
 * own, and one is the default.
 *
 * Where they come from: model.path is one directory, under its own name; a state directory (server/store/state_dir.h)
 * brings all of <state_dir>/models, which come first where two have the same name. At the start the default alone is
 * loaded: the one that the file <state_dir>/default names, if it loads, else model.path, else the only one there is.
 * The first model that is loaded where there is no default becomes it. All others wait for registry_load().
 *
 * A request acquires a model and releases it when it is over. A model that is loaded again is loaded and warmed aside,
 * then a pointer is changed: what comes later gets the new one, what runs ends on the old one, and the last to release
 * that gives it to a thread of the registry's own, which stops its engine and frees it. Of the old one, the prefix
 * cache and the sessions are emptied at once (server/engine/sessions.h: its sessions start afresh, and say so).
 *
 * Threads: any, but what changes the set (load, unload, set_default, remove, reload) reads files and waits for its
 * turn, and what describes it reads files: neither is for the HTTP thread. No lock is held while a model is loaded but
 * the one that makes changes take turns.
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
    const char *path_origin;       /* the setting that says so, for messages */
    bool path_required;            /* where that does not load, registry_new() fails */
    struct served_options served;
    struct sessions *sessions;
};

/* Loads the default. All that `options` points at is borrowed. It is no error that there is no model at all. */
struct registry *registry_new(const struct registry_options *options, struct error *err);

/* Ends all jobs of all models (ENGINE_STOPPED) and refuses further changes. Once, before registry_free(). */
void registry_stop(struct registry *registry);

/* All models must have been released. NULL allowed. */
void registry_free(struct registry *registry);

/* The model of that name, to be released; name NULL: the default. Any thread. Errors: ERROR_NOT_FOUND (the message
 * names those that are loaded), ERROR_CONFLICT (it is not loaded), ERROR_UNAVAILABLE (it is being loaded for the first
 * time, or there is no default). */
struct served *registry_acquire(struct registry *registry, const char *name, size_t size, struct error *err);
void registry_release(struct served *served); /* NULL allowed */

/* The directory of a model, loaded or not; free() it. Any thread. NULL with ERROR_NOT_FOUND or ERROR_NO_MEMORY. */
char *registry_directory(const struct registry *registry, const char *name, struct error *err);

/* Loads <state_dir>/models/<name>, or model.path where that is its name, whether or not it is loaded already, and swaps
 * it in. After a failure all is as before, but for what registry_next() shows as its error. Errors: ERROR_INVALID (no
 * name for a model), ERROR_NOT_FOUND, ERROR_UNAVAILABLE (shutting down), those of model_load() and engine_new(). */
bool registry_load(struct registry *registry, const char *name, struct error *err);

/* No-op for one that is not loaded. Errors: ERROR_NOT_FOUND, ERROR_CONFLICT (it is the default). */
bool registry_unload(struct registry *registry, const char *name, struct error *err);

/* Loads it where it is not loaded, and remembers it in the state directory. Errors: those of registry_load(),
 * ERROR_CONFLICT (no state directory), ERROR_IO and ERROR_NO_SPACE, with the default as before. */
bool registry_set_default(struct registry *registry, const char *name, struct error *err);

/* Removes <state_dir>/models/<name>: its name is gone at once, requests that run on it end. Errors: ERROR_NOT_FOUND,
 * ERROR_CONFLICT (it is the default, or model.path, or there is no state directory), ERROR_IO. */
bool registry_remove(struct registry *registry, const char *name, struct error *err);

/* Loads again what is loaded and whose files have changed, then takes the default that the state directory names. What
 * does not load is logged and stays as it is. False: something did not. */
bool registry_reload(struct registry *registry);

/* Describes the models one by one, loaded or not, by name: *model is {name, state, default, error, ...} of the one that
 * follows *position (NULL: the first), which moves (server/models/card.h, without tensors and training); the caller's.
 * False: without an error there is no further one. Reads files, and holds no lock meanwhile. */
bool registry_next(struct registry *registry, const void **position, json_t **model, struct error *err);

/* The same for loaded ones alone: acquired, or NULL behind the last. */
struct served *registry_next_loaded(struct registry *registry, const void **position);

/* All of one model. Errors: ERROR_NOT_FOUND. */
json_t *registry_describe(struct registry *registry, const char *name, struct error *err);

/* Calls see() for every loaded model, by name. Under the lock: must be short. */
void registry_each_loaded(struct registry *registry,
                          void (*see)(void *context, const struct served *served, bool is_default), void *context);

#endif
