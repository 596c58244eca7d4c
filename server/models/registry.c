#include "server/models/registry.h"

#include <assert.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/file.h"
#include "base/json.h"
#include "base/log.h"
#include "model/network/quantize.h"
#include "server/models/card.h"
#include "server/models/places.h"

/* A name. Entries stay as long as the registry, so that a pointer to one needs no lock. */
struct entry {
    struct entry *next;
    char *name;
    uint64_t id;
    bool listed;                    /* a directory of this name was there at the last look */
    bool loading;                   /* for the first time */
    struct served *served;          /* NULL: not loaded */
    char error[ERROR_MESSAGE_SIZE]; /* of the last attempt to load it; "": none, or it succeeded */
};

struct registry {
    struct registry_options options;
    struct model_places places;
    struct worker *closer;   /* stops and frees what nobody uses any more */
    bool open;               /* changes are logged; what is loaded at the start is in the line that says so */
    pthread_mutex_t changes; /* taken before `mutex`, and for as long as a change takes */
    pthread_mutex_t mutex;   /* guards all below, and what struct served says; no lock is taken under it */
    struct entry *entries;   /* by name */
    uint64_t ids;
    struct entry *standard; /* the default; NULL: there is none. It is loaded. */
    struct served *alive;   /* all that are not freed */
    bool stopping;
};

static bool is_stopping(struct registry *registry)
{
    pthread_mutex_lock(&registry->mutex);
    const bool stopping = registry->stopping;
    pthread_mutex_unlock(&registry->mutex);
    return stopping;
}

/* --- References --- */

/* The closing thread, when the last reference is gone. */
static void close_served(struct task *task)
{
    struct served *served = (struct served *)task;
    struct registry *registry = served->registry;
    pthread_mutex_lock(&registry->mutex);
    struct served **link = &registry->alive;
    while (*link != served) link = &(*link)->next;
    *link = served->next;
    const bool stopped = served->stopped;
    pthread_mutex_unlock(&registry->mutex);
    if (!stopped) engine_stop(served->engine);
    log_event(LOG_DEBUG, "model_closed", LOG_TEXT("model", served->model.name),
              LOG_INTEGER("version", served->version));
    served_free(served);
}

/* With one reference, the entry's. */
static struct served *open_served(struct registry *registry, const struct entry *entry, const char *directory,
                                  struct error *err)
{
    struct served *served = served_new(&registry->options.served, directory, entry->id, err);
    if (!served) return NULL;
    served->closing.run = close_served;
    served->registry = registry;
    served->references = 1;
    pthread_mutex_lock(&registry->mutex);
    served->next = registry->alive;
    registry->alive = served;
    pthread_mutex_unlock(&registry->mutex);
    return served;
}

void registry_release(struct served *served)
{
    if (!served) return;
    struct registry *registry = served->registry;
    pthread_mutex_lock(&registry->mutex);
    const bool last = --served->references == 0;
    pthread_mutex_unlock(&registry->mutex);
    if (last) worker_submit(registry->closer, &served->closing);
}

/* What was just taken out of its entry (NULL allowed): new requests do not find it any more. */
static void retire(struct served *served)
{
    if (!served) return;
    const struct registry_options *options = &served->registry->options;
    if (options->served.engine.cache) state_cache_drop_model(options->served.engine.cache, served->version);
    sessions_drop_version(options->sessions, served->version);
    registry_release(served);
}

/* --- Entries --- */

/* With the mutex locked. */
static struct entry *find(const struct registry *registry, const char *name, size_t size)
{
    struct entry *entry = registry->entries;
    while (entry && (strlen(entry->name) != size || memcmp(entry->name, name, size) != 0)) entry = entry->next;
    return entry;
}

static struct entry *entry_of(struct registry *registry, const char *name)
{
    pthread_mutex_lock(&registry->mutex);
    struct entry *entry = find(registry, name, strlen(name));
    pthread_mutex_unlock(&registry->mutex);
    return entry;
}

/* The first one after `entry`; NULL: the first of all. */
static struct entry *next_entry(struct registry *registry, const struct entry *entry)
{
    pthread_mutex_lock(&registry->mutex);
    struct entry *next = entry ? entry->next : registry->entries;
    pthread_mutex_unlock(&registry->mutex);
    return next;
}

