/* Kernels over plain vectors: exp, tanh, sigmoid, the loss, sums, transposing, the optimizers, quantizing. */
#include <assert.h>
#include <math.h>
#include <string.h>

#include "model/kernels/simd/vector.h"

/* out[i] = f(in[i]). The last few pass through a padded copy. */
#define DEFINE_MAP(name)                                                                                               \
    void KERNEL(name)(size_t n, const float *in, float *out)                                                           \
    {                                                                                                                  \
        size_t i = 0;                                                                                                  \
        for (; i + LANES <= n; i += LANES) vf_store(out + i, vf_##name(vf_load(in + i)));                              \
        if (i < n) {                                                                                                   \
            float rest[LANES] = {0};                                                                                   \
            memcpy(rest, in + i, (n - i) * sizeof *in);                                                                \
            vf_store(rest, vf_##name(vf_load(rest)));                                                                  \
            memcpy(out + i, rest, (n - i) * sizeof *in);                                                               \
        }                                                                                                              \
    }
DEFINE_MAP(exp)
DEFINE_MAP(tanh)
DEFINE_MAP(sigmoid)

/* ---- loss ---- */

INLINE float vf_sum(vf x)
{
    float total = 0;
    for (size_t i = 0; i < LANES; i++) total += x[i];
    return total;
}

/* Vector i of a row whose end is padded with -infinity. */
INLINE vf load_padded(const float *row, size_t n, size_t i)
{
    if (i + LANES <= n) return vf_load(row + i);
    vf x = vf_set(-INFINITY);
    for (size_t l = 0; i + l < n; l++) x[l] = row[i + l];
    return x;
}

double KERNEL(cross_entropy)(size_t V, const float *logits, uint32_t target, float scale, float *gradient)
{
    assert(target < V);
    vf largest_lanes = vf_set(-INFINITY);
    for (size_t i = 0; i < V; i += LANES) {
        vf x = load_padded(logits, V, i);
        largest_lanes = vf_max(largest_lanes, x);
    }
    float largest = largest_lanes[0];
    for (size_t l = 1; l < LANES; l++) largest = largest_lanes[l] > largest ? largest_lanes[l] : largest;

    const float target_logit = logits[target];
    vf sum_lanes = {0};
    for (size_t i = 0; i < V; i += LANES) {
        vf e = vf_exp(load_padded(logits, V, i) - largest);
        sum_lanes += e;
        if (!gradient) continue;
        if (i + LANES <= V) {
            vf_store(gradient + i, e);
        } else {
            for (size_t l = 0; i + l < V; l++) gradient[i + l] = e[l];
        }
    }
    const float sum = vf_sum(sum_lanes);
    if (gradient) {
        const float factor = scale / sum;
        for (size_t v = 0; v < V; v++) gradient[v] *= factor;
        gradient[target] -= scale;
    }
    return log((double)sum) + (double)largest - (double)target_logit;
}

/* ---- vectors and updates ---- */

typedef float v4 __attribute__((vector_size(16), aligned(4), may_alias));
typedef int32_t v4i __attribute__((vector_size(16)));
#if defined(__clang__)
#define SHUFFLE(a, b, i0, i1, i2, i3) __builtin_shufflevector(a, b, i0, i1, i2, i3)
#else
#define SHUFFLE(a, b, i0, i1, i2, i3) __builtin_shuffle(a, b, (v4i){i0, i1, i2, i3})
#endif

INLINE void transpose_4x4(const float *in, size_t ldi, float *out, size_t ldo)
{
    const v4 *r0 = (const void *)in, *r1 = (const void *)(in + ldi);
    const v4 *r2 = (const void *)(in + 2 * ldi), *r3 = (const void *)(in + 3 * ldi);
    v4 low01 = SHUFFLE(*r0, *r1, 0, 4, 1, 5), high01 = SHUFFLE(*r0, *r1, 2, 6, 3, 7);
    v4 low23 = SHUFFLE(*r2, *r3, 0, 4, 1, 5), high23 = SHUFFLE(*r2, *r3, 2, 6, 3, 7);
    *(v4 *)(void *)out = SHUFFLE(low01, low23, 0, 1, 4, 5);
    *(v4 *)(void *)(out + ldo) = SHUFFLE(low01, low23, 2, 3, 6, 7);
    *(v4 *)(void *)(out + 2 * ldo) = SHUFFLE(high01, high23, 0, 1, 4, 5);
    *(v4 *)(void *)(out + 3 * ldo) = SHUFFLE(high01, high23, 2, 3, 6, 7);
}

void KERNEL(transpose)(size_t rows, size_t columns, const float *in, size_t ldi, float *out, size_t ldo)
{
    for (size_t c = 0; c < columns; c += 4) {
        for (size_t r = 0; r < rows; r += 4) {
            if (r + 4 <= rows && c + 4 <= columns) {
                transpose_4x4(in + r * ldi + c, ldi, out + c * ldo + r, ldo);
                continue;
            }
            for (size_t i = r; i < rows && i < r + 4; i++)
                for (size_t j = c; j < columns && j < c + 4; j++) out[j * ldo + i] = in[i * ldi + j];
        }
    }
}

void KERNEL(add)(size_t n, const float *x, float *y)
{
    for (size_t i = 0; i < n; i++) y[i] += x[i];
}

double KERNEL(sum_of_squares)(size_t n, const float *x)
{
    double total = 0;
    for (size_t begin = 0; begin < n; begin += 4096) {
        size_t end = begin + 4096 < n ? begin + 4096 : n, i = begin;
        vf lanes[4] = {{0}, {0}, {0}, {0}};
        for (; i + 4 * LANES <= end; i += 4 * LANES) {
            for (size_t j = 0; j < 4; j++) {
                vf v = vf_load(x + i + j * LANES);
                lanes[j] = vf_fma(v, v, lanes[j]);
            }
        }
        float part = vf_sum((lanes[0] + lanes[1]) + (lanes[2] + lanes[3]));
        for (; i < end; i++) part += x[i] * x[i];
        total += (double)part;
    }
    return total;
}

/* Twelve sums in registers hide the latency of two multiply-adds per cycle. */
float KERNEL(multiply_add)(size_t n)
{
    volatile float half = 0.5f; /* a constant would be folded */
    vf sums[12], factor = vf_set(half), one = factor + factor;
    for (size_t i = 0; i < 12; i++) sums[i] = vf_set((float)i);
    for (size_t r = 0; r < n * VECTORS; r++) {
#pragma GCC unroll 12
        for (size_t i = 0; i < 12; i++) sums[i] = vf_fma(sums[i], factor, one);
    }
    for (size_t i = 1; i < 12; i++) sums[0] += sums[i];
    return sums[0][0];
}

/* The compiler vectorises these; they are here to be compiled for each instruction set. */
void KERNEL(update_sgd)(const struct kernel_update *update)
{
    const struct kernel_update u = *update;
    float *restrict w = u.w, *restrict mean = u.mean;
    const float *restrict g = u.g;
    for (size_t i = 0; i < u.n; i++) {
        mean[i] = u.beta1 * mean[i] + g[i] * u.scale;
        w[i] -= u.rate * mean[i];
    }
}

void KERNEL(update_rmsprop)(const struct kernel_update *update)
{
    const struct kernel_update u = *update;
    float *restrict w = u.w, *restrict square = u.square;
    const float *restrict g = u.g;
    for (size_t i = 0; i < u.n; i++) {
        float d = g[i] * u.scale;
        square[i] = u.beta2 * square[i] + (1.0f - u.beta2) * d * d;
        w[i] -= u.rate * d / (sqrtf(square[i]) + u.epsilon);
    }
}

void KERNEL(update_adam)(const struct kernel_update *update)
{
    const struct kernel_update u = *update;
    float *restrict w = u.w, *restrict mean = u.mean, *restrict square = u.square;
    const float *restrict g = u.g;
    for (size_t i = 0; i < u.n; i++) {
        float d = g[i] * u.scale;
        mean[i] = u.beta1 * mean[i] + (1.0f - u.beta1) * d;
        square[i] = u.beta2 * square[i] + (1.0f - u.beta2) * d * d;
        float direction = mean[i] * u.correction1 / (sqrtf(square[i] * u.correction2) + u.epsilon);
        w[i] -= u.rate * (direction + u.weight_decay * w[i]);
    }
}

void KERNEL(quantize)(size_t n, const float *x, float factor, int32_t limit, int16_t *out)
{
    const vf most = vf_set((float)limit);
    size_t i = 0;
    for (; i + LANES <= n; i += LANES) {
        const vf scaled = vf_max(-most, vf_min(most, vf_load(x + i) * factor));
        const vi integers = (vi)(scaled + EXP_ROUND) - EXP_ROUND_BITS;
        for (size_t l = 0; l < LANES; l++) out[i + l] = (int16_t)integers[l];
    }
    for (; i < n; i++) out[i] = (int16_t)lrintf(fmaxf(-(float)limit, fminf((float)limit, x[i] * factor)));
}
