/* A model's card: the facts of a model directory in GET /models, without the model's state: {labels, cell, layers, ...,
 * parameters, tensors, training (model_describe()), size_bytes, modified_at, train_nats_per_character,
 * validation_nats_per_character, dataset, job}.
 */
#ifndef LSTMD_SERVER_MODELS_CARD_H
#define LSTMD_SERVER_MODELS_CARD_H

#include <jansson.h>

#include "base/error.h"
#include "model/files/checkpoint.h"

#define MODEL_CARD_TIME "%Y-%m-%dT%H:%M:%SZ" /* of modified_at; UTC */

/* model: from model_load() or model_load_config(). The result is the caller's; NULL with ERROR_NO_MEMORY. */
json_t *model_card(const struct model *model, const char *directory, struct error *err);

#endif
