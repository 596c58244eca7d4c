/* What a fused step does before and after the products of a tile: the sums start as biases, and become gates and the
 * new state.
 */
#ifndef LSTMD_MODEL_KERNELS_SIMD_STEP_CELLS_H
#define LSTMD_MODEL_KERNELS_SIMD_STEP_CELLS_H

#include "model/kernels/simd/tiles.h"

/* The sums that the input's product adds to, for tiles of `rows` rows. */
INLINE struct tile input_shape(enum step_cell cell, size_t rows, size_t groups, size_t vectors)
{
    const size_t gates = cell == STEP_LSTM ? 4 : cell == STEP_GRU ? 3 : 1;
    return (struct tile){rows, groups, vectors, cell == STEP_GRU ? 4 : gates, 0, gates};
}

/* The sums that the hidden state's product adds to: the GRU's q is apart from n. */
INLINE struct tile hidden_shape(enum step_cell cell, size_t rows, size_t groups, size_t vectors)
{
    struct tile shape = input_shape(cell, rows, groups, vectors);
    shape.first = cell == STEP_GRU ? 1 : 0;
    return shape;
}

/* Biases, or the one-hot input's column. */
INLINE void step_start(enum step_cell cell, struct tile t, const struct kernel_step *s, struct place at, size_t group,
                       vf *sum)
{
    const size_t row = t.gates * KERNEL_BLOCK;
    struct tile hidden = t;
    hidden.first = 1;
    for (size_t m = 0; m < at.rows; m++) {
        const float *start = s->start[at.m + m] + group * row + at.lane;
        STEP_UNROLL for (size_t c = 0; c < columns_of(t); c++) sum[sum_index(t, m, c)] =
            vf_load(start + column_offset(t, row, c));
        if (cell != STEP_GRU) continue;
        STEP_UNROLL for (size_t c = 0; c < columns_of(t); c++)
        {
            const vf bias = vf_load(s->bias_hh + group * row + at.lane + column_offset(t, row, c));
            const size_t i = sum_index(hidden, m, c);
            const bool is_q = c / t.vectors % t.gates == 2; /* r and z have their input part already */
            if (is_q)
                sum[i] = bias;
            else
                sum[i] += bias;
        }
    }
}

/* Where a tile's sums belong: gates [rows][groups][all][vectors] from sequence m0, group `group` and lane `lane` on. */
struct finish {
    size_t rows, groups, vectors, m0, group, lane;
};

INLINE size_t finish_unit(const struct finish *f, size_t v)
{
    return (f->group + v / f->vectors) * KERNEL_BLOCK + f->lane + v % f->vectors * LANES;
}

/* Keeps activation `gate` of the units of vector v where gates are asked for. */
INLINE void keep_gate(const struct kernel_step *s, const struct finish *f, size_t m, size_t v, size_t gates,
                      size_t gate, vf values)
{
    const size_t block = f->group + v / f->vectors, lane = f->lane + v % f->vectors * LANES;
    vf_store(s->gates[f->m0 + m] + (block * gates + gate) * KERNEL_BLOCK + lane, values);
}

static NOINLINE void lstm_finish(const struct kernel_step *s, const struct finish *f, const vf *gates)
{
    const size_t vectors = f->vectors;
    for (size_t m = 0; m < f->rows; m++, gates += 4 * vectors * f->groups) {
        for (size_t v = 0; v < f->groups * vectors; v++) {
            const vf *gate = gates + v / vectors * 4 * vectors + v % vectors;
            const vf in = vf_sigmoid(gate[0]), forget = vf_sigmoid(gate[vectors]);
            const vf g = vf_tanh(gate[2 * vectors]), out = vf_sigmoid(gate[3 * vectors]);
            float *c = s->c[f->m0 + m] + finish_unit(f, v);
            const vf cell = vf_fma(forget, vf_load(c), in * g);
            vf_store(c, cell);
            vf_store(s->h[f->m0 + m] + finish_unit(f, v), out * vf_tanh(cell));
            if (!s->gates) continue;
            keep_gate(s, f, m, v, 4, 0, in);
            keep_gate(s, f, m, v, 4, 1, forget);
            keep_gate(s, f, m, v, 4, 2, g);
            keep_gate(s, f, m, v, 4, 3, out);
        }
    }
}

/* gates: n of the input, r, z, q */
static NOINLINE void gru_finish(const struct kernel_step *s, const struct finish *f, const vf *gates)
{
    const size_t vectors = f->vectors;
    for (size_t m = 0; m < f->rows; m++, gates += 4 * vectors * f->groups) {
        for (size_t v = 0; v < f->groups * vectors; v++) {
            const vf *gate = gates + v / vectors * 4 * vectors + v % vectors;
            const vf r = vf_sigmoid(gate[vectors]), z = vf_sigmoid(gate[2 * vectors]);
            const vf n = vf_tanh(vf_fma(r, gate[3 * vectors], gate[0]));
            const vf h = vf_load(s->h_previous[f->m0 + m] + finish_unit(f, v));
            vf_store(s->h[f->m0 + m] + finish_unit(f, v), vf_fma(z, h - n, n));
            if (!s->gates) continue;
            keep_gate(s, f, m, v, 3, 0, n);
            keep_gate(s, f, m, v, 3, 1, r);
            keep_gate(s, f, m, v, 3, 2, z);
        }
    }
}

static NOINLINE void rnn_finish(const struct kernel_step *s, const struct finish *f, const vf *gates)
{
    for (size_t m = 0; m < f->rows; m++, gates += f->groups * f->vectors)
        for (size_t v = 0; v < f->groups * f->vectors; v++)
            vf_store(s->h[f->m0 + m] + finish_unit(f, v), vf_tanh(gates[v]));
}

/* The functions of a cell are not inline, because every use would carry a copy. */
INLINE void step_finish(enum step_cell cell, const struct kernel_step *s, const struct finish *f, const vf *gates)
{
    if (cell == STEP_LSTM) lstm_finish(s, f, gates);
    if (cell == STEP_GRU) gru_finish(s, f, gates);
    if (cell == STEP_RNN) rnn_finish(s, f, gates);
}

#endif
