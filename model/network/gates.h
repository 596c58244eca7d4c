/* The order of a layer's gates in a row of gates, for the fused kernels and those of training: [Hp/16][G][16], the
 * gates of 16 units together (kernels.h). Rows of the input and of the hidden product may differ in the order of gates
 * (cells.h). Pure functions.
 *
 * It copies no weights: train/packed.h and generate/step_weights.h do, in this order.
 */
#ifndef LSTMD_MODEL_NETWORK_GATES_H
#define LSTMD_MODEL_NETWORK_GATES_H

#include <stdbool.h>
#include <stddef.h>

#include "model/network/cells.h"

/* Block j of a row of gates has one gate of 16 units: the gate in the file's order, and the first unit. */
struct gates_place {
    size_t gate, unit;
};

/* hidden_part: the hidden product's order, else the input product's. */
struct gates_place gates_place(enum cell_kind cell, bool hidden_part, size_t block);

/* The inverse: the index, in a row of gates, of row `row` of the file's [G*H] rows of a layer of H units. */
size_t gates_index(enum cell_kind cell, size_t hidden_size, bool hidden_part, size_t row);

#endif
