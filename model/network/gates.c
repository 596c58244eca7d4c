#include "model/network/gates.h"

#include "model/kernels/kernels.h"

#define BLOCK KERNEL_BLOCK

struct gates_place gates_place(enum cell_kind cell, bool hidden_part, size_t block)
{
    const size_t gates = cell_table[cell].gates, n = block % gates;
    return (struct gates_place){.gate = hidden_part ? n : cell_table[cell].input_order[n],
                                .unit = block / gates * BLOCK};
}

/* Which gate of a row of gates is gate `gate` of the file. */
static size_t gates_position(enum cell_kind cell, bool hidden_part, size_t gate)
{
    size_t n = 0;
    if (hidden_part) return gate;
    while (cell_table[cell].input_order[n] != gate) n++;
    return n;
}

size_t gates_index(enum cell_kind cell, size_t hidden_size, bool hidden_part, size_t row)
{
    const size_t unit = row % hidden_size, n = gates_position(cell, hidden_part, row / hidden_size);
    return (unit / BLOCK * cell_table[cell].gates + n) * BLOCK + unit % BLOCK;
}
