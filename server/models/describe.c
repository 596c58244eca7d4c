/* Descriptions of models for clients, loaded or not. */
#include <stdlib.h>
#include <string.h>

#include "base/json.h"
#include "server/models/card.h"
#include "server/models/internal.h"

static bool describe_add_error(json_t *json, const char *message)
{
    return json_object_set_new(json, "error", json_safe_string(message, strlen(message))) == 0;
}

/* The state of an entry at this moment: {name, state, default, error}; *served is acquired if the model is loaded. */
static json_t *describe_state(struct registry *registry, const struct registry_entry *entry, struct served **served)
{
    pthread_mutex_lock(&registry->mutex);
    *served = entry->served;
    if (*served) (*served)->references++;
    const char *state = *served ? "loaded" : entry->loading ? "loading" : "unloaded";
    const bool there = *served || entry->listed;
    json_t *json = there ? json_pack("{s:o, s:s, s:b}", "name", json_safe_string(entry->name, strlen(entry->name)),
                                     "state", state, "default", (int)(entry == registry->standard))
                         : NULL;
    if (json && *entry->error && !describe_add_error(json, entry->error)) {
        json_decref(json);
        json = NULL;
    }
    pthread_mutex_unlock(&registry->mutex);
    return json;
}

/* The card of a model that is not loaded, made from its config.json only. */
static json_t *describe_read_card(const struct registry *registry, const struct registry_entry *entry,
                                  struct error *err)
{
    json_t *card = NULL;
    struct model model = {0};
    char *directory = model_places_find(&registry->places, entry->name, err);
    if (directory && model_load_config(&model, directory, err)) card = model_card(&model, directory, err);
    if (directory && !card && err) model_places_hide(err->message, directory);
    model_close(&model);
    free(directory);
    return card;
}

/* NULL: the model does not exist, or out of memory. */
static json_t *describe_entry(struct registry *registry, const struct registry_entry *entry)
{
    struct error err = {0};
    struct served *served;
    json_t *json = describe_state(registry, entry, &served);
    json_t *card = served ? json_incref(served->card) : json ? describe_read_card(registry, entry, &err) : NULL;
    bool good = json && err.code != ERROR_NO_MEMORY;
    if (good && card)
        good = json_object_update_missing(json, card) == 0;
    else if (good && !json_object_get(json, "error"))
        good = describe_add_error(json, err.message);
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
    registry_look(registry, NULL);
    const struct registry_entry *entry = registry_entry_of(registry, name);
    json_t *json = entry ? describe_entry(registry, entry) : NULL;
    if (!json && entry && registry_has(registry, entry))
        error_set_no_memory(err, 0, "the description of a model");
    else if (!json)
        error_set(err, ERROR_NOT_FOUND, "there is no model \"%s\"", name);
    return json;
}

bool registry_next(struct registry *registry, const void **position, json_t **model, struct error *err)
{
    if (!*position) registry_look(registry, NULL);
    for (const struct registry_entry *entry = *position; (entry = registry_next_entry(registry, entry));) {
        *position = entry;
        *model = describe_entry(registry, entry);
        if (!*model && registry_has(registry, entry)) return error_set_no_memory(err, 0, "the description of a model");
        if (!*model) continue;
        json_object_del(*model, "tensors");
        json_object_del(*model, "training");
        return true;
    }
    return false;
}
