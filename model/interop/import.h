/* A model that another program saved, on its way to a model directory.
 *
 * Every reader of a foreign format (interop/torch.c, interop/keras.c) fills in one struct foreign: the network in our
 * layout, and whatever the file tells beyond it. Readers refuse what would not compute the same probabilities, and name
 * it; they never execute anything, and what they allocate is bounded by the size of the file and of the network in it.
 *
 * Life cycle: `struct foreign f = {0};`, a reader, foreign_close(), also after a failure.
 */
#ifndef LSTMD_MODEL_INTEROP_IMPORT_H
#define LSTMD_MODEL_INTEROP_IMPORT_H

#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>

#include "base/arena.h"
#include "base/error.h"
#include "model/interop/vocabulary_file.h"
#include "model/network/network.h"

/* Readers refuse files beyond this, and networks whose parameters are more bytes. */
#define INTEROP_MAX_BYTES ((size_t)4 << 30)

struct foreign {
    /* What is known beside the file, set before it is read. */
    const char *architecture_file; /* the configuration of a Keras model whose weights alone are in the file; or NULL */
    const char *weights_file;      /* the weights of a TensorFlow.js model, whose model.json the file is; or NULL */
    bool scaled_ids; /* a step's input is one number, the token's id divided by how many tokens there are */
    struct network network;
    const char *format; /* what the file is: "PyTorch state_dict", "Keras 2.2.4 HDF5"; in the arena */
    json_t *tokens;  /* the file's own vocabulary, as a vocabulary file would hold it: a list of tokens, or a map from
                        tokens to ids or from ids to tokens; NULL: none. Not checked: interop/vocabulary_file.h does */
    bool pad;        /* id 0 is padding: masked (Masking, mask_zero), so never sampled */
    uint32_t window; /* tokens of the windows that it was trained on, where the file tells; 0: it does not */
    json_t *notes;   /* array of sentences for the user: what was assumed, what was left out; NULL: none */
    struct arena arena; /* the reader's, for what lives as long as this */
};

void foreign_close(struct foreign *foreign);

/* Appends a sentence to foreign->notes. */
bool foreign_note(struct foreign *foreign, struct error *err, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

/* For messages about networks that read one number per step. */
#define INTEROP_SCALED_IDS                                                                                             \
    "each token's id divided by the number of tokens, where that is asked for (--scaled-ids, scaled_ids=true)"

/* Makes the embedding of one number that scaled ids are, of an open network that has one. */
bool foreign_scale_ids(struct foreign *foreign, struct error *err);

/* Reads an HDF5 file or a .keras archive. Errors: ERROR_CORRUPT for a file that is not what its format promises,
 * ERROR_INVALID for a model that cannot be kept as it is (with the layer's name and class), those of file_map_open().
 */
bool interop_keras_read(const char *path, struct foreign *foreign, struct error *err);

/* Reads a .pt or .pth file (zip or legacy form) or a state_dict in a safetensors file. Errors: as above. */
bool interop_torch_read(const char *path, struct foreign *foreign, struct error *err);

/* Reads the model.json of a TensorFlow.js layers model, and foreign->weights_file. Errors: as above. */
bool interop_tfjs_read(const char *path, struct foreign *foreign, struct error *err);

/* The same for files in memory; `path` begins messages. */
struct file_map;
bool interop_tfjs_read_memory(const char *path, const void *data, size_t size, const struct file_map *weights,
                              struct foreign *foreign, struct error *err);

/* interop_torch_read() of a file in memory; `path` begins messages. */
bool interop_torch_read_memory(const char *path, const void *data, size_t size, struct foreign *foreign,
                               struct error *err);

enum interop_kind { INTEROP_UNKNOWN, INTEROP_KERAS, INTEROP_TORCH, INTEROP_TFJS };

/* What a file is, by its content. */
enum interop_kind interop_recognise(const void *data, size_t size);

struct interop_options {
    const char *vocabulary;      /* a file that interop_vocabulary_from_file() reads; NULL: none */
    const char *architecture;    /* see struct foreign */
    const char *weights;         /* the same */
    bool scaled_ids;             /* the same */
    const char *vocabulary_text; /* the text that the model was trained on; NULL: none */
    enum interop_order order;    /* of the text's tokens */
    bool lower;                  /* the text was lower-cased */
    enum interop_level level;    /* what tokens are */
    uint32_t window;             /* trained on windows of so many tokens, and to be served so; 0: state is carried */
    enum activation
        rnn_activation; /* of nn.RNN, which a state_dict does not tell; DEFAULT: as the file says, or tanh */
};

/* All zero. */
extern const struct interop_options interop_defaults;

/* Makes a model directory (published as by checkpoint_save()) of a file of another program. The vocabulary is what the
 * options name, or what the file itself holds. *notes (NULL allowed) gets an array of sentences for the user, the
 * caller's. `name` is what the file is called in config.json's "training". Errors: those of the readers, of
 * interop/vocabulary_file.h and of checkpoint_save(); ERROR_INVALID where there is no vocabulary or two. */
bool interop_import(const char *path, const char *name, const struct interop_options *options, const char *directory,
                    json_t **notes, struct error *err);

#endif
