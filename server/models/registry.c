/* Start and end of the registry, and the changes that clients ask for. */
#include "server/models/registry.h"

#include <stdlib.h>
#include <string.h>

#include "base/file.h"
#include "base/log.h"
#include "base/worker.h"
#include "server/models/internal.h"

/* ---- Changes that clients ask for ---- */

/* Makes the loaded model of that name the default, now and at the next start. */
static bool registry_choose_default(struct registry *registry, const char *name, struct error *err)
{
    if (!model_places_set_default(&registry->places, name, err)) return false;
    swap_set_default(registry, registry_entry_of(registry, name));
    return true;
}

char *registry_directory(const struct registry *registry, const char *name, struct error *err)
{
    return model_places_find(&registry->places, name, err);
}

bool registry_load(struct registry *registry, const char *name, struct error *err)
{
    if (!model_places_is_path(&registry->places, name) && !state_name_check(name, strlen(name), "a model's name", err))
        return false;
    pthread_mutex_lock(&registry->changes);
    const bool done =
        swap_load(registry, name, err) && (registry->standard || registry_choose_default(registry, name, err));
    pthread_mutex_unlock(&registry->changes);
    return done;
}

/* The entry for a change: it is loaded, or has a directory. */
static struct registry_entry *registry_known_entry(struct registry *registry, const char *name, struct error *err)
{
    struct registry_entry *entry = registry_entry_of(registry, name);
    if (entry && entry->served) return entry;
    char *directory = model_places_find(&registry->places, name, err);
    entry = directory ? registry_add_entry(registry, name, err) : NULL;
    free(directory);
    return entry;
}

bool registry_unload(struct registry *registry, const char *name, struct error *err)
{
    pthread_mutex_lock(&registry->changes);
    struct registry_entry *entry = registry_known_entry(registry, name, err);
    bool done = entry;
    if (entry && entry == registry->standard)
        done = error_set(err, ERROR_CONFLICT, "\"%s\" is the default model; make another one the default first", name);
    else if (entry && entry->served) {
        swap_in(registry, entry, NULL);
        log_event(LOG_INFO, "model_unloaded", LOG_TEXT("model", name));
    }
    pthread_mutex_unlock(&registry->changes);
    return done;
}

bool registry_set_default(struct registry *registry, const char *name, struct error *err)
{
    if (!state_dir_require(registry->options.state, err)) return false;
    pthread_mutex_lock(&registry->changes);
    const struct registry_entry *entry = registry_known_entry(registry, name, err);
    const bool done =
        entry && (entry->served || swap_load(registry, name, err)) && registry_choose_default(registry, name, err);
    pthread_mutex_unlock(&registry->changes);
    return done;
}

/* The directory of a model that may be removed; free() it. */
static char *registry_find_removable(struct registry *registry, const char *name, struct error *err)
{
    struct error own = {0};
    const struct registry_entry *entry = registry_entry_of(registry, name);
    char *path = NULL;
    if (entry && entry == registry->standard)
        error_set(err, ERROR_CONFLICT, "\"%s\" is the default model; make another one the default first", name);
    else if (!(path = model_places_find_in_state(&registry->places, name, &own)) && own.code == ERROR_NOT_FOUND &&
             model_places_is_path(&registry->places, name))
        error_set(err, ERROR_CONFLICT, "\"%s\" is the model of model.path, which is not in the state directory", name);
    else if (!path)
        error_set(err, own.code, "%s", own.message);
    return path;
}

static bool registry_remove_model(struct registry *registry, const char *name, struct error *err)
{
    char *path = registry_find_removable(registry, name, err);
    if (!path) return false;
    struct registry_entry *entry = registry_add_entry(registry, name, err);
    const bool done = entry && directory_remove(path, err);
    if (done) {
        swap_in(registry, entry, NULL);
        pthread_mutex_lock(&registry->mutex);
        entry->listed = model_places_is_path(&registry->places, name);
        pthread_mutex_unlock(&registry->mutex);
        log_event(LOG_INFO, "model_removed", LOG_TEXT("model", name));
    }
    free(path);
    return done;
}

bool registry_remove(struct registry *registry, const char *name, struct error *err)
{
    if (!state_dir_require(registry->options.state, err)) return false;
    pthread_mutex_lock(&registry->changes);
    const bool done = registry_remove_model(registry, name, err);
    pthread_mutex_unlock(&registry->changes);
    return done;
}

static void log_model_failure(const char *name, const struct error *err)
{
    log_event(LOG_ERROR, "model_not_loaded", LOG_TEXT("model", name), LOG_TEXT("error", err->message));
}

