/* The list of names, and the references to models. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "server/models/internal.h"

bool registry_is_stopping(struct registry *registry)
{
    pthread_mutex_lock(&registry->mutex);
    const bool stopping = registry->stopping;
    pthread_mutex_unlock(&registry->mutex);
    return stopping;
}

/* With the mutex locked. */
static struct registry_entry *registry_find(const struct registry *registry, const char *name, size_t size)
{
    struct registry_entry *entry = LIST_FIRST(&registry->entries);
    while (entry && (strlen(entry->name) != size || memcmp(entry->name, name, size) != 0))
        entry = LIST_NEXT(entry, link);
    return entry;
}

struct registry_entry *registry_entry_of(struct registry *registry, const char *name)
{
    pthread_mutex_lock(&registry->mutex);
    struct registry_entry *entry = registry_find(registry, name, strlen(name));
    pthread_mutex_unlock(&registry->mutex);
    return entry;
}

struct registry_entry *registry_next_entry(struct registry *registry, const struct registry_entry *entry)
{
    pthread_mutex_lock(&registry->mutex);
    struct registry_entry *next = entry ? LIST_NEXT(entry, link) : LIST_FIRST(&registry->entries);
    pthread_mutex_unlock(&registry->mutex);
    return next;
}

/* A new entry in its place in the list; NULL: out of memory. With the mutex locked. */
static struct registry_entry *registry_insert(struct registry *registry, const char *name)
{
    struct registry_entry *entry = calloc(1, sizeof *entry), *at, *previous = NULL;
    if (entry) entry->name = strdup(name);
    if (!entry || !entry->name) {
        free(entry);
        return NULL;
    }
    entry->id = ++registry->ids;
    LIST_FOREACH(at, &registry->entries, link)
    {
        if (strcmp(at->name, name) > 0) break;
        previous = at;
    }
    if (previous)
        LIST_INSERT_AFTER(previous, entry, link);
    else
        LIST_INSERT_HEAD(&registry->entries, entry, link);
    return entry;
}

struct registry_entry *registry_add_entry(struct registry *registry, const char *name, struct error *err)
{
    pthread_mutex_lock(&registry->mutex);
    struct registry_entry *entry = registry_find(registry, name, strlen(name));
    if (!entry) entry = registry_insert(registry, name);
    pthread_mutex_unlock(&registry->mutex);
    if (!entry) error_set_no_memory(err, sizeof *entry, "a model's name");
    return entry;
}

bool registry_look(struct registry *registry, struct error *err)
{
    json_t *names = model_places_names(&registry->places, err);
    if (!names) return false;
    bool good = true;
    for (void *at = json_object_iter(names); good && at; at = json_object_iter_next(names, at))
        good = registry_add_entry(registry, json_object_iter_key(at), err);
    pthread_mutex_lock(&registry->mutex);
    struct registry_entry *entry;
    LIST_FOREACH(entry, &registry->entries, link) entry->listed = json_object_get(names, entry->name);
    pthread_mutex_unlock(&registry->mutex);
    json_decref(names);
    return good;
}

bool registry_has(struct registry *registry, const struct registry_entry *entry)
{
    pthread_mutex_lock(&registry->mutex);
    const bool there = entry->served || entry->listed;
    pthread_mutex_unlock(&registry->mutex);
    return there;
}

/* "a", "b": the models that are loaded. With the mutex locked. */
static void registry_name_loaded(const struct registry *registry, char *out, size_t size)
{
    const struct registry_entry *entry;
    size_t used = 0;
    *out = '\0';
    LIST_FOREACH(entry, &registry->entries, link)
    if (entry->served && used < size)
        used += (size_t)snprintf(out + used, size - used, "%s\"%s\"", used > 0 ? ", " : "", entry->name);
}

/* Sets the error that says why there is nothing to acquire. Call with the mutex locked. */
static void registry_explain(const struct registry *registry, const struct registry_entry *entry, const char *name,
                             size_t size, struct error *err)
{
    char loaded[256];
    registry_name_loaded(registry, loaded, sizeof loaded);
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
    const struct registry_entry *entry = name ? registry_find(registry, name, size) : registry->standard;
    struct served *served = entry ? entry->served : NULL;
    if (served)
        served->references++;
    else
        registry_explain(registry, entry, name, size, err);
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

void registry_each_loaded(struct registry *registry,
                          void (*see)(void *context, const struct served *served, bool is_default), void *context)
{
    const struct registry_entry *entry;
    pthread_mutex_lock(&registry->mutex);
    LIST_FOREACH(entry, &registry->entries, link)
    if (entry->served) see(context, entry->served, entry == registry->standard);
    pthread_mutex_unlock(&registry->mutex);
}

struct served *registry_next_loaded(struct registry *registry, const void **position)
{
    struct served *served = NULL;
    pthread_mutex_lock(&registry->mutex);
    const struct registry_entry *entry = *position;
    for (entry = entry ? LIST_NEXT(entry, link) : LIST_FIRST(&registry->entries); entry && !served;
         entry = LIST_NEXT(entry, link)) {
        *position = entry;
        served = entry->served;
        if (served) served->references++;
    }
    pthread_mutex_unlock(&registry->mutex);
    return served;
}
