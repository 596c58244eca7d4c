/* A network's weights arranged for stepping, in one of the formats of kernels.h; made from a struct network, immutable,
 * shared by threads. Training has its own arrangement: train/packed.h.
 *
 * Letters: Hp, Ep, Vp are H (of a layer), E, V rounded up to whole blocks of 16; the padding is zero. G: gates. A row
 * of gates is that of network/gates.h, [Hp/16][G][16], where the step is a fused kernel; else [G][Hp], in the file's
 * order, as the products of step_variant.c make them.
 */
#ifndef LSTMD_MODEL_GENERATE_STEP_WEIGHTS_H
#define LSTMD_MODEL_GENERATE_STEP_WEIGHTS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/arena.h"
#include "base/error.h"
#include "model/kernels/kernels.h"
#include "model/network/network.h"

struct step_layer {
    size_t width;                /* Hp */
    size_t gate_row;             /* floats of one row of gates: G*Hp */
    const float *table;          /* [V][G*Hp] one-hot layer 0: the input product and bias of each token; else NULL */
    const float *bias;           /* [G*Hp] input bias; NULL where there is a table */
    const float *bias_hh;        /* [G*Hp] where the products are apart; else NULL, or zeros on the plain way */
    struct kernel_matrix input;  /* [G*Hp] x [Ep or Hp below]; inputs 0 where there is a table */
    struct kernel_matrix hidden; /* [G*Hp] x [Hp] */
};

/* A layer without state: the dense ones and the output. */
struct step_dense {
    size_t width; /* outputs, rounded up to whole blocks */
    struct kernel_matrix matrix;
    const float *bias; /* [width] */
};

struct step_weights {
    struct architecture architecture;
    enum kernel_format format;
    bool fused; /* the cell is a standard one */
    struct step_layer layers[NETWORK_MAX_LAYERS];
    struct step_dense dense[NETWORK_MAX_DENSE];
    struct step_dense output; /* [Vp] x [Hp of the top layer, or the last dense layer's width] */
    size_t embedding_width;   /* Ep */
    size_t largest_width;     /* of the recurrent and the dense layers */
    const void *embedding;    /* [V][Ep] input rows of layer 0 (float, or int16_t for INT8); NULL for one-hot */
    struct arena arena;
};

/* Bytes of one row of a matrix's input in this format. */
size_t step_input_size(enum kernel_format format, size_t width);

/* INT8: the integer that stands for 1 in an input of this width. What a layer gives is never beyond 1 where INT8 is
 * allowed (quantize_check()). */
int32_t step_input_limit(size_t width);

/* Copies the weights; the network is not referenced afterwards. Close with step_weights_close(), also after a failure.
 * Errors: ERROR_NO_MEMORY, those of architecture_validate() and of quantize_check(). */
bool step_weights_open(struct step_weights *weights, const struct network *network, const struct kernels *kernels,
                       enum kernel_format format, struct error *err);
void step_weights_close(struct step_weights *weights);

/* Where row `row` of the file's [G*H] rows of layer k lies in a row of gates; hidden_part: of the hidden product. */
size_t step_weights_gate(const struct step_weights *weights, size_t k, bool hidden_part, size_t row);

/* Bytes of weights that one step of one sequence reads: everything but the rows that are not looked up. */
size_t step_weights_bytes(const struct step_weights *weights);

#endif
