#include "model/train/cell.h"

#include <string.h>

#include "base/size.h"

#define BLOCK KERNEL_BLOCK

void cell_forward(const struct packed_network *packed, const struct kernels *kernels, size_t layer,
                  const struct cell_rows *rows)
{
    const struct packed_layer *weights = &packed->layers[layer];
    const size_t Hp = packed->hidden, G = packed->gate_row, n = rows->n, units = Hp / BLOCK;
    const struct cell *cell = &cell_table[packed->architecture.cell];
    float *target = cell->apart ? rows->gates_h : rows->gates_x;

    for (size_t i = 0; cell->apart && i < n; i++) memcpy(target + i * G, weights->bias_hh, G * sizeof(float));
    kernels->product(&(struct kernel_product){.M = n,
                                              .blocks = G / BLOCK,
                                              .K = Hp,
                                              .x = rows->h_previous,
                                              .ldx = Hp,
                                              .packed = weights->weight_hh,
                                              .stride = Hp * BLOCK,
                                              .y = target,
                                              .ldy = G,
                                              .accumulate = true});
    cell->forward(kernels, units, rows);
}

const float *cell_hidden_gradient(const struct packed_network *packed, const struct cell_rows *rows)
{
    return cell_table[packed->architecture.cell].apart ? rows->gates_h : rows->gates_x;
}

void cell_backward(const struct packed_network *packed, const struct kernels *kernels, size_t layer,
                   const struct cell_rows *rows, const struct cell_gradients *gradients)
{
    const float *dh = gradients->dh;
    float *dc = gradients->dc, *dh_previous = gradients->dh_previous;
    const struct packed_layer *weights = &packed->layers[layer];
    const size_t Hp = packed->hidden, G = packed->gate_row, n = rows->n, units = Hp / BLOCK;
    const struct cell *cell = &cell_table[packed->architecture.cell];

    cell->backward(kernels, units, rows, dh, dc);
    if (!dh_previous) return;
    if (cell->mixes) memcpy(dh_previous, dc, n * Hp * sizeof(float));
    kernels->product(&(struct kernel_product){.M = n,
                                              .blocks = units,
                                              .K = G,
                                              .x = cell_hidden_gradient(packed, rows),
                                              .ldx = G,
                                              .packed = weights->weight_hh_t,
                                              .stride = G * BLOCK,
                                              .y = dh_previous,
                                              .ldy = Hp,
                                              .accumulate = cell->mixes});
}