bool registry_reload(struct registry *registry)
{
    struct error err = {0};
    bool good = true;
    pthread_mutex_lock(&registry->changes);
    registry_look(registry, NULL);
    for (struct registry_entry *entry = NULL; (entry = registry_next_entry(registry, entry));) {
        char *directory = entry->served ? model_places_find(&registry->places, entry->name, NULL) : NULL;
        if (directory && served_fingerprint(directory) != entry->served->fingerprint &&
            !swap_load(registry, entry->name, &err)) {
            log_model_failure(entry->name, &err);
            good = false;
        }
        error_clear(&err);
        free(directory);
    }
    char *name = model_places_default(&registry->places, &err);
    const struct registry_entry *entry = name ? registry_known_entry(registry, name, &err) : NULL;
    if (entry && entry != registry->standard && (entry->served || swap_load(registry, name, &err)))
        swap_set_default(registry, registry_entry_of(registry, name));
    if (err.code) log_model_failure(name, &err);
    good = good && !err.code;
    free(name);
    pthread_mutex_unlock(&registry->changes);
    return good;
}

/* ---- Start and end ---- */

/* Loads a model and makes it the default of this process. */
static bool registry_try_default(struct registry *registry, const char *name, struct error *err)
{
    if (!swap_load(registry, name, err)) return false;
    swap_set_default(registry, registry_entry_of(registry, name));
    return true;
}

static bool registry_load_default(struct registry *registry, struct error *err)
{
    struct error own = {0};
    char *name = model_places_default(&registry->places, &own);
    const bool done = name && registry_try_default(registry, name, &own);
    if (own.code) log_model_failure(name, &own);
    free(name);
    if (done) return true;
    error_clear(&own);
    if (registry->places.path_name && registry_try_default(registry, registry->places.path_name, &own)) return true;
    if (registry->places.path_name && registry->options.path_required) {
        error_add_context(&own, "%s", registry->options.path_origin);
        if (err && !err->code) *err = own;
        return false;
    }
    const struct registry_entry *only = NULL;
    for (const struct registry_entry *entry = NULL; (entry = registry_next_entry(registry, entry));) {
        if (model_places_is_path(&registry->places, entry->name)) continue;
        if (only) return true;
        only = entry;
    }
    error_clear(&own);
    if (only && !registry_try_default(registry, only->name, &own)) log_model_failure(only->name, &own);
    return true;
}

static bool registry_open(struct registry *registry, struct error *err)
{
    const struct registry_options *options = &registry->options;
    if (!model_places_open(&registry->places, options->state, options->path, err)) return false;
    if (registry->places.path_name && !registry_add_entry(registry, registry->places.path_name, err)) return false;
    registry->closer = worker_new(err);
    registry->open = registry->closer && registry_look(registry, err) && registry_load_default(registry, err);
    return registry->open;
}

struct registry *registry_new(const struct registry_options *options, struct error *err)
{
    struct registry *registry = calloc(1, sizeof *registry);
    if (!registry) {
        error_set_no_memory(err, sizeof *registry, "the registry of models");
        return NULL;
    }
    registry->options = *options;
    pthread_mutex_init(&registry->changes, NULL);
    pthread_mutex_init(&registry->mutex, NULL);
    if (registry_open(registry, err)) return registry;
    registry_free(registry);
    return NULL;
}

/* A model whose engine runs, acquired; NULL: there is none. */
static struct served *registry_next_to_stop(struct registry *registry)
{
    pthread_mutex_lock(&registry->mutex);
    registry->stopping = true;
    struct served *served = LIST_FIRST(&registry->alive);
    while (served && (served->stopped || served->references == 0)) served = LIST_NEXT(served, link);
    if (served) {
        served->stopped = true;
        served->references++;
    }
    pthread_mutex_unlock(&registry->mutex);
    return served;
}

void registry_stop(struct registry *registry)
{
    pthread_mutex_lock(&registry->changes);
    for (struct served *served; (served = registry_next_to_stop(registry));) {
        engine_stop(served->engine);
        registry_release(served);
    }
    pthread_mutex_unlock(&registry->changes);
}

void registry_free(struct registry *registry)
{
    if (!registry) return;
    struct registry_entry *entry;
    LIST_FOREACH(entry, &registry->entries, link) registry_release(entry->served);
    if (registry->closer) worker_stop(registry->closer);
    worker_free(registry->closer);
    while ((entry = LIST_FIRST(&registry->entries))) {
        LIST_REMOVE(entry, link);
        free(entry->name);
        free(entry);
    }
    pthread_mutex_destroy(&registry->mutex);
    pthread_mutex_destroy(&registry->changes);
    model_places_close(&registry->places);
    free(registry);
}
