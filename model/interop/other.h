/* Files that people have where a model should be, and that are none that is read: recognised by their content, so that
 * the answer says what the file is and which one to import instead. They are never parsed further.
 */
#ifndef LSTMD_MODEL_INTEROP_OTHER_H
#define LSTMD_MODEL_INTEROP_OTHER_H

#include <stddef.h>

/* "an ONNX model, ...: what to do", or NULL where the bytes are nothing that is known here. */
const char *interop_other_explain(const void *data, size_t size);

#endif
