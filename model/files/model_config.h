/* config.json of a model directory <-> what the program needs of it. Pure functions, thread-safe.
 *
 *   format                 "lstmd/1"
 *   cell                   "lstm", "gru", "rnn"
 *   layers, hidden_size    of the recurrent layers; hidden_size is the top layer's where they differ
 *   hidden_sizes           only where layers differ: the size of each
 *   embedding_size         0: one-hot input
 *   vocabulary_size, token_level ("char", "word", "byte"), tie_weights
 *   activation, recurrent_activation    only where they are not tanh and sigmoid: "tanh", "sigmoid", "relu", "linear",
 *                          "hard_sigmoid", "hard_sigmoid_keras2" (model/network/architecture.h)
 *   reset_after            GRU: false where the reset gate stands inside the hidden product
 *   dense                  only where there are dense layers before the output: [{"size": 64, "activation": "relu"}]
 *   window                 only where every token is predicted from the last N: {"size": N, "masked": true or false}
 *   weights                "bf16", "int8"; absent: "f32" (model/files/checkpoint_weights.h)
 *   vocabulary_sha256      of vocabulary.json: one that does not belong to the weights is refused
 *   labels                 names of a conditional model's labels
 *   training               how the weights came to be: an object that nothing depends on
 * Other keys are kept when a model is written again.
 */
#ifndef LSTMD_MODEL_FILES_MODEL_CONFIG_H
#define LSTMD_MODEL_FILES_MODEL_CONFIG_H

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>

#include "base/error.h"
#include "base/sha256.h"
#include "model/kernels/kernels.h"
#include "model/network/network.h"
#include "model/text/vocabulary.h"

#define CHECKPOINT_FORMAT "lstmd/1"

struct model_config {
    struct architecture architecture;
    enum token_level token_level;
    enum kernel_format weights;               /* how model.safetensors keeps the matrices of a step */
    char vocabulary_sha256[SHA256_TEXT_SIZE]; /* of the bytes of vocabulary.json, lower case */
};

/* Reads config.json's text and checks every field that lstmd knows. Returns all of it (the caller's), or NULL with
 * ERROR_CORRUPT: the message begins with `place` (a path), names the field and says what it must be. */
json_t *model_config_parse(struct model_config *config, const char *text, size_t n, const char *place,
                           struct error *err);

/* Whether the labels that config.json lists are the vocabulary's; `place` is the vocabulary's path. */
bool model_config_check_labels(const json_t *json, const struct vocabulary *vocabulary, const char *place,
                               struct error *err);

/* Adds the fields of a variant, hidden_sizes to window, to an object. False: no memory. */
bool model_config_put_variant(json_t *json, const struct architecture *architecture);

/* Makes the text of config.json: *n bytes, the caller's (free()). Our fields come first, in a fixed order, then those
 * of `extra` that are not ours. `training` and `extra` may be NULL and are borrowed. */
char *model_config_print(const struct model_config *config, const struct vocabulary *vocabulary, const json_t *training,
                         const json_t *extra, size_t *n, struct error *err);

#endif
