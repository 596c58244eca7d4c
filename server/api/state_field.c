#include "server/api/state_field.h"

#include <stdlib.h>
#include <string.h>

#include "model/network/cells.h"

bool state_field_is_served(const struct served *served, const char *field, struct problem *problem)
{
    const unsigned window = served->stepper.architecture.window.size;
    return window == 0 ||
           problem_add_field(problem, field,
                             "this model keeps no state: it sees the last %u tokens; send the text so far as prompt",
                             window);
}

/* The place of a number, for messages: layers[layer].name. */
struct state_place {
    size_t layer;
    const char *name; /* "h" or "c" */
};

static bool state_read_vector(const json_t *array, struct state_place place, float *vector, size_t size,
                              struct problem *problem)
{
    if (!json_is_array(array))
        return problem_add_field(problem, "state", "layers[%zu].%s %s an array of %zu numbers", place.layer, place.name,
                                 array ? "must be" : "is missing:", size);
    if (json_array_size(array) != size)
        return problem_add_field(problem, "state", "layers[%zu].%s has %zu numbers; the layer has %zu", place.layer,
                                 place.name, json_array_size(array), size);
    for (size_t i = 0; i < size; i++) {
        const json_t *item = json_array_get(array, i);
        const double number = json_number_value(item);
        if (!json_is_number(item))
            return problem_add_field(problem, "state", "layers[%zu].%s[%zu] is not a number", place.layer, place.name,
                                     i);
        if (!state_number_is_good(number))
            return problem_add_field(problem, "state", "layers[%zu].%s[%zu] is %g; it must be within 1e9", place.layer,
                                     place.name, i, number);
        vector[i] = (float)number;
    }
    return true;
}

/* False where the object has another member than h, and c where the cell has one. */
static bool state_check_members(const json_t *layer, size_t k, bool has_cell, struct problem *problem)
{
    if (!json_is_object(layer))
        return problem_add_field(problem, "state", "layers[%zu] must be an object with %s", k,
                                 has_cell ? "\"h\" and \"c\"" : "\"h\"");
    json_t *members = (json_t *)(uintptr_t)layer; /* jansson's iterators do not change it */
    for (void *at = json_object_iter(members); at; at = json_object_iter_next(members, at)) {
        const char *name = json_object_iter_key(at);
        if (strcmp(name, "h") == 0 || (has_cell && strcmp(name, "c") == 0)) continue;
        return problem_add_field(problem, "state", "layers[%zu].%.64s: a layer of this model has %s", k, name,
                                 has_cell ? "h and c" : "h alone");
    }
    return true;
}

static bool state_read_numbers(const json_t *object, const struct stepper *stepper, float *state,
                               struct problem *problem)
{
    const struct architecture *a = &stepper->architecture;
    const json_t *layers = json_object_get(object, "layers");
    if (!json_is_array(layers) || json_object_size(object) != 1)
        return problem_add_field(problem, "state", "must have one member, the array \"layers\"");
    if (json_array_size(layers) != a->layers)
        return problem_add_field(problem, "state", "has %zu layers; the model has %lu", json_array_size(layers),
                                 (unsigned long)a->layers);
    for (size_t k = 0; k < a->layers; k++) {
        const json_t *layer = json_array_get(layers, k);
        const size_t size = architecture_hidden(a, k);
        float *c = state_vector(stepper, state, k, true);
        if (!state_check_members(layer, k, c, problem) ||
            !state_read_vector(json_object_get(layer, "h"), (struct state_place){k, "h"},
                               state_vector(stepper, state, k, false), size, problem))
            return false;
        if (c && !state_read_vector(json_object_get(layer, "c"), (struct state_place){k, "c"}, c, size, problem))
            return false;
    }
    return true;
}

bool state_field_read(const json_t *value, const struct served *served, struct carried_state *carried,
                      struct problem *problem)
{
    const struct state_owner owner = served_state_owner(served);
    struct error err = {0};
    *carried = (struct carried_state){.pending = TOKEN_NONE};
    if (!state_field_is_served(served, "state", problem)) return false;
    carried->state = calloc(served->stepper.state_size, sizeof *carried->state);
    if (!carried->state) return problem_set(problem, 503, "out of memory");
    if (!json_is_string(value)) return state_read_numbers(value, &served->stepper, carried->state, problem);
    if (state_text_read(&owner, json_string_value(value), json_string_length(value), carried, &err)) return true;
    return err.code == ERROR_INVALID ? problem_add_field(problem, "state", "%s", err.message)
                                     : problem_set_error(problem, &err);
}

static void state_write_vector(const float *vector, size_t n, struct json_writer *out)
{
    for (size_t i = 0; i < n; i++) {
        json_write(out, i > 0 ? "," : "[", 1);
        json_write_real(out, (double)vector[i]);
    }
    json_write_literal(out, "]");
}

void state_field_write_layer(const struct stepper *stepper, float *state, size_t layer, struct json_writer *out)
{
    const struct architecture *a = &stepper->architecture;
    const size_t size = architecture_hidden(a, layer);
    const float *c = state_vector(stepper, state, layer, true);
    if (layer > 0)
        json_write_literal(out, ",{\"h\":");
    else
        json_write_literal(out, "{\"layers\":[{\"h\":");
    state_write_vector(state_vector(stepper, state, layer, false), size, out);
    if (c) {
        json_write_literal(out, ",\"c\":");
        state_write_vector(c, size, out);
    }
    json_write_literal(out, "}");
    if (layer + 1 == a->layers) json_write_literal(out, "]}");
}