/* The entry of that name, made where there is none. */
static struct entry *add(struct registry *registry, const char *name, struct error *err)
{
    pthread_mutex_lock(&registry->mutex);
    struct entry *entry = find(registry, name, strlen(name));
    if (!entry && (entry = calloc(1, sizeof *entry))) {
        entry->name = strdup(name);
        entry->id = ++registry->ids;
        struct entry **link = &registry->entries;
        while (entry->name && *link && strcmp((*link)->name, name) < 0) link = &(*link)->next;
        if (entry->name) {
            entry->next = *link;
            *link = entry;
        } else {
            free(entry);
            entry = NULL;
        }
    }
    pthread_mutex_unlock(&registry->mutex);
    if (!entry) error_set_no_memory(err, sizeof *entry, "a model's name");
    return entry;
}

/* Looks which directories there are. */
static bool look(struct registry *registry, struct error *err)
{
    json_t *names = model_places_names(&registry->places, err);
    if (!names) return false;
    bool good = true;
    for (void *at = json_object_iter(names); good && at; at = json_object_iter_next(names, at))
        good = add(registry, json_object_iter_key(at), err);
    pthread_mutex_lock(&registry->mutex);
    for (struct entry *entry = registry->entries; entry; entry = entry->next)
        entry->listed = json_object_get(names, entry->name);
    pthread_mutex_unlock(&registry->mutex);
    json_decref(names);
    return good;
}

/* --- Changes; all of these run with `changes` locked --- */

static void set_loading(struct registry *registry, struct entry *entry, bool loading)
{
    pthread_mutex_lock(&registry->mutex);
    entry->loading = loading && !entry->served;
    pthread_mutex_unlock(&registry->mutex);
}

/* Puts `served` (NULL: nothing) into its place and retires what was there. */
static void swap(struct registry *registry, struct entry *entry, struct served *served)
{
    pthread_mutex_lock(&registry->mutex);
    struct served *old = entry->served;
    entry->served = served;
    entry->listed = true;
    *entry->error = '\0';
    pthread_mutex_unlock(&registry->mutex);
    retire(old);
}

/* Who may see models need not know where they lie: a file of the directory keeps its own name alone. A directory's name
 * may be a word of the message, or its full stop: it is a path only where one begins and goes on. */
static void hide_directory(char *message, const char *directory)
{
    const size_t n = strlen(directory);
    for (char *at = message; n > 0 && (at = strstr(at, directory));) {
        const size_t cut = n + (at[n] == '/');
        const bool begins = at == message || strchr(" \"'(", at[-1]), goes_on = at[n] != '\0' && strchr("/:\"'", at[n]);
        if (*directory == '/' || (begins && goes_on))
            memmove(at, at + cut, strlen(at + cut) + 1);
        else
            at += n;
    }
}

static void note_failure(struct registry *registry, struct entry *entry, const char *directory, const struct error *err)
{
    pthread_mutex_lock(&registry->mutex);
    memcpy(entry->error, err->message, sizeof entry->error);
    hide_directory(entry->error, directory);
    pthread_mutex_unlock(&registry->mutex);
}

static void log_loaded(const struct served *served, uint64_t begun_ns)
{
    log_event(LOG_INFO, "model_loaded", LOG_TEXT("model", served->model.name), LOG_INTEGER("version", served->version),
              LOG_TEXT("weights", kernel_format_name(served->stepper.weights.format)),
              LOG_REAL("ms", (double)(clock_monotonic_ns() - begun_ns) * 1e-6));
}

static bool load(struct registry *registry, const char *name, struct error *err)
{
    const uint64_t begun = clock_monotonic_ns();
    struct error own = {0};
    struct served *served = NULL;
    if (is_stopping(registry)) return error_set(err, ERROR_UNAVAILABLE, "the daemon is shutting down");
    char *directory = model_places_find(&registry->places, name, err);
    struct entry *entry = directory ? add(registry, name, err) : NULL;
    if (entry) {
        set_loading(registry, entry, true);
        served = open_served(registry, entry, directory, &own);
        if (served) {
            if (registry->open) log_loaded(served, begun);
            swap(registry, entry, served);
        } else {
            note_failure(registry, entry, directory, &own);
            if (err && !err->code) *err = own;
        }
        set_loading(registry, entry, false);
    }
    free(directory);
    return served;
}

