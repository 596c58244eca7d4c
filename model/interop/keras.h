/* The reader of Keras's files (HDF5, .keras archives), and its halves: a configuration says what the model computes
 * and where its weights lie, then the weights are read. tfjs.c uses the halves, too.
 *
 * A model must be a chain: (Embedding) -> recurrent layers of one kind -> (Dense) -> Dense that gives the logits, with
 * layers between that do nothing when the model is used. Everything else is refused with the layer's name and class.
 */
#ifndef LSTMD_MODEL_INTEROP_KERAS_H
#define LSTMD_MODEL_INTEROP_KERAS_H

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/error.h"
#include "model/interop/foreign.h"
#include "model/interop/hdf5.h"
#include "model/network/network.h"

/* Reads an HDF5 file or a .keras archive. Errors: ERROR_CORRUPT for a file that is not what its format promises,
 * ERROR_INVALID for a model that cannot be kept as it is (with the layer's name and class), ERROR_TOO_LARGE,
 * ERROR_NO_MEMORY, those of file_map_open(). */
bool interop_keras_read(const char *path, struct foreign *foreign, struct error *err);

/* ---- the halves ---- */

#define KERAS_MAX_CONFIG  ((size_t)1 << 24) /* bytes of a configuration */
#define KERAS_MAX_LAYERS  1024u             /* with and without weights */
#define KERAS_MAX_WEIGHED (NETWORK_MAX_LAYERS + NETWORK_MAX_DENSE + 2)

enum keras_role {
    KERAS_EMBEDDING, /* the embedding */
    KERAS_RECURRENT, /* a recurrent layer */
    KERAS_DENSE,     /* a dense layer between these and the output */
    KERAS_OUTPUT,    /* the last dense layer */
};

/* A layer with weights. */
struct keras_layer {
    enum keras_role role;
    size_t index; /* index among the recurrent or the dense layers of struct network */
    bool bias;
    const char *name, *kind; /* its name, its class */
    const char *stem;        /* what archives call its class: "lstm" */
    const char *inside;      /* path of its variables below its group in an archive: "cell/" */
    size_t ordinal;          /* its number in its class, from 0 */
};

struct keras_model {
    struct architecture architecture; /* complete, except for the window */
    struct keras_layer layers[KERAS_MAX_WEIGHED];
    size_t layer_count;
    bool mask_zero;   /* the Embedding masks id 0 */
    bool masking;     /* there is a Masking layer */
    bool gates_apart; /* Keras 1: every gate may have tensors of its own */
    uint32_t window;  /* length of its input sequences; 0: any */
    json_t *config;   /* owner of the texts above */
};

/* Whether lstmd reads files of this version ("1.0.0" or later). *major: its first number. */
bool keras_version_parse(const char *version, unsigned *major, const char *place, struct error *err);

/* Reads `model_config` (.h5) or config.json (.keras). Close the model also after a failure. */
bool keras_model_parse(struct keras_model *model, const char *text, size_t n, unsigned major, const char *place,
                       struct error *err);
void keras_model_close(struct keras_model *model);

/* How a file arranges weights. */
enum keras_layout {
    KERAS_BY_NAME,       /* .h5: model_weights/<name>, and the names of its tensors in weight_names */
    KERAS_BY_NAME_ALONE, /* .h5 of save_weights(): the same without model_weights/ */
    KERAS_BY_CLASS /* model.weights.h5, in an archive or of save_weights(): layers/<class and ordinal>/vars/0, 1, ... */
};

/* Opens the network with the weights of the file. The caller closes it, also after a failure. Memory is taken only
 * after every shape proved right. */
bool keras_weights_read(struct network *network, const struct keras_model *model, struct hdf5 *file,
                        enum keras_layout layout, const char *place, struct error *err);

/* Reads the network once the configuration and the weights are at hand, in any form of file: sets foreign->network and
 * what else the model tells. */
bool keras_network_read(struct foreign *foreign, struct keras_model *model, struct hdf5 *file, enum keras_layout layout,
                        const char *place, struct error *err);

#endif
