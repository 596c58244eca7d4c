/* The layers of a Keras model's configuration in the order in which they compute: of a Sequential model as they are
 * listed, of a functional one as they are connected, which must be a chain. For interop/keras_config.c.
 */
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
    size_t ordinal;       /* how many of its (outer) class come before it in the file */
};

struct keras_chain {
    const char *place;
    struct keras_entry *entries;
    size_t count;
};

/* `json` is the whole configuration; texts and objects of the entries are borrowed from it, and `place` (a path, for
 * messages) as well. Close the chain also after a failure. */
bool keras_chain_open(struct keras_chain *chain, const json_t *json, const char *place, struct error *err);
void keras_chain_close(struct keras_chain *chain);

/* ERROR_INVALID: "place: layer "name" (class): ...". Always returns false. */
bool keras_refuse(const struct keras_chain *chain, const struct keras_entry *entry, struct error *err,
                  const char *format, ...) __attribute__((format(printf, 4, 5)));

#endif
