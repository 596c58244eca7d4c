/* The elementwise parts of cells in training, forward and backward. model/kernels/kernels.h has the layouts. */
#include "model/kernels/simd/vector.h"

void KERNEL(lstm_forward)(size_t M, size_t blocks, float *gates, size_t ldg, const float *c_previous, float *c,
                          float *h, size_t ldh)
{
    for (size_t m = 0; m < M; m++) {
        for (size_t u = 0; u < blocks * KERNEL_BLOCK; u += LANES) {
            float *gate = gates + m * ldg + u / KERNEL_BLOCK * (4 * KERNEL_BLOCK) + u % KERNEL_BLOCK;
            vf i = vf_sigmoid(vf_load(gate)), f = vf_sigmoid(vf_load(gate + KERNEL_BLOCK));
            vf g = vf_tanh(vf_load(gate + 2 * KERNEL_BLOCK)), o = vf_sigmoid(vf_load(gate + 3 * KERNEL_BLOCK));
            vf cell = vf_fma(f, vf_load(c_previous + m * ldh + u), i * g);
            vf_store(gate, i);
            vf_store(gate + KERNEL_BLOCK, f);
            vf_store(gate + 2 * KERNEL_BLOCK, g);
            vf_store(gate + 3 * KERNEL_BLOCK, o);
            vf_store(c + m * ldh + u, cell);
            vf_store(h + m * ldh + u, o * vf_tanh(cell));
        }
    }
}

void KERNEL(lstm_backward)(size_t M, size_t blocks, float *gates, size_t ldg, const float *c_previous, const float *c,
                           const float *dh, float *dc, size_t ldh)
{
    for (size_t m = 0; m < M; m++) {
        for (size_t u = 0; u < blocks * KERNEL_BLOCK; u += LANES) {
            float *gate = gates + m * ldg + u / KERNEL_BLOCK * (4 * KERNEL_BLOCK) + u % KERNEL_BLOCK;
            vf i = vf_load(gate), f = vf_load(gate + KERNEL_BLOCK);
            vf g = vf_load(gate + 2 * KERNEL_BLOCK), o = vf_load(gate + 3 * KERNEL_BLOCK);
            vf t = vf_tanh(vf_load(c + m * ldh + u)), d = vf_load(dh + m * ldh + u);
            vf dcell = vf_load(dc + m * ldh + u) + d * o * (1.0f - t * t);
            vf_store(gate, dcell * g * i * (1.0f - i));
            vf_store(gate + KERNEL_BLOCK, dcell * vf_load(c_previous + m * ldh + u) * f * (1.0f - f));
            vf_store(gate + 2 * KERNEL_BLOCK, dcell * i * (1.0f - g * g));
            vf_store(gate + 3 * KERNEL_BLOCK, d * t * o * (1.0f - o));
            vf_store(dc + m * ldh + u, dcell * f);
        }
    }
}

void KERNEL(gru_forward)(size_t M, size_t blocks, float *gates_x, float *gates_h, size_t ldg, const float *h_previous,
                         float *h, size_t ldh)
{
    for (size_t m = 0; m < M; m++) {
        for (size_t u = 0; u < blocks * KERNEL_BLOCK; u += LANES) {
            size_t at = m * ldg + u / KERNEL_BLOCK * (3 * KERNEL_BLOCK) + u % KERNEL_BLOCK;
            float *x = gates_x + at;
            const float *p = gates_h + at;
            vf r = vf_sigmoid(vf_load(x + KERNEL_BLOCK) + vf_load(p));
            vf z = vf_sigmoid(vf_load(x + 2 * KERNEL_BLOCK) + vf_load(p + KERNEL_BLOCK));
            vf n = vf_tanh(vf_fma(r, vf_load(p + 2 * KERNEL_BLOCK), vf_load(x)));
            vf_store(x, n);
            vf_store(x + KERNEL_BLOCK, r);
            vf_store(x + 2 * KERNEL_BLOCK, z);
            vf_store(h + m * ldh + u, vf_fma(z, vf_load(h_previous + m * ldh + u) - n, n));
        }
    }
}

void KERNEL(gru_backward)(size_t M, size_t blocks, float *gates_x, float *gates_h, size_t ldg, const float *h_previous,
                          const float *dh, float *dh_previous, size_t ldh)
{
    for (size_t m = 0; m < M; m++) {
        for (size_t u = 0; u < blocks * KERNEL_BLOCK; u += LANES) {
            size_t at = m * ldg + u / KERNEL_BLOCK * (3 * KERNEL_BLOCK) + u % KERNEL_BLOCK;
            float *x = gates_x + at, *p = gates_h + at;
            vf n = vf_load(x), r = vf_load(x + KERNEL_BLOCK), z = vf_load(x + 2 * KERNEL_BLOCK);
            vf q = vf_load(p + 2 * KERNEL_BLOCK), d = vf_load(dh + m * ldh + u);
            vf dn = d * (1.0f - z) * (1.0f - n * n);
            vf dz = d * (vf_load(h_previous + m * ldh + u) - n) * z * (1.0f - z);
            vf dr = dn * q * r * (1.0f - r);
            vf_store(x, dn);
            vf_store(x + KERNEL_BLOCK, dr);
            vf_store(x + 2 * KERNEL_BLOCK, dz);
            vf_store(p, dr);
            vf_store(p + KERNEL_BLOCK, dz);
            vf_store(p + 2 * KERNEL_BLOCK, dn * r);
            vf_store(dh_previous + m * ldh + u, d * z);
        }
    }
}

void KERNEL(rnn_forward)(size_t M, size_t blocks, float *gates, size_t ldg, float *h, size_t ldh)
{
    for (size_t m = 0; m < M; m++) {
        for (size_t u = 0; u < blocks * KERNEL_BLOCK; u += LANES) {
            vf t = vf_tanh(vf_load(gates + m * ldg + u));
            vf_store(gates + m * ldg + u, t);
            vf_store(h + m * ldh + u, t);
        }
    }
}

void KERNEL(rnn_backward)(size_t M, size_t blocks, float *gates, size_t ldg, const float *dh, size_t ldh)
{
    for (size_t m = 0; m < M; m++) {
        for (size_t u = 0; u < blocks * KERNEL_BLOCK; u += LANES) {
            vf t = vf_load(gates + m * ldg + u);
            vf_store(gates + m * ldg + u, vf_load(dh + m * ldh + u) * (1.0f - t * t));
        }
    }
}
