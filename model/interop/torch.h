/* The reader of PyTorch's files: .pt and .pth (zip or legacy form), and a state_dict in a safetensors file. */
#ifndef LSTMD_MODEL_INTEROP_TORCH_H
#define LSTMD_MODEL_INTEROP_TORCH_H

#include <stdbool.h>
#include <stddef.h>

#include "base/error.h"
#include "model/interop/foreign.h"

/* Errors: ERROR_CORRUPT for a file that is not what its format promises, ERROR_INVALID for a model that cannot be kept
 * as it is (with the tensors' names and shapes), ERROR_TOO_LARGE, ERROR_NO_MEMORY, those of file_map_open(). */
bool interop_torch_read(const char *path, struct foreign *foreign, struct error *err);

/* The same for a file in memory; `path` begins messages. */
bool interop_torch_read_memory(const char *path, const void *data, size_t size, struct foreign *foreign,
                               struct error *err);

#endif
