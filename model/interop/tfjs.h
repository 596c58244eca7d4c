/* The reader of TensorFlow.js: the model.json of a layers model, and the file of its weights (foreign->weights_file).
 */
#ifndef LSTMD_MODEL_INTEROP_TFJS_H
#define LSTMD_MODEL_INTEROP_TFJS_H

#include <stdbool.h>
#include <stddef.h>

#include "base/error.h"
#include "base/file.h"
#include "model/interop/foreign.h"

/* Errors: as interop_keras_read() (keras.h). */
bool interop_tfjs_read(const char *path, struct foreign *foreign, struct error *err);

/* The same for files in memory; `path` begins messages. */
bool interop_tfjs_read_memory(const char *path, const void *data, size_t size, const struct file_map *weights,
                              struct foreign *foreign, struct error *err);

#endif
