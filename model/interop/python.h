/* Python values as JSON, from the descriptions that pickle.h gives. Dictionaries and objects become objects, whose keys
 * may be integers (as decimal text). Lists and tuples become arrays, NumPy's integers integers. What JSON lacks
 * (classes, bytes, sets) becomes null. Nothing is executed. Values that contain themselves, or share parts many times
 * over, are refused. */
#ifndef LSTMD_MODEL_INTEROP_PYTHON_H
#define LSTMD_MODEL_INTEROP_PYTHON_H

#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>

#include "base/error.h"
#include "model/interop/pickle.h"

/* Returns a new reference, or NULL. `place` begins messages. Errors: ERROR_INVALID for texts that are not UTF-8 and
 * keys that are neither text nor integers, ERROR_TOO_LARGE, ERROR_NO_MEMORY. */
json_t *python_to_json(const struct pickle_value *value, const char *place, struct error *err);

/* The characters of a text as an array. Errors: as above. */
json_t *python_characters_to_json(const struct pickle_value *text, const char *place, struct error *err);

/* Entries of a dict, or of an object that was made as one; for other objects those of their state. Never NULL. */
const struct pickle_list *python_entries(const struct pickle_value *value);

/* Whether a file begins and ends like a pickle of a vocabulary, in any protocol. */
bool python_recognise_pickle(const void *data, size_t size);

#endif
