/* A file of another program -> a model directory. This is what `lstmd import` and POST /models/{name}/import call.
 *
 * import.c recognises the format and calls a reader (torch.h, keras.h, tfjs.h), finds the vocabulary
 * (vocabulary_file.h), and saves both. foreign.h says what every reader promises.
 */
#ifndef LSTMD_MODEL_INTEROP_IMPORT_H
#define LSTMD_MODEL_INTEROP_IMPORT_H

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/error.h"
#include "model/interop/vocabulary_file.h"
#include "model/network/architecture.h"

enum interop_kind {
    INTEROP_UNKNOWN, /* none of these */
    INTEROP_KERAS,   /* HDF5, or an archive with config.json at its top */
    INTEROP_TORCH,   /* any other archive, a pickle, safetensors */
    INTEROP_TFJS,    /* model.json */
};

/* What a file is, by its content. */
enum interop_kind interop_recognise(const void *data, size_t size);

struct interop_options {
    const char *vocabulary;         /* a file that interop_vocabulary_from_file() reads; NULL: none */
    const char *architecture;       /* a file with a Keras model's configuration, beside its weights; NULL: none */
    const char *weights;            /* a file with a TensorFlow.js model's weights, beside model.json; NULL: none */
    bool scaled_ids;                /* a step's input is one number: the token's id divided by the number of tokens */
    const char *vocabulary_text;    /* the text that the model was trained on; NULL: none */
    enum interop_order order;       /* of the text's tokens */
    bool lower;                     /* the text was lower-cased */
    enum interop_level level;       /* what tokens are */
    uint32_t window;                /* predict each token from the last so many, as in training; 0: carry the state */
    enum activation rnn_activation; /* of nn.RNN, which no state_dict tells; DEFAULT: as the file says, or tanh */
};

/* All zero. */
extern const struct interop_options interop_defaults;

/* Reads the file at `path` and publishes a model directory, as checkpoint_save() does. The vocabulary comes from where
 * the options say, or from the file itself. *notes (NULL allowed) gets an array of sentences for the user; the caller
 * owns it. config.json's "training" calls the file `name`. Errors: those of the readers, of vocabulary_file.h and of
 * checkpoint_save(); ERROR_INVALID where there is no vocabulary, or more than one. */
bool interop_import(const char *path, const char *name, const struct interop_options *options, const char *directory,
                    json_t **notes, struct error *err);

#endif
