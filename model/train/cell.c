#include "model/train/cell.h"

#include <string.h>

#include "base/size.h"

#define BLOCK KERNEL_BLOCK

void cell_forward(const struct packed_network *packed, const struct kernels *kernels, size_t layer,
                  const struct cell_rows *rows)
{
    const struct packed_layer *weights = &packed->layers[layer];
    const size_t Hp = packed->hidden, G = packed->gate_row, n = rows->n, units = Hp / BLOCK;
    const bool gru = packed->architecture.cell == CELL_GRU;
    float *target = gru ? rows->gates_h : rows->gates_x;

    for (size_t i = 0; gru && i < n; i++) memcpy(target + i * G, weights->bias_hh, G * sizeof(float));
    kernels->product(n, G / BLOCK, Hp, rows->h_previous, Hp, weights->weight_hh, Hp * BLOCK, target, G, true);
    switch (packed->architecture.cell) {
    case CELL_LSTM:
        kernels->lstm_forward(n, units, rows->gates_x, G, rows->c_previous, rows->c, rows->h, Hp);
        break;
    case CELL_GRU:
        kernels->gru_forward(n, units, rows->gates_x, rows->gates_h, G, rows->h_previous, rows->h, Hp);
        break;
    case CELL_RNN:
        kernels->rnn_forward(n, units, rows->gates_x, G, rows->h, Hp);
        break;
    }
}

const float *cell_hidden_gradient(const struct packed_network *packed, const struct cell_rows *rows)
{
    return packed->architecture.cell == CELL_GRU ? rows->gates_h : rows->gates_x;
}

void cell_backward(const struct packed_network *packed, const struct kernels *kernels, size_t layer,
                   const struct cell_rows *rows, const float *dh, float *dc, float *dh_previous)
{
    const struct packed_layer *weights = &packed->layers[layer];
    const size_t Hp = packed->hidden, G = packed->gate_row, n = rows->n, units = Hp / BLOCK;
    bool accumulate = false;

    switch (packed->architecture.cell) {
    case CELL_LSTM:
        kernels->lstm_backward(n, units, rows->gates_x, G, rows->c_previous, rows->c, dh, dc, Hp);
        break;
    case CELL_GRU:
        kernels->gru_backward(n, units, rows->gates_x, rows->gates_h, G, rows->h_previous, dh, dc, Hp);
        accumulate = true;
        break;
    case CELL_RNN:
        kernels->rnn_backward(n, units, rows->gates_x, G, dh, Hp);
        break;
    }
    if (!dh_previous) return;
    if (accumulate) memcpy(dh_previous, dc, n * Hp * sizeof(float));
    kernels->product(n, units, G, cell_hidden_gradient(packed, rows), G, weights->weight_hh_t, G * BLOCK, dh_previous,
                     Hp, accumulate);
}
