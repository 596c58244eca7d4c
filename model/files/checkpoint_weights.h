/* The tensors of a network <-> model.safetensors, in the three formats of kernels.h.
 *
 *   f32   every tensor is F32 (F16 and BF16 are read as well)
 *   bf16  the matrices of quantize_applies() are BF16, all else F32 (each may be any of the three when it is read)
 *   int8  these matrices are I8, from -127 to 127, each with a tensor "<name>.scale" F32 [rows]: a weight is its
 *         integer times the scale of its row
 * Pure functions.
 */
#ifndef LSTMD_MODEL_FILES_CHECKPOINT_WEIGHTS_H
#define LSTMD_MODEL_FILES_CHECKPOINT_WEIGHTS_H

#include "base/error.h"
#include "model/files/safetensors.h"
#include "model/kernels/kernels.h"
#include "model/network/network.h"

/* Opens the network with the file's weights, as float32. The caller closes it, also after a failure. Errors:
 * ERROR_CORRUPT (the tensors are not exactly the architecture's in this format, or not finite), ERROR_NO_MEMORY. */
bool checkpoint_weights_read(struct network *network, const struct safetensors *file,
                             const struct architecture *architecture, enum kernel_format format, struct error *err);

/* Makes the bytes of the file; the caller frees them (free()). The weights must be finite. */
bool checkpoint_weights_serialise(const struct network *network, enum kernel_format format, unsigned char **data,
                                  size_t *size, struct error *err);

/* Whether all weights are finite. If not: `code`, with `place` and the tensor in the message. */
bool checkpoint_weights_check(const struct network *network, enum error_code code, const char *place,
                              struct error *err);

#endif
