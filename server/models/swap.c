/* Loading a model aside and putting it into its place. */
#include <assert.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/log.h"
#include "base/worker.h"
#include "model/network/quantize.h"
#include "server/models/internal.h"

/* Called by the closing thread after the last release. */
static void swap_close(struct task *task)
{
    struct served *served = (struct served *)task;
    struct registry *registry = served->registry;
    pthread_mutex_lock(&registry->mutex);
    LIST_REMOVE(served, link);
    const bool stopped = served->stopped;
    pthread_mutex_unlock(&registry->mutex);
    if (!stopped) engine_stop(served->engine);
    log_event(LOG_DEBUG, "model_closed", LOG_TEXT("model", served->model.name),
              LOG_INTEGER("version", served->version));
    served_free(served);
}

/* Loads a model. The result has one reference, which belongs to the entry. */
static struct served *swap_open(struct registry *registry, const struct registry_entry *entry, const char *directory,
                                struct error *err)
{
    struct served *served = served_new(&registry->options.served, directory, entry->id, err);
    if (!served) return NULL;
    served->closing.run = swap_close;
    served->registry = registry;
    served->references = 1;
    pthread_mutex_lock(&registry->mutex);
    LIST_INSERT_HEAD(&registry->alive, served, link);
    pthread_mutex_unlock(&registry->mutex);
    return served;
}

/* Drops the entry's reference to a model that was just taken out of its entry; new requests no longer find it. NULL
 * allowed. */
static void swap_retire(struct served *served)
{
    if (!served) return;
    const struct registry_options *options = &served->registry->options;
    if (options->served.engine.cache) state_cache_drop_model(options->served.engine.cache, served->version);
    sessions_drop_version(options->sessions, served->version);
    registry_release(served);
}

static void swap_set_loading(struct registry *registry, struct registry_entry *entry, bool loading)
{
    pthread_mutex_lock(&registry->mutex);
    entry->loading = loading && !entry->served;
    pthread_mutex_unlock(&registry->mutex);
}

void swap_in(struct registry *registry, struct registry_entry *entry, struct served *served)
{
    pthread_mutex_lock(&registry->mutex);
    struct served *old = entry->served;
    entry->served = served;
    entry->listed = true;
    *entry->error = '\0';
    pthread_mutex_unlock(&registry->mutex);
    swap_retire(old);
}

static void swap_note_failure(struct registry *registry, struct registry_entry *entry, const char *directory,
                              const struct error *err)
{
    pthread_mutex_lock(&registry->mutex);
    memcpy(entry->error, err->message, sizeof entry->error);
    model_places_hide(entry->error, directory);
    pthread_mutex_unlock(&registry->mutex);
}

static void log_model_loaded(const struct served *served, uint64_t begun_ns)
{
    log_event(LOG_INFO, "model_loaded", LOG_TEXT("model", served->model.name), LOG_INTEGER("version", served->version),
              LOG_TEXT("weights", kernel_format_name(served->stepper.weights.format)),
              LOG_REAL("ms", (double)(clock_monotonic_ns() - begun_ns) * 1e-6));
}

bool swap_load(struct registry *registry, const char *name, struct error *err)
{
    const uint64_t begun = clock_monotonic_ns();
    struct error own = {0};
    struct served *served = NULL;
    if (registry_is_stopping(registry)) return error_set(err, ERROR_UNAVAILABLE, "the daemon is shutting down");
    char *directory = model_places_find(&registry->places, name, err);
    struct registry_entry *entry = directory ? registry_add_entry(registry, name, err) : NULL;
    if (entry) {
        swap_set_loading(registry, entry, true);
        served = swap_open(registry, entry, directory, &own);
        if (served) {
            if (registry->open) log_model_loaded(served, begun);
            swap_in(registry, entry, served);
        } else {
            swap_note_failure(registry, entry, directory, &own);
            if (err && !err->code) *err = own;
        }
        swap_set_loading(registry, entry, false);
    }
    free(directory);
    return served;
}

void swap_set_default(struct registry *registry, struct registry_entry *entry)
{
    assert(entry); /* it is loaded, and entries are never removed */
    pthread_mutex_lock(&registry->mutex);
    registry->standard = entry;
    pthread_mutex_unlock(&registry->mutex);
    if (registry->open) log_event(LOG_INFO, "default_model", LOG_TEXT("model", entry->name));
}
