/* One load of a model: its vocabulary, its packed weights, its card and an engine of its own. Immutable, except for the
 * registry's fields. The weights in the layout of the files are freed when they are packed.
 */
#ifndef LSTMD_SERVER_MODELS_SERVED_H
#define LSTMD_SERVER_MODELS_SERVED_H

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/queue.h>

#include "base/error.h"
#include "base/worker.h"
#include "model/files/checkpoint.h"
#include "model/generate/state_text.h"
#include "model/generate/step.h"
#include "model/kernels/kernels.h"
#include "server/engine/engine.h"

struct registry;

struct served {
    struct task closing; /* first; for the registry's closing thread */
    struct model model;  /* its network is closed */
    struct stepper stepper;
    unsigned char weights[NETWORK_DIGEST_SIZE]; /* network_digest() of the weights */
    struct engine *engine;
    uint64_t name_id;     /* the same for all loads of this name; sessions are bound to it */
    uint64_t version;     /* different for each load; hidden states are bound to it */
    uint64_t fingerprint; /* served_fingerprint(), taken before the files were read */
    json_t *card;         /* server/models/card.h */

    /* Fields of the registry, which its lock guards. */
    struct registry *registry;
    LIST_ENTRY(served) link;
    size_t references;
    bool stopped;
};

struct served_options {
    const struct kernels *kernels;
    int weights;                  /* engine.weights */
    bool library;                 /* OpenBLAS multiplies where texts are read (stepper->library) */
    struct engine_options engine; /* stepper and model are set by served_new() */
};

/* Loads the directory, warms the model and starts its engine. Close with engine_stop(), then served_free(). */
struct served *served_new(const struct served_options *options, const char *directory, uint64_t name_id,
                          struct error *err);
void served_free(struct served *served);

/* The owner of the states of its sequences; it borrows from `served`. */
struct state_owner served_state_owner(const struct served *served);

/* A number that changes if the directory is replaced or one of its files is written. */
uint64_t served_fingerprint(const char *directory);

/* The time when the weights were written, in seconds since 1970; 0: not known. */
int64_t served_modified(const struct served *served);

#endif
