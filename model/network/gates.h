/* Where the gates of a layer lie in a row of gates, as the fused kernels and those of training want it: [Hp/16][G][16],
 * the gates of 16 units together (kernels.h). Rows of the input and of the hidden product may differ in the order of
 * gates (cells.h). Pure functions.
 *
 * This is the arrangement alone: who copies weights by it are train/packed.h and generate/step_weights.h.
 */
#ifndef LSTMD_MODEL_NETWORK_GATES_H
#define LSTMD_MODEL_NETWORK_GATES_H

#include <stdbool.h>
#include <stddef.h>

#include "model/network/cells.h"

/* Block j of a row of gates is one gate of 16 units: which gate of the file's order, and the first of the units. */
struct gates_place {
    size_t gate, unit;
};

/* hidden_part: the hidden product's order, else the input product's. */
struct gates_place gates_place(enum cell_kind cell, bool hidden_part, size_t block);

/* The inverse: where row `row` of the file's [G*H] rows of a layer of H units lies in a row of gates. */
size_t gates_index(enum cell_kind cell, size_t hidden_size, bool hidden_part, size_t row);

#endif
