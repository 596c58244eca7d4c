/* The layers of a Keras model's configuration in the order in which they compute. A Sequential model lists them in that
 * order; in a functional model their connections tell it, and must form a chain. For keras_config.c. */
#ifndef LSTMD_MODEL_INTEROP_KERAS_CHAIN_H
#define LSTMD_MODEL_INTEROP_KERAS_CHAIN_H

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>

#include "base/error.h"

struct keras_entry {
    const char *name;
    const char *kind;     /* its class; within TimeDistributed that of the inner layer */
    const json_t *config; /* of the same */
    bool distributed;     /* within TimeDistributed */
    size_t ordinal;       /* number of layers of its (outer) class before it in the file */
};

struct keras_chain {
    const char *place;
    struct keras_entry *entries;
    size_t count;
};

/* `json` is the whole configuration; `place` (a path) begins messages. The entries borrow from both. Close the chain
 * also after a failure. */
bool keras_chain_open(struct keras_chain *chain, const json_t *json, const char *place, struct error *err);
void keras_chain_close(struct keras_chain *chain);

/* ERROR_INVALID: "place: layer "name" (class): ...". Always returns false. */
bool keras_refuse(const struct keras_chain *chain, const struct keras_entry *entry, struct error *err,
                  const char *format, ...) __attribute__((format(printf, 4, 5)));

#endif
