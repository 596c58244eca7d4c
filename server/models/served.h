/* One load of a model: its vocabulary, its packed weights, its card and an engine of its own; immutable but for what is
 * the registry's. The weights in the layout of the files are let go of once they are packed.
 */
#ifndef LSTMD_SERVER_MODELS_SERVED_H
#define LSTMD_SERVER_MODELS_SERVED_H

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/error.h"
#include "base/worker.h"
#include "model/files/checkpoint.h"
#include "model/generate/step.h"
#include "model/kernels/kernels.h"
#include "server/engine/engine.h"

struct registry;

struct served {
    struct task closing; /* first: the registry's closing thread gives it back */
    struct model model;  /* its network is closed; model.name is what it is called */
    struct stepper stepper;
    struct engine *engine;
    uint64_t name_id;     /* the same for all loads of this name: what sessions belong to */
    uint64_t version;     /* no other load of this process has it: what hidden states belong to */
    uint64_t fingerprint; /* of the files, as they were before they were read */
    json_t *card;         /* server/models/card.h */

    /* The registry's, under its lock. */
    struct registry *registry;
    struct served *next;
    size_t references;
    bool stopped;
};

struct served_options {
    const struct kernels *kernels;
    int weights;                  /* engine.weights */
    struct engine_options engine; /* stepper and model are set by served_new() */
};

/* Loads the directory, warms it and starts its engine. Close with engine_stop(), then served_free(). */
struct served *served_new(const struct served_options *options, const char *directory, uint64_t name_id,
                          struct error *err);
void served_free(struct served *served);

/* Differs where the directory was replaced or one of its files was written. */
uint64_t served_fingerprint(const char *directory);

#endif
