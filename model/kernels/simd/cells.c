/* The elementwise parts of cells in training, forward and backward. model/kernels/kernels.h has the layouts. */
#include "model/kernels/simd/vector.h"

void KERNEL(lstm_forward)(const struct kernel_cell *operands)
{
    const struct kernel_cell s = *operands;
    for (size_t m = 0; m < s.M; m++) {
        for (size_t u = 0; u < s.blocks * KERNEL_BLOCK; u += LANES) {
            float *gate = s.gates + m * s.ldg + u / KERNEL_BLOCK * (4 * KERNEL_BLOCK) + u % KERNEL_BLOCK;
            vf i = vf_sigmoid(vf_load(gate)), f = vf_sigmoid(vf_load(gate + KERNEL_BLOCK));
            vf g = vf_tanh(vf_load(gate + 2 * KERNEL_BLOCK)), o = vf_sigmoid(vf_load(gate + 3 * KERNEL_BLOCK));
            vf cell = vf_fma(f, vf_load(s.c_previous + m * s.ldh + u), i * g);
            vf_store(gate, i);
            vf_store(gate + KERNEL_BLOCK, f);
            vf_store(gate + 2 * KERNEL_BLOCK, g);
            vf_store(gate + 3 * KERNEL_BLOCK, o);
            vf_store(s.c + m * s.ldh + u, cell);
            vf_store(s.h + m * s.ldh + u, o * vf_tanh(cell));
        }
    }
}

void KERNEL(lstm_backward)(const struct kernel_cell *operands)
{
    const struct kernel_cell s = *operands;
    for (size_t m = 0; m < s.M; m++) {
        for (size_t u = 0; u < s.blocks * KERNEL_BLOCK; u += LANES) {
            float *gate = s.gates + m * s.ldg + u / KERNEL_BLOCK * (4 * KERNEL_BLOCK) + u % KERNEL_BLOCK;
            vf i = vf_load(gate), f = vf_load(gate + KERNEL_BLOCK);
            vf g = vf_load(gate + 2 * KERNEL_BLOCK), o = vf_load(gate + 3 * KERNEL_BLOCK);
            vf t = vf_tanh(vf_load(s.c + m * s.ldh + u)), d = vf_load(s.dh + m * s.ldh + u);
            vf dcell = vf_load(s.dc + m * s.ldh + u) + d * o * (1.0f - t * t);
            vf_store(gate, dcell * g * i * (1.0f - i));
            vf_store(gate + KERNEL_BLOCK, dcell * vf_load(s.c_previous + m * s.ldh + u) * f * (1.0f - f));
            vf_store(gate + 2 * KERNEL_BLOCK, dcell * i * (1.0f - g * g));
            vf_store(gate + 3 * KERNEL_BLOCK, d * t * o * (1.0f - o));
            vf_store(s.dc + m * s.ldh + u, dcell * f);
        }
    }
}

void KERNEL(gru_forward)(const struct kernel_cell *operands)
{
    const struct kernel_cell s = *operands;
    for (size_t m = 0; m < s.M; m++) {
        for (size_t u = 0; u < s.blocks * KERNEL_BLOCK; u += LANES) {
            size_t at = m * s.ldg + u / KERNEL_BLOCK * (3 * KERNEL_BLOCK) + u % KERNEL_BLOCK;
            float *x = s.gates + at;
            const float *p = s.gates_h + at;
            vf r = vf_sigmoid(vf_load(x + KERNEL_BLOCK) + vf_load(p));
            vf z = vf_sigmoid(vf_load(x + 2 * KERNEL_BLOCK) + vf_load(p + KERNEL_BLOCK));
            vf n = vf_tanh(vf_fma(r, vf_load(p + 2 * KERNEL_BLOCK), vf_load(x)));
            vf_store(x, n);
            vf_store(x + KERNEL_BLOCK, r);
            vf_store(x + 2 * KERNEL_BLOCK, z);
            vf_store(s.h + m * s.ldh + u, vf_fma(z, vf_load(s.h_previous + m * s.ldh + u) - n, n));
        }
    }
}

void KERNEL(gru_backward)(const struct kernel_cell *operands)
{
    const struct kernel_cell s = *operands;
    for (size_t m = 0; m < s.M; m++) {
        for (size_t u = 0; u < s.blocks * KERNEL_BLOCK; u += LANES) {
            size_t at = m * s.ldg + u / KERNEL_BLOCK * (3 * KERNEL_BLOCK) + u % KERNEL_BLOCK;
            float *x = s.gates + at, *p = s.gates_h + at;
            vf n = vf_load(x), r = vf_load(x + KERNEL_BLOCK), z = vf_load(x + 2 * KERNEL_BLOCK);
            vf q = vf_load(p + 2 * KERNEL_BLOCK), d = vf_load(s.dh + m * s.ldh + u);
            vf dn = d * (1.0f - z) * (1.0f - n * n);
            vf dz = d * (vf_load(s.h_previous + m * s.ldh + u) - n) * z * (1.0f - z);
            vf dr = dn * q * r * (1.0f - r);
            vf_store(x, dn);
            vf_store(x + KERNEL_BLOCK, dr);
            vf_store(x + 2 * KERNEL_BLOCK, dz);
            vf_store(p, dr);
            vf_store(p + KERNEL_BLOCK, dz);
            vf_store(p + 2 * KERNEL_BLOCK, dn * r);
            vf_store(s.dh_previous + m * s.ldh + u, d * z);
        }
    }
}

void KERNEL(rnn_forward)(const struct kernel_cell *operands)
{
    const struct kernel_cell s = *operands;
    for (size_t m = 0; m < s.M; m++) {
        for (size_t u = 0; u < s.blocks * KERNEL_BLOCK; u += LANES) {
            vf t = vf_tanh(vf_load(s.gates + m * s.ldg + u));
            vf_store(s.gates + m * s.ldg + u, t);
            vf_store(s.h + m * s.ldh + u, t);
        }
    }
}

void KERNEL(rnn_backward)(const struct kernel_cell *operands)
{
    const struct kernel_cell s = *operands;
    for (size_t m = 0; m < s.M; m++) {
        for (size_t u = 0; u < s.blocks * KERNEL_BLOCK; u += LANES) {
            vf t = vf_load(s.gates + m * s.ldg + u);
            vf_store(s.gates + m * s.ldg + u, vf_load(s.dh + m * s.ldh + u) * (1.0f - t * t));
        }
    }
}
