#include "server/registry.h"

#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

#include "model/json_text.h"
#include "model/quantize.h"
#include "server/problem.h"

static json_t *label_names(const struct vocabulary *vocabulary)
{
    json_t *names = json_array();
    for (uint32_t i = 0; i < vocabulary_label_count(vocabulary); i++) {
        size_t n;
        const char *name = vocabulary_token(vocabulary, vocabulary_label(vocabulary, i), &n);
        json_array_append_new(names, json_safe_string(name, n));
    }
    return names;
}

static bool describe(struct registry *registry, struct error *err)
{
    json_t *details = model_describe(&registry->model, err);
    if (!details) return false;
    json_t *whole =
        json_pack("{s:o, s:b, s:o}", "name", json_safe_string(registry->model.name, strlen(registry->model.name)),
                  "default", 1, "labels", label_names(registry->model.vocabulary));
    if (whole && json_object_update_missing(whole, details) == 0)
        registry->description = json_text_print(whole, JSON_COMPACT, &registry->description_size, NULL);
    json_decref(whole);
    json_decref(details);
    if (!registry->description) return error_set_no_memory(err, 0, "the model's description");
    return true;
}

bool registry_open(struct registry *registry, const char *directory, const struct kernels *kernels, int weights,
                   struct error *err)
{
    static atomic_uint_fast64_t versions;
    *registry = (struct registry){.version = atomic_fetch_add(&versions, 1) + 1};
    if (!model_load(&registry->model, directory, err)) return false;
    if (!describe(registry, err)) return false;
    const enum kernel_format format = kernel_format_choose(weights, registry->model.weights);
    if (!stepper_open_as(&registry->stepper, &registry->model.network, kernels, format, err)) return false;
    network_close(&registry->model.network);
    registry->model.network = (struct network){0};
    return true;
}

void registry_close(struct registry *registry)
{
    free(registry->description);
    stepper_close(&registry->stepper);
    model_close(&registry->model);
    *registry = (struct registry){0};
}

bool registry_has(const struct registry *registry, const char *name, size_t size)
{
    return strlen(registry->model.name) == size && memcmp(registry->model.name, name, size) == 0;
}