static void set_standard(struct registry *registry, struct entry *entry)
{
    assert(entry); /* it is loaded, and entries stay */
    pthread_mutex_lock(&registry->mutex);
    registry->standard = entry;
    pthread_mutex_unlock(&registry->mutex);
    if (registry->open) log_event(LOG_INFO, "default_model", LOG_TEXT("model", entry->name));
}

/* The loaded model of that name becomes the default, now and at the next start. */
static bool choose(struct registry *registry, const char *name, struct error *err)
{
    if (!model_places_set_default(&registry->places, name, err)) return false;
    set_standard(registry, entry_of(registry, name));
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
    const bool done = load(registry, name, err) && (registry->standard || choose(registry, name, err));
    pthread_mutex_unlock(&registry->changes);
    return done;
}

/* The entry that a change is about: loaded, or there to be loaded. */
static struct entry *known(struct registry *registry, const char *name, struct error *err)
{
    struct entry *entry = entry_of(registry, name);
    if (entry && entry->served) return entry;
    char *directory = model_places_find(&registry->places, name, err);
    entry = directory ? add(registry, name, err) : NULL;
    free(directory);
    return entry;
}

bool registry_unload(struct registry *registry, const char *name, struct error *err)
{
    pthread_mutex_lock(&registry->changes);
    struct entry *entry = known(registry, name, err);
    bool done = entry;
    if (entry && entry == registry->standard)
        done = error_set(err, ERROR_CONFLICT, "\"%s\" is the default model; make another one the default first", name);
    else if (entry && entry->served) {
        swap(registry, entry, NULL);
        log_event(LOG_INFO, "model_unloaded", LOG_TEXT("model", name));
    }
    pthread_mutex_unlock(&registry->changes);
    return done;
}

bool registry_set_default(struct registry *registry, const char *name, struct error *err)
{
    if (!state_dir_require(registry->options.state, err)) return false;
    pthread_mutex_lock(&registry->changes);
    const struct entry *entry = known(registry, name, err);
    const bool done = entry && (entry->served || load(registry, name, err)) && choose(registry, name, err);
    pthread_mutex_unlock(&registry->changes);
    return done;
}

