/* A model that another program saved, on its way to a model directory: what the readers of foreign formats (torch.c,
 * keras.c, tfjs.c) share.
 *
 * Each reader fills in one struct foreign: the network in our layout, and whatever the file tells beyond it. A reader
 * refuses a model that would not compute the same probabilities here, and names the reason. It never executes anything.
 * The sizes of the file and of the network in it bound the memory that a reader takes.
 *
 * Life cycle: `struct foreign f = {0};`, a reader, foreign_close(), also after a failure.
 */
#ifndef LSTMD_MODEL_INTEROP_FOREIGN_H
#define LSTMD_MODEL_INTEROP_FOREIGN_H

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/arena.h"
#include "base/error.h"
#include "model/network/network.h"

/* Bytes. Readers refuse larger files, and networks whose parameters take more. */
#define INTEROP_MAX_BYTES ((size_t)4 << 30)

struct foreign {
    /* The caller sets these before the file is read. */
    const char *architecture_file; /* a Keras model's configuration, where the file holds weights alone; or NULL */
    const char *weights_file;      /* a TensorFlow.js model's weights, where the file is its model.json; or NULL */
    bool scaled_ids;               /* a step's input is one number: the token's id divided by the number of tokens */
    /* The reader sets the rest. */
    struct network network;
    const char *format; /* what the file is: "PyTorch state_dict", "Keras 2.2.4 HDF5"; in the arena */
    json_t *tokens;     /* the file's own vocabulary, as a vocabulary file would hold it: a list of tokens, or a map
                           from tokens to ids or from ids to tokens; NULL: none. vocabulary_file.h checks it */
    bool pad;           /* id 0 is padding: masked (Masking, mask_zero), so never sampled */
    uint32_t window;    /* the model was trained on windows of so many tokens; 0: the file does not say */
    json_t *notes;      /* array of sentences for the user: what was assumed, what was left out; NULL: none */
    struct arena arena; /* the reader's, for what lives as long as this */
};

void foreign_close(struct foreign *foreign);

/* Appends a sentence to foreign->notes. */
bool foreign_note(struct foreign *foreign, struct error *err, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

/* For messages about networks that read one number per step. */
#define INTEROP_SCALED_IDS                                                                                             \
    "each token's id divided by the number of tokens, where that is asked for (--scaled-ids, scaled_ids=true)"

/* For scaled ids: fills in the embedding of an open network, whose rows are one number each. */
bool foreign_scale_ids(struct foreign *foreign, struct error *err);

#endif
