/* config.json of a model directory (checkpoint.md) <-> what the program needs of it. Pure functions, thread-safe. */
#ifndef LSTMD_MODEL_MODEL_CONFIG_H
#define LSTMD_MODEL_MODEL_CONFIG_H

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>

#include "base/error.h"
#include "base/sha256.h"
#include "model/kernels.h"
#include "model/network.h"
#include "model/vocabulary.h"

#define CHECKPOINT_FORMAT "lstmd/1"

struct model_config {
    struct architecture architecture;
    enum token_level token_level;
    enum kernel_format weights;               /* how model.safetensors keeps the matrices that stepping multiplies */
    char vocabulary_sha256[SHA256_TEXT_SIZE]; /* of the bytes of vocabulary.json, lower case */
};

/* Reads config.json's text and checks every field that is ours. Returns all of it (the caller's), or NULL with
 * ERROR_CORRUPT: a message that names the field and what it must be, `place` (a path) before it. */
json_t *model_config_parse(struct model_config *config, const char *text, size_t n, const char *place,
                           struct error *err);

/* Whether the labels that config.json lists are the vocabulary's; `place` is the vocabulary's path. */
bool model_config_check_labels(const json_t *json, const struct vocabulary *vocabulary, const char *place,
                               struct error *err);

/* The text of config.json; *n bytes, the caller's (free()). Our fields come first, in the order of checkpoint.md, then
 * those of `extra` that are not ours. `training` and `extra` may be NULL and are borrowed. */
char *model_config_print(const struct model_config *config, const struct vocabulary *vocabulary, const json_t *training,
                         const json_t *extra, size_t *n, struct error *err);

#endif
