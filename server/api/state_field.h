/* The field `state` of a request: a text that an answer gave (model/generate/state_text.h), or numbers:
 * {"layers": [{"h": [...], "c": [...]}]}, a layer for each of the model, h and (where the cell has one) c of its size.
 * And the same two forms in an answer. It is not the state of a session, which the daemon keeps.
 *
 * Pure functions, thread-safe. */
#ifndef LSTMD_SERVER_API_STATE_FIELD_H
#define LSTMD_SERVER_API_STATE_FIELD_H

#include <jansson.h>
#include <stdbool.h>

#include "base/json_writer.h"
#include "model/generate/state_text.h"
#include "server/http/problem.h"
#include "server/models/registry.h"

/* Whether the model has a state from one token to the next; false with the error of this field: it reads a window. */
bool state_field_is_served(const struct served *served, const char *field, struct problem *problem);

/* value: a string or an object. Takes memory for carried->state; the caller frees it, also after a failure. Numbers
 * have no pending token and no random generator. False: 422 that says what is wrong with "state", 409 for another
 * model's, 503 without memory. */
bool state_field_read(const json_t *value, const struct served *served, struct carried_state *carried,
                      struct problem *problem);

/* Writes one layer of a state as numbers, with a comma before it unless it is the first; and braces around them all:
 * {"layers":[...]}. */
void state_field_write_layer(const struct stepper *stepper, float *state, size_t layer, struct json_writer *out);

#endif
