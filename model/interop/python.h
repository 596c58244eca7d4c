/* Python values as JSON, of the descriptions that a pickle gives (interop/pickle.h): dictionaries and objects are
 * objects, whose keys may be integers (as decimal text), lists and tuples are arrays. NumPy's integers are integers.
 * What JSON has not (classes, bytes, sets) is null. Nothing is executed, and values that contain themselves, or share
 * parts many times over, are refused.
 */
#ifndef LSTMD_MODEL_INTEROP_PYTHON_H
#define LSTMD_MODEL_INTEROP_PYTHON_H

#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>

#include "base/error.h"
#include "model/interop/pickle.h"

/* New reference, or NULL. `place` begins messages. Errors: ERROR_INVALID for texts that are not UTF-8 and keys that are
 * neither text nor integers, ERROR_TOO_LARGE, ERROR_NO_MEMORY. */
json_t *python_to_json(const struct pickle_value *value, const char *place, struct error *err);

/* The characters of a text as a list. Errors: as above. */
json_t *python_characters_to_json(const struct pickle_value *text, const char *place, struct error *err);

/* Entries of a dict or of an object that was made as one; the state of another object. Never NULL. */
const struct pickle_list *python_entries(const struct pickle_value *value);

/* Whether a file begins and ends as a pickle of a vocabulary does, in any protocol. */
bool python_recognise_pickle(const void *data, size_t size);

#endif
