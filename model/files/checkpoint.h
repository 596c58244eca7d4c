/* A model directory <-> memory: config.json (model_config.h), vocabulary.json (model/text/vocabulary.h),
 * model.safetensors (checkpoint_weights.h).
 *
 * Loading is strict: every field of config.json is checked, tensors must be exactly those of the architecture, the
 * vocabulary's SHA-256 and size must match, weights must be finite. Every refusal is one line that names the file and
 * the tensor or field. All of it is of one model, even where the
 * directory is replaced meanwhile. Saving publishes the directory atomically (base/file.h): after any failure the
 * previous one is intact. A loaded model is immutable and may be shared by threads.
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
    enum kernel_format weights; /* how the file keeps the matrices that stepping multiplies */
    struct vocabulary *vocabulary;
    json_t *config; /* all of config.json, unknown keys kept; "training" may be read from here */
};

/* Loads DIR; after a failure there is nothing to close, but closing is harmless. Errors: ERROR_NOT_FOUND, ERROR_IO,
 * ERROR_CORRUPT, ERROR_TOO_LARGE, ERROR_NO_MEMORY. */
bool model_load(struct model *model, const char *directory, struct error *err);
void model_close(struct model *model);

/* Reads config.json alone, for model_describe(): the network has its layout and no parameters, there is no vocabulary.
 */
bool model_load_config(struct model *model, const char *directory, struct error *err);

/* What a model in this directory is called: the last component of the path; "." and ".." are followed to what they
 * stand for. free() it. */
char *model_directory_name(const char *directory, struct error *err);

/* Publishes a model directory. `training` becomes config.json's "training" (NULL: none); `extra` (NULL: none) holds
 * keys of config.json to keep that lstmd does not set itself (a model's whole `config` will do: the rest is not taken
 * from it). Both are borrowed. The same arguments give the same bytes. Errors: ERROR_INVALID where network and
 * vocabulary differ in size, ERROR_NUMERIC for weights that are not finite, those of directory_publish_begin(). */
bool checkpoint_save(const char *directory, const struct network *network, const struct vocabulary *vocabulary,
                     const json_t *training, const json_t *extra, struct error *err);

/* The same, with the matrices that stepping multiplies in another format (checkpoint_weights.h). */
struct checkpoint_parts {
    const struct network *network;
    const struct vocabulary *vocabulary;
    enum kernel_format format;
    const json_t *training, *extra;
};
bool checkpoint_save_as(const char *directory, const struct checkpoint_parts *parts, struct error *err);

/* Publishes a copy of a model directory, byte for byte, without looking into the files. Errors: those of reading, and
 * of directory_publish_begin(). */
bool checkpoint_copy(const char *from, const char *to, struct error *err);

/* What `lstmd inspect` shows, as JSON: {name, cell, layers, hidden_size, embedding_size, vocabulary_size, token_level,
 * tie_weights, weights, parameters, recurrent_parameters, embedding_parameters, output_parameters, tensors: [{name,
 * shape, parameters}], training}, and what config.json says of a variant. output_parameters counts dense layers too.
 * Caller owns the result; NULL on failure. */
json_t *model_describe(const struct model *model, struct error *err);

#endif
