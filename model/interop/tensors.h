/* The tensors of a model in a foreign file: names, shapes, and the place of the elements in a storage. Their values are
 * read on demand, so a file's optimizer state costs nothing.
 *
 * A view may have any strides. All that it reaches must lie inside of its storage, and it may not have more elements
 * than the storage (an expanded view of one number would take any amount of memory). Life cycle: the arena's.
 */
#ifndef LSTMD_MODEL_INTEROP_TENSORS_H
#define LSTMD_MODEL_INTEROP_TENSORS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/arena.h"
#include "base/error.h"

#define FOREIGN_MAX_RANK    8
#define FOREIGN_MAX_NAME    256
#define FOREIGN_MAX_TENSORS 4096

enum foreign_type { FOREIGN_F32, FOREIGN_F16, FOREIGN_BF16, FOREIGN_F64, FOREIGN_OTHER };

struct foreign_storage {
    const char *key;
    size_t bytes;
    const unsigned char *data; /* NULL: not loaded yet */
};

struct foreign_tensor {
    const char *name;
    enum foreign_type type;
    size_t rank, shape[FOREIGN_MAX_RANK], stride[FOREIGN_MAX_RANK]; /* strides and offset in elements */
    size_t offset, count;
    struct foreign_storage *storage;
    bool used; /* the recognised network uses it */
};

/* What the file of a whole module tells of a module, beside its tensors. */
struct foreign_module {
    const char *name;       /* "rnn", "" for the outermost */
    const char *class_name; /* "torch.nn.modules.rnn.RNN" */
    bool relu;              /* nn.RNN, nn.RNNCell: nonlinearity relu */
    bool leaf;              /* it has neither parameters nor modules in it */
};

struct foreign_tensors {
    const char *place; /* of the file, for messages */
    struct foreign_tensor *list;
    size_t count, capacity;
    struct foreign_module *modules; /* none for a state_dict */
    size_t module_count, module_capacity;
    bool deduplicated; /* the file may keep only one of two tied tensors (safetensors) */
    /* Sets storage->data. NULL: all storages are loaded. */
    bool (*load)(void *context, struct foreign_storage *storage, struct error *err);
    void *context;
    struct arena *arena;
};

/* Appends a tensor and computes its count. Errors: ERROR_CORRUPT where elements lie outside of the storage or the name
 * comes twice, ERROR_TOO_LARGE beyond a limit. */
bool foreign_tensors_add(struct foreign_tensors *tensors, const struct foreign_tensor *tensor, struct error *err);
bool foreign_tensors_add_module(struct foreign_tensors *tensors, const struct foreign_module *module,
                                struct error *err);

/* Loads the elements if they are not there yet. Until then nobody may trust the sizes in the file. */
bool foreign_tensor_load(struct foreign_tensors *tensors, struct foreign_tensor *tensor, struct error *err);

/* Writes the elements of a loaded tensor row by row to out[tensor->count]. */
void foreign_tensor_read(const struct foreign_tensor *tensor, float *out);

/* Bytes of an element, 0 for FOREIGN_OTHER. */
size_t foreign_type_size(enum foreign_type type);

/* "[128, 4]" */
#define FOREIGN_SHAPE_TEXT 192
const char *foreign_shape_text(const struct foreign_tensor *tensor, char out[FOREIGN_SHAPE_TEXT]);

#endif
