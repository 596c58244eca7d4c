/* What the files recurrent*.c share: a network while it is recognised. Nobody else includes this.
 *
 * recurrent.c finds out what each tensor is, then recurrent_values.c copies the values.
 */
#ifndef LSTMD_MODEL_INTEROP_RECURRENT_INTERNAL_H
#define LSTMD_MODEL_INTEROP_RECURRENT_INTERNAL_H

#include "model/interop/recurrent.h"

#define MAX_STACKS 16 /* groups of recurrent tensors with one prefix */

/* The tensors of a recurrent layer, in the order of their names. */
enum part {
    WEIGHT_IH,  /* of the input product */
    WEIGHT_HH,  /* of the hidden product */
    BIAS_IH,    /* of the input product */
    BIAS_HH,    /* of the hidden product */
    PART_COUNT, /* their number */
};
struct layer {
    struct foreign_tensor *parts[PART_COUNT];
};

/* Recurrent tensors whose names begin alike. */
struct stack {
    const char *prefix; /* "encoder.rnn."; not NUL-terminated */
    size_t prefix_length;
    bool cell; /* the names have no layer numbers */
    struct layer layers[NETWORK_MAX_LAYERS];
};

struct model_parts {
    struct foreign_tensors *tensors;
    struct foreign *foreign; /* for its notes */
    struct stack stacks[MAX_STACKS];
    size_t stack_count;
    struct layer layers[NETWORK_MAX_LAYERS];
    size_t layer_count;
    struct architecture architecture;
    struct foreign_tensor *embedding, *output, *output_bias;
};

/* Loads all tensors: each of them has its place by now. */
bool recurrent_load_values(struct foreign_tensors *tensors, struct error *err);

/* Copies the values into an open network. The two biases become one where the cell has one. */
bool recurrent_read_values(const struct model_parts *parts, struct network *network, struct error *err);

#endif
