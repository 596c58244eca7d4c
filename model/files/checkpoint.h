/* A model directory <-> memory: config.json (model_config.h), vocabulary.json (model/text/vocabulary.h),
 * model.safetensors (checkpoint_weights.h).
 *
 * Loading is strict. It checks every field of config.json; the tensors must be exactly those of the architecture, the
 * vocabulary must have its SHA-256 and size, weights must be finite. Every refusal is one line that names the file and
 * the tensor or field. All parts are of one model, even where somebody replaces the directory meanwhile. Saving
 * publishes the directory atomically (base/file.h): after a failure the previous one is intact. Nothing changes a
 * loaded model, so threads may share it.
 */
#ifndef LSTMD_MODEL_FILES_CHECKPOINT_H
#define LSTMD_MODEL_FILES_CHECKPOINT_H

#include <jansson.h>
#include <stdbool.h>

#include "base/error.h"
#include "model/kernels/kernels.h"
#include "model/network/network.h"
#include "model/text/vocabulary.h"

struct model {
    char *name;                 /* the last component of the directory's path */
    struct network network;     /* float32, whatever the file keeps */
    enum kernel_format weights; /* how the file keeps the matrices of a step */
    struct vocabulary *vocabulary;
    json_t *config; /* all of config.json, with unknown keys and "training" */
};

/* Loads DIR; after a failure there is nothing to close, but closing is harmless. Errors: ERROR_NOT_FOUND, ERROR_IO,
 * ERROR_CORRUPT, ERROR_TOO_LARGE, ERROR_NO_MEMORY. */
bool model_load(struct model *model, const char *directory, struct error *err);
void model_close(struct model *model);

/* Reads config.json alone, for model_describe(). The network has its layout and no parameters, and there is no
 * vocabulary. */
bool model_load_config(struct model *model, const char *directory, struct error *err);

/* The name of a model in this directory: the last component of the path. "." and ".." are resolved first. free() it. */
char *model_directory_name(const char *directory, struct error *err);

/* Publishes a model directory. `training` (NULL: none) becomes config.json's "training". `extra` (NULL: none) holds
 * further keys for config.json; those that lstmd sets itself are ignored, so a model's whole `config` will do. Both are
 * borrowed. The same arguments give the same bytes. Errors: ERROR_INVALID where network and vocabulary differ in size,
 * ERROR_NUMERIC for weights that are not finite, those of directory_publish_begin(). */
bool checkpoint_save(const char *directory, const struct network *network, const struct vocabulary *vocabulary,
                     const json_t *training, const json_t *extra, struct error *err);

/* The same, with the matrices of a step in another format (checkpoint_weights.h). */
struct checkpoint_parts {
    const struct network *network;
    const struct vocabulary *vocabulary;
    enum kernel_format format;
    const json_t *training, *extra;
};
bool checkpoint_save_as(const char *directory, const struct checkpoint_parts *parts, struct error *err);

/* Publishes a copy of a model directory, byte for byte, without parsing the files. Errors: those of reading, and of
 * directory_publish_begin(). */
bool checkpoint_copy(const char *from, const char *to, struct error *err);

/* What `lstmd inspect` shows, as JSON: {name, cell, layers, hidden_size, embedding_size, vocabulary_size, token_level,
 * tie_weights, weights, parameters, recurrent_parameters, embedding_parameters, output_parameters, tensors: [{name,
 * shape, parameters}], training}, and the fields of a variant in config.json. output_parameters counts dense layers,
 * too. The caller owns the result; NULL on failure. */
json_t *model_describe(const struct model *model, struct error *err);

#endif
