#include "model/interop/keras_chain.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "model/interop/keras.h"

/* A listed layer, before it has its place in the chain. */
struct listed {
    struct keras_entry entry;
    const json_t *json;
    const char *inbound; /* the layer that it computes on; NULL: none, because it is the input */
    bool taken;
};

bool keras_refuse(const struct keras_chain *chain, const struct keras_entry *entry, struct error *err,
                  const char *format, ...)
{
    char problem[ERROR_MESSAGE_SIZE];
    va_list arguments;
    va_start(arguments, format);
    (void)vsnprintf(problem, sizeof problem, format, arguments);
    va_end(arguments);
    return error_set(err, ERROR_INVALID, "%s: layer \"%.64s\" (%.64s): %.300s", chain->place, entry->name, entry->kind,
                     problem);
}

static bool chain_malformed(const struct keras_chain *chain, struct error *err, const char *problem)
{
    return error_set(err, ERROR_CORRUPT, "%s: the model's configuration: %s", chain->place, problem);
}

static bool class_is(const struct listed *layer, const char *kind)
{
    const char *outer = json_string_value(json_object_get(layer->json, "class_name"));
    return outer && strcmp(outer, kind) == 0;
}

/* Reads name, class and configuration of a listed layer. */
static bool read_entry(const struct keras_chain *chain, const json_t *json, struct keras_entry *entry,
                       struct error *err)
{
    const json_t *config = json_object_get(json, "config");
    const json_t *name = json_object_get(config, "name");
    *entry = (struct keras_entry){.config = config, .kind = json_string_value(json_object_get(json, "class_name"))};
    entry->name = json_string_value(name ? name : json_object_get(json, "name"));
    if (!entry->kind || !json_is_object(config))
        return chain_malformed(chain, err, "a layer has no class_name or config");
    if (!entry->name) return chain_malformed(chain, err, "a layer has no name");
    if (strcmp(entry->kind, "TimeDistributed") != 0) return true;
    const json_t *inner = json_object_get(config, "layer");
    entry->distributed = true;
    entry->kind = json_string_value(json_object_get(inner, "class_name"));
    entry->config = json_object_get(inner, "config");
    if (entry->kind && json_is_object(entry->config)) return true;
    return chain_malformed(chain, err, "a TimeDistributed layer has no inner layer");
}

static bool read_listed(const struct keras_chain *chain, const json_t *layers, struct listed *listed, struct error *err)
{
    for (size_t i = 0; i < chain->count; i++) {
        listed[i].json = json_array_get(layers, i);
        if (!read_entry(chain, listed[i].json, &listed[i].entry, err)) return false;
        const char *outer = json_string_value(json_object_get(listed[i].json, "class_name"));
        for (size_t k = 0; k < i; k++) listed[i].entry.ordinal += class_is(&listed[k], outer);
    }
    return true;
}

/* --- Connections of functional models --- */

static bool is_null_or_flag(const json_t *value)
{
    return !value || json_is_null(value) || json_is_boolean(value);
}

/* Whether the keywords of a call change nothing in use: training, and masks (see is_mask()). */
static bool keywords_are_harmless(const json_t *keywords)
{
    const char *key;
    json_t *value;
    json_object_foreach((json_t *)keywords, key, value)
    {
        if (strcmp(key, "mask") != 0 && !is_null_or_flag(value)) return false;
    }
    return true;
}

/* The layer in [layer, node, tensor]; NULL where this is not the first output of the first call. */
static const char *tensor_source(const json_t *tensor)
{
    const json_t *node = json_array_get(tensor, 1), *output = json_array_get(tensor, 2);
    bool first = json_is_integer(node) && json_is_integer(output) && json_integer_value(node) == 0 &&
                 json_integer_value(output) == 0;
    return first ? json_string_value(json_array_get(tensor, 0)) : NULL;
}

/* Keras 2: [[layer, node, tensor, keywords]], or only the inner list. */
static const char *inbound_of_lists(const json_t *node)
{
    const json_t *tensor = json_is_array(json_array_get(node, 0)) ? json_array_get(node, 0) : node;
    if (tensor != node && json_array_size(node) != 1) return NULL;
    return keywords_are_harmless(json_array_get(tensor, 3)) ? tensor_source(tensor) : NULL;
}

/* Keras 3: {"args": [tensor, ...], "kwargs": {...}}; a tensor is {"class_name": "__keras_tensor__", "config":
 * {"keras_history": [layer, node, tensor]}}. */
static const char *inbound_of_call(const json_t *node)
{
    const json_t *arguments = json_object_get(node, "args");
    const json_t *tensor = json_object_get(json_array_get(arguments, 0), "config");
    if (json_array_size(arguments) != 1 || !keywords_are_harmless(json_object_get(node, "kwargs"))) return NULL;
    return tensor_source(json_object_get(tensor, "keras_history"));
}

