/* The model that is served: its vocabulary, its packed weights and its description. Immutable after registry_open(), so
 * any thread may read it. The weights in the layout of the files are let go of once they are packed.
 */
#ifndef LSTMD_SERVER_REGISTRY_H
#define LSTMD_SERVER_REGISTRY_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/error.h"
#include "model/checkpoint.h"
#include "model/kernels.h"
#include "model/step.h"

struct registry {
    struct model model; /* its network is closed */
    struct stepper stepper;
    uint64_t version;  /* no other load of this process has it: what hidden states belong to */
    char *description; /* JSON object: model_describe() with name, default and labels */
    size_t description_size;
};

/* Loads the model directory as the default model, its weights as engine.weights says (kernel_format_choose()). Close
 * with registry_close(), also after a failure. */
bool registry_open(struct registry *registry, const char *directory, const struct kernels *kernels, int weights,
                   struct error *err);
void registry_close(struct registry *registry);

/* Whether a model of this name is served. */
bool registry_has(const struct registry *registry, const char *name, size_t size);

#endif
