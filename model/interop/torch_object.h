/* What a pickle of torch.save() describes: the model, and the vocabulary beside it.
 *
 * The functions that would rebuild tensors (torch._utils._rebuild_tensor_v2 ...) mark tensors; persistent ids mark
 * storages; _parameters and _modules mark modules. A model is a state_dict, a module, or either of them under any key
 * of a checkpoint. Exactly one model with recurrent layers must be there. All else is skipped.
 */
#ifndef LSTMD_MODEL_INTEROP_TORCH_OBJECT_H
#define LSTMD_MODEL_INTEROP_TORCH_OBJECT_H

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/error.h"
#include "model/interop/pickle.h"
#include "model/interop/tensors.h"

struct torch_storage {
    struct foreign_storage storage; /* key and bytes from the persistent id */
    enum foreign_type type;
    size_t item_size; /* 1 for untyped storages */
};

/* The storages that a pickle names, sorted by key. */
struct torch_storages {
    struct torch_storage *list;
    size_t count;
};

/* Reads the persistent ids among the objects of a pickle. Also turns ordered dictionaries of Python 2, which are made
 * of a list of pairs, into ordinary ones. Errors: ERROR_CORRUPT where an id is not that of a storage, or two of one key
 * differ. */
bool torch_storages_read(struct torch_storages *storages, const struct pickle_list *objects, const char *place,
                         struct arena *arena, struct error *err);
struct torch_storage *torch_storages_find(const struct torch_storages *storages, const char *key, size_t n);

/* Adds the tensors and modules of the one model in `root`. *kind is what it was ("state_dict", "whole module").
 * Errors: ERROR_INVALID where there is none or more than one. */
bool torch_object_read(struct pickle_value *root, const struct torch_storages *storages,
                       struct foreign_tensors *tensors, const char **kind, struct error *err);

/* The vocabulary of V tokens beside the model, under one of the usual names (tokens, char2int, itos ...), as JSON: a
 * list of tokens or a map. NULL: none that fits (or no memory: a hint is not worth an error). */
json_t *torch_object_tokens(struct pickle_value *root, size_t vocabulary_size);

#endif