/* The directory of a model that may be removed; free() it. */
static char *find_removable(struct registry *registry, const char *name, struct error *err)
{
    struct error own = {0};
    const struct entry *entry = entry_of(registry, name);
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

static bool remove_model(struct registry *registry, const char *name, struct error *err)
{
    char *path = find_removable(registry, name, err);
    if (!path) return false;
    struct entry *entry = add(registry, name, err);
    const bool done = entry && directory_remove(path, err);
    if (done) {
        swap(registry, entry, NULL);
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
    const bool done = remove_model(registry, name, err);
    pthread_mutex_unlock(&registry->changes);
    return done;
}

static void log_failure(const char *name, const struct error *err)
{
    log_event(LOG_ERROR, "model_not_loaded", LOG_TEXT("model", name), LOG_TEXT("error", err->message));
}

bool registry_reload(struct registry *registry)
{
    struct error err = {0};
    bool good = true;
    pthread_mutex_lock(&registry->changes);
    look(registry, NULL);
    for (struct entry *entry = NULL; (entry = next_entry(registry, entry));) {
        char *directory = entry->served ? model_places_find(&registry->places, entry->name, NULL) : NULL;
        if (directory && served_fingerprint(directory) != entry->served->fingerprint &&
            !load(registry, entry->name, &err)) {
            log_failure(entry->name, &err);
            good = false;
        }
        error_clear(&err);
        free(directory);
    }
    char *name = model_places_default(&registry->places, &err);
    const struct entry *entry = name ? known(registry, name, &err) : NULL;
    if (entry && entry != registry->standard && (entry->served || load(registry, name, &err)))
        set_standard(registry, entry_of(registry, name));
    if (err.code) log_failure(name, &err);
    good = good && !err.code;
    free(name);
    pthread_mutex_unlock(&registry->changes);
    return good;
}

/* --- Start and end --- */

/* Tries to make it the default, for this run. */
static bool try_default(struct registry *registry, const char *name, struct error *err)
{
    if (!load(registry, name, err)) return false;
    set_standard(registry, entry_of(registry, name));
    return true;
}

static bool load_default(struct registry *registry, struct error *err)
{
    struct error own = {0};
    char *name = model_places_default(&registry->places, &own);
    const bool done = name && try_default(registry, name, &own);
    if (own.code) log_failure(name, &own);
    free(name);
    if (done) return true;
    error_clear(&own);
    if (registry->places.path_name && try_default(registry, registry->places.path_name, &own)) return true;
    if (registry->places.path_name && registry->options.path_required) {
        error_add_context(&own, "%s", registry->options.path_origin);
        if (err && !err->code) *err = own;
        return false;
    }
    const struct entry *only = NULL;
    for (const struct entry *entry = NULL; (entry = next_entry(registry, entry));) {
        if (model_places_is_path(&registry->places, entry->name)) continue;
        if (only) return true;
        only = entry;
    }
    error_clear(&own);
    if (only && !try_default(registry, only->name, &own)) log_failure(only->name, &own);
    return true;
}

static bool open_registry(struct registry *registry, struct error *err)
{
    const struct registry_options *options = &registry->options;
    if (!model_places_open(&registry->places, options->state, options->path, err)) return false;
    if (registry->places.path_name && !add(registry, registry->places.path_name, err)) return false;
    registry->closer = worker_new(err);
    registry->open = registry->closer && look(registry, err) && load_default(registry, err);
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
    if (open_registry(registry, err)) return registry;
    registry_free(registry);
    return NULL;
}

/* One whose engine runs, with a reference to it; NULL: there is none. */
static struct served *next_to_stop(struct registry *registry)
{
    pthread_mutex_lock(&registry->mutex);
    registry->stopping = true;
    struct served *served = registry->alive;
    while (served && (served->stopped || served->references == 0)) served = served->next;
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
    for (struct served *served; (served = next_to_stop(registry));) {
        engine_stop(served->engine);
        registry_release(served);
    }
    pthread_mutex_unlock(&registry->changes);
}

void registry_free(struct registry *registry)
{
    if (!registry) return;
    for (struct entry *entry = registry->entries; entry; entry = entry->next) registry_release(entry->served);
    if (registry->closer) worker_stop(registry->closer);
    worker_free(registry->closer);
    for (struct entry *entry = registry->entries, *next; entry; entry = next) {
        next = entry->next;
        free(entry->name);
        free(entry);
    }
    pthread_mutex_destroy(&registry->mutex);
    pthread_mutex_destroy(&registry->changes);
    model_places_close(&registry->places);
    free(registry);
}

/* --- What requests call --- */

/* "a", "b": the models that are loaded. With the mutex locked. */
static void name_loaded(const struct registry *registry, char *out, size_t size)
{
    size_t used = 0;
    *out = '\0';
    for (const struct entry *entry = registry->entries; entry && used < size; entry = entry->next)
        if (entry->served)
            used += (size_t)snprintf(out + used, size - used, "%s\"%s\"", used > 0 ? ", " : "", entry->name);
}

/* Why there is nothing to acquire. With the mutex locked. */
static void explain(const struct registry *registry, const struct entry *entry, const char *name, size_t size,
                    struct error *err)
{
    char loaded[256];
    name_loaded(registry, loaded, sizeof loaded);
    const char *text = *loaded ? loaded : "none";
    if (!name && !registry->options.state)
        error_set(err, ERROR_UNAVAILABLE, "there is no model");
    else if (!name)
        error_set(err, ERROR_UNAVAILABLE,
                  "there is no default model: train one with POST /train, or PUT /models/default names one");
    else if (entry && entry->loading)
        error_set(err, ERROR_UNAVAILABLE, "the model \"%s\" is being loaded", entry->name);
    else if (entry && entry->listed)
        error_set(err, ERROR_CONFLICT, "the model \"%s\" is not loaded; POST /models/%s/load loads it", entry->name,
                  entry->name);
    else
        error_set(err, ERROR_NOT_FOUND, "there is no model \"%.*s\"; loaded: %s", (int)(size < 64 ? size : 64), name,
                  text);
}

struct served *registry_acquire(struct registry *registry, const char *name, size_t size, struct error *err)
{
    pthread_mutex_lock(&registry->mutex);
    const struct entry *entry = name ? find(registry, name, size) : registry->standard;
    struct served *served = entry ? entry->served : NULL;
    if (served)
        served->references++;
    else
        explain(registry, entry, name, size, err);
    pthread_mutex_unlock(&registry->mutex);
    return served;
}

void registry_each_loaded(struct registry *registry,
                          void (*see)(void *context, const struct served *served, bool is_default), void *context)
{
    pthread_mutex_lock(&registry->mutex);
    for (const struct entry *entry = registry->entries; entry; entry = entry->next)
        if (entry->served) see(context, entry->served, entry == registry->standard);
    pthread_mutex_unlock(&registry->mutex);
}

/* --- Describing --- */

static bool add_error(json_t *json, const char *message)
{
    return json_object_set_new(json, "error", json_safe_string(message, strlen(message))) == 0;
}

/* What is true of an entry at this moment: {name, state, default, error}; *served is acquired where it is loaded. */
static json_t *describe_state(struct registry *registry, const struct entry *entry, struct served **served)
{
    pthread_mutex_lock(&registry->mutex);
    *served = entry->served;
    if (*served) (*served)->references++;
    const char *state = *served ? "loaded" : entry->loading ? "loading" : "unloaded";
    const bool there = *served || entry->listed;
    json_t *json = there ? json_pack("{s:o, s:s, s:b}", "name", json_safe_string(entry->name, strlen(entry->name)),
                                     "state", state, "default", (int)(entry == registry->standard))
                         : NULL;
    if (json && *entry->error && !add_error(json, entry->error)) {
        json_decref(json);
        json = NULL;
    }
    pthread_mutex_unlock(&registry->mutex);
    return json;
}

/* The card of a model that is not loaded, from its config.json alone. */
static json_t *read_card(const struct registry *registry, const struct entry *entry, struct error *err)
{
    json_t *card = NULL;
    struct model model = {0};
    char *directory = model_places_find(&registry->places, entry->name, err);
    if (directory && model_load_config(&model, directory, err)) card = model_card(&model, directory, err);
    if (directory && !card && err) hide_directory(err->message, directory);
    model_close(&model);
    free(directory);
    return card;
}

static bool is_there(struct registry *registry, const struct entry *entry)
{
    pthread_mutex_lock(&registry->mutex);
    const bool there = entry->served || entry->listed;
    pthread_mutex_unlock(&registry->mutex);
    return there;
}

/* NULL where it is not there, or memory is out. */
static json_t *describe(struct registry *registry, const struct entry *entry)
{
    struct error err = {0};
    struct served *served;
    json_t *json = describe_state(registry, entry, &served);
    json_t *card = served ? json_incref(served->card) : json ? read_card(registry, entry, &err) : NULL;
    bool good = json && err.code != ERROR_NO_MEMORY;
    if (good && card)
        good = json_object_update_missing(json, card) == 0;
    else if (good && !json_object_get(json, "error"))
        good = add_error(json, err.message);
    if (!good) {
        json_decref(json);
        json = NULL;
    }
    json_decref(card);
    registry_release(served);
    return json;
}

json_t *registry_describe(struct registry *registry, const char *name, struct error *err)
{
    look(registry, NULL);
    const struct entry *entry = entry_of(registry, name);
    json_t *json = entry ? describe(registry, entry) : NULL;
    if (!json && entry && is_there(registry, entry))
        error_set_no_memory(err, 0, "the description of a model");
    else if (!json)
        error_set(err, ERROR_NOT_FOUND, "there is no model \"%s\"", name);
    return json;
}

bool registry_next(struct registry *registry, const void **position, json_t **model, struct error *err)
{
    if (!*position) look(registry, NULL);
    for (const struct entry *entry = *position; (entry = next_entry(registry, entry));) {
        *position = entry;
        *model = describe(registry, entry);
        if (!*model && is_there(registry, entry)) return error_set_no_memory(err, 0, "the description of a model");
        if (!*model) continue;
        json_object_del(*model, "tensors");
        json_object_del(*model, "training");
        return true;
    }
    return false;
}

struct served *registry_next_loaded(struct registry *registry, const void **position)
{
    struct served *served = NULL;
    pthread_mutex_lock(&registry->mutex);
    const struct entry *entry = *position;
    for (entry = entry ? entry->next : registry->entries; entry && !served; entry = entry->next) {
        *position = entry;
        served = entry->served;
        if (served) served->references++;
    }
    pthread_mutex_unlock(&registry->mutex);
    return served;
}
