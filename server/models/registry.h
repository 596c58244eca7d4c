/* The models that are served: a set of names. Each loaded model has an engine of its own, and one is the default. It
 * does not generate: server/engine does.
 *
 * Where models come from: model.path is one directory, under its own name; a state directory (server/store/state_dir.h)
 * adds all of <state_dir>/models, which come first where two have the same name. The start loads the default alone: the
 * one that the file <state_dir>/default names, if it loads, else model.path, else the only one there is. Where there is
 * no default, the first model that is loaded becomes it. All others wait for registry_load().
 *
 * A request acquires a model and releases it when it is over. A load happens aside, and the new model is warmed; then a
 * pointer is changed. Later requests get the new model, running ones end on the old one, and the last release gives the
 * old one to a thread of the registry, which stops its engine and frees it. The prefix cache and the sessions of the
 * old model are emptied at once (server/engine/sessions.h: its sessions start afresh, and say so).
 *
 * Threads: any. But changes of the set (load, unload, set_default, remove, reload) and descriptions read files, and
 * changes wait for their turn: neither is for the HTTP thread. While a model is loaded no lock is held but the one that
 * makes changes take turns.
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

/* Loads the default. All that `options` points at is borrowed. A registry without any model is no error. */
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

/* Loads <state_dir>/models/<name>, or model.path if that is its name, and swaps it in, even if it is loaded already. A
 * failure changes nothing but the error that registry_next() shows. Errors: ERROR_INVALID (no
 * name for a model), ERROR_NOT_FOUND, ERROR_UNAVAILABLE (shutting down), those of model_load() and engine_new(). */
bool registry_load(struct registry *registry, const char *name, struct error *err);

/* Does nothing to a model that is not loaded. Errors: ERROR_NOT_FOUND, ERROR_CONFLICT (it is the default). */
bool registry_unload(struct registry *registry, const char *name, struct error *err);

/* Loads the model if it is not loaded, and writes its name into the state directory. Errors: those of registry_load(),
 * ERROR_CONFLICT (no state directory), ERROR_IO and ERROR_NO_SPACE; then the default stays as it was. */
bool registry_set_default(struct registry *registry, const char *name, struct error *err);

/* Removes <state_dir>/models/<name>. The name is gone at once; running requests end normally. Errors: ERROR_NOT_FOUND,
 * ERROR_CONFLICT (it is the default, or model.path, or there is no state directory), ERROR_IO. */
bool registry_remove(struct registry *registry, const char *name, struct error *err);

/* Loads again each loaded model whose files have changed, then takes the default that the state directory names. A
 * model that does not load is logged and stays as it is. Returns whether all loaded. */
bool registry_reload(struct registry *registry);

/* Describes the next model, loaded or not, in the order of names. *position is the last one (NULL: begin) and moves
 * on. *model is the caller's: {name, state, default, error, ...} (server/models/card.h, without tensors and training).
 * False: there are no more, or an error. Reads files without a lock. */
bool registry_next(struct registry *registry, const void **position, json_t **model, struct error *err);

/* The next loaded model, acquired; NULL: there is no further one. */
struct served *registry_next_loaded(struct registry *registry, const void **position);

/* The whole description of one model; the caller's. Errors: ERROR_NOT_FOUND, ERROR_NO_MEMORY. */
json_t *registry_describe(struct registry *registry, const char *name, struct error *err);

/* Calls see() for every loaded model, by name, under the lock: it must be short. */
void registry_each_loaded(struct registry *registry,
                          void (*see)(void *context, const struct served *served, bool is_default), void *context);

#endif