/* In Keras 3 the making of a mask is layers of its own. A mask only skips padding, and nobody feeds padding here. */
static bool is_mask(const struct listed *layer)
{
    return class_is(layer, "NotEqual") || class_is(layer, "Any");
}

static bool read_inbound(const struct keras_chain *chain, struct listed *layer, struct error *err)
{
    const json_t *nodes = json_object_get(layer->json, "inbound_nodes");
    const json_t *node = json_array_get(nodes, 0);
    if (json_array_size(nodes) == 0 || is_mask(layer)) return true;
    layer->inbound = json_is_object(node) ? inbound_of_call(node) : inbound_of_lists(node);
    if (json_array_size(nodes) == 1 && layer->inbound) return true;
    return keras_refuse(chain, &layer->entry, err,
                        "it computes on several inputs or is used more than once; only a chain of layers is imported");
}

/* The one layer that computes on `name` (NULL: on nothing). NULL after an error, or at the end of the chain. */
static struct listed *find_next(const struct keras_chain *chain, struct listed *listed, const char *name,
                                struct error *err)
{
    struct listed *found = NULL;
    for (size_t i = 0; i < chain->count; i++) {
        const char *inbound = listed[i].inbound;
        if (is_mask(&listed[i]) || !inbound != !name || (name && strcmp(inbound, name) != 0)) continue;
        if (found || listed[i].taken) {
            keras_refuse(chain, &listed[i].entry, err, "the model branches here; only a chain of layers is imported");
            return NULL;
        }
        found = &listed[i];
    }
    return found;
}

/* Puts the layers into chain->entries in the order of their connections. */
static bool connect_layers(struct keras_chain *chain, struct listed *listed, struct error *err)
{
    size_t count = 0, masks = 0;
    struct error problem = {0};
    for (size_t i = 0; i < chain->count; i++) {
        masks += is_mask(&listed[i]);
        if (!read_inbound(chain, &listed[i], err)) return false;
    }
    const char *name = NULL;
    for (struct listed *next; (next = find_next(chain, listed, name, &problem)); name = next->entry.name) {
        next->taken = true;
        chain->entries[count++] = next->entry;
    }
    if (problem.code != ERROR_NONE) return error_set(err, problem.code, "%s", problem.message);
    if (count + masks != chain->count) return chain_malformed(chain, err, "its layers are not one chain");
    chain->count = count;
    return true;
}

/* The list of layers, and whether names connect them. NULL: the model is of another kind. */
static const json_t *find_layers(const json_t *json, bool *functional)
{
    const char *kind = json_string_value(json_object_get(json, "class_name"));
    const json_t *config = json_object_get(json, "config");
    *functional = kind && (strcmp(kind, "Functional") == 0 || strcmp(kind, "Model") == 0);
    if (!kind || (!*functional && strcmp(kind, "Sequential") != 0)) return NULL;
    return json_is_array(config) ? config : json_object_get(config, "layers");
}

static bool order_entries(struct keras_chain *chain, struct listed *listed, const json_t *layers, bool functional,
                          struct error *err)
{
    if (!read_listed(chain, layers, listed, err)) return false;
    if (functional) return connect_layers(chain, listed, err);
    for (size_t i = 0; i < chain->count; i++) chain->entries[i] = listed[i].entry;
    return true;
}

bool keras_chain_open(struct keras_chain *chain, const json_t *json, const char *place, struct error *err)
{
    bool functional;
    *chain = (struct keras_chain){.place = place};
    const json_t *layers = find_layers(json, &functional);
    if (!layers) {
        const char *kind = json_string_value(json_object_get(json, "class_name"));
        return error_set(err, ERROR_INVALID,
                         "%s: the model is of class %.64s; Sequential models and functional ones are imported", place,
                         kind ? kind : "that it does not name");
    }
    chain->count = json_array_size(layers);
    if (chain->count == 0 || chain->count > KERAS_MAX_LAYERS)
        return chain_malformed(chain, err, "it has no layers, or more than 1024");
    struct listed *listed = calloc(chain->count, sizeof *listed);
    chain->entries = calloc(chain->count, sizeof *chain->entries);
    bool ok = listed && chain->entries;
    if (ok)
        ok = order_entries(chain, listed, layers, functional, err);
    else
        error_set_no_memory(err, chain->count * sizeof *listed, "the layers of a Keras model");
    free(listed);
    return ok;
}

void keras_chain_close(struct keras_chain *chain)
{
    free(chain->entries);
    *chain = (struct keras_chain){0};
}
