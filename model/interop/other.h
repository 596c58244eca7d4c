/* Files that people try to import but that are no model that lstmd reads. Their content tells what they are, so that
 * the message can say which file to import instead. Nothing parses them further. */
#ifndef LSTMD_MODEL_INTEROP_OTHER_H
#define LSTMD_MODEL_INTEROP_OTHER_H

#include <stddef.h>

/* "an ONNX model, ...: what to do". NULL: the bytes are of no known kind. */
const char *interop_other_explain(const void *data, size_t size);

#endif
