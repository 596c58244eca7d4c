/* The vector kernels, written once for any vector width. Included by kernels_{portable,avx2,avx512,neon}.c after they
 * define:
 *   LANES              floats in a vector register (4, 8, 16)
 *   vf_fma(a, b, c)    a * b + c (fused where the instruction set has it)
 *   vf_min, vf_max     of (constant, x): x where x is NaN, so NaN is never hidden
 *   TILE_ROWS, TILE_BLOCKS, TILE_1_BLOCKS, STRIP_ROWS, STRIP_BLOCKS  for kernels/product.h
 *   STEP_ROWS, STEP_1_GROUPS, STEP_1_VECTORS, vs_widen, vi_dot  for kernels/fused_step.h
 *   KERNELS_TABLE, KERNELS_NAME
 * kernels/ref.c is the specification of every function here.
 */
#include <assert.h>
#include <math.h>
#include <string.h>

#include "base/priority.h"
#include "model/kernels/constants.h"
#include "model/kernels/kernels.h"

#define VECTORS  (KERNEL_BLOCK / LANES) /* vector registers of one block */
#define INLINE   static inline __attribute__((always_inline))
#define NOINLINE __attribute__((noinline))

typedef float vf __attribute__((vector_size(4 * LANES), aligned(4), may_alias));
typedef int32_t vi __attribute__((vector_size(4 * LANES), aligned(4), may_alias));

INLINE vf vf_load(const float *p)
{
    return *(const vf *)(const void *)p;
}

INLINE void vf_store(float *p, vf x)
{
    *(vf *)(void *)p = x;
}

INLINE vf vf_set(float x)
{
    return x - (vf){0};
}

/* ------------------------------------------------------------------ exp, tanh, sigmoid */

/* x = n ln 2 + r; *scale = 2^n; returns e^r - 1. |x| must be below 88. */
INLINE vf reduce_expm1(vf x, vf *scale)
{
    vf shifted = vf_fma(x, vf_set(EXP_LOG2E), vf_set(EXP_ROUND));
    vf n = shifted - EXP_ROUND;
    vf r = vf_fma(n, vf_set(-EXP_LN2_HIGH), x);
    r = vf_fma(n, vf_set(-EXP_LN2_LOW), r);
    vf q = vf_fma(vf_set(EXP_C4), r, vf_set(EXP_C3));
    q = vf_fma(q, r, vf_set(EXP_C2));
    q = vf_fma(q, r, vf_set(EXP_C1));
    q = vf_fma(q, r, vf_set(EXP_C0));
    vi bits = ((vi)shifted - EXP_ROUND_BITS + 127) << 23;
    *scale = (vf)bits;
    return vf_fma(q, r * r, r);
}

INLINE vf vf_exp(vf x)
{
    vf scale;
    x = vf_max(vf_set(EXP_MINIMUM), vf_min(vf_set(EXP_MAXIMUM), x));
    vf e = reduce_expm1(x, &scale);
    return vf_fma(e, scale, scale);
}

INLINE vf vf_sigmoid(vf x)
{
    return 1.0f / (1.0f + vf_exp(-x));
}

INLINE vf vf_tanh(vf x)
{
    vi sign = (vi)x & INT32_MIN;
    vf magnitude = vf_min(vf_set(TANH_MAXIMUM), (vf)((vi)x ^ sign));
    vf scale;
    vf e = reduce_expm1(magnitude + magnitude, &scale);
    e = vf_fma(e, scale, scale - 1.0f); /* e^2|x| - 1 */
    vf t = e / (e + 2.0f);
    return (vf)((vi)t | sign);
}

/* out[i] = FUNCTION(in[i]) with a padded copy for the last few. */
#define DEFINE_MAP(name)                                                                                               \
    static void map_##name(size_t n, const float *in, float *out)                                                      \
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

/* ------------------------------------------------------------------ cells */

static void lstm_forward(size_t M, size_t blocks, float *gates, size_t ldg, const float *c_previous, float *c, float *h,
                         size_t ldh)
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

static void lstm_backward(size_t M, size_t blocks, float *gates, size_t ldg, const float *c_previous, const float *c,
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

static void gru_forward(size_t M, size_t blocks, float *gates_x, float *gates_h, size_t ldg, const float *h_previous,
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

static void gru_backward(size_t M, size_t blocks, float *gates_x, float *gates_h, size_t ldg, const float *h_previous,
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

static void rnn_forward(size_t M, size_t blocks, float *gates, size_t ldg, float *h, size_t ldh)
{
    for (size_t m = 0; m < M; m++) {
        for (size_t u = 0; u < blocks * KERNEL_BLOCK; u += LANES) {
            vf t = vf_tanh(vf_load(gates + m * ldg + u));
            vf_store(gates + m * ldg + u, t);
            vf_store(h + m * ldh + u, t);
        }
    }
}

static void rnn_backward(size_t M, size_t blocks, float *gates, size_t ldg, const float *dh, size_t ldh)
{
    for (size_t m = 0; m < M; m++) {
        for (size_t u = 0; u < blocks * KERNEL_BLOCK; u += LANES) {
            vf t = vf_load(gates + m * ldg + u);
            vf_store(gates + m * ldg + u, vf_load(dh + m * ldh + u) * (1.0f - t * t));
        }
    }
}

/* ------------------------------------------------------------------ loss */

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

static double cross_entropy(size_t V, const float *logits, uint32_t target, float scale, float *gradient)
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

/* ------------------------------------------------------------------ vectors and updates */

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

static void transpose(size_t rows, size_t columns, const float *in, size_t ldi, float *out, size_t ldo)
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

static void add(size_t n, const float *x, float *y)
{
    for (size_t i = 0; i < n; i++) y[i] += x[i];
}

static double sum_of_squares(size_t n, const float *x)
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
static float multiply_add(size_t n)
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
static void update_sgd(size_t n, float *restrict w, const float *restrict g, float *restrict velocity, float scale,
                       float rate, float momentum)
{
    for (size_t i = 0; i < n; i++) {
        velocity[i] = momentum * velocity[i] + g[i] * scale;
        w[i] -= rate * velocity[i];
    }
}

static void update_rmsprop(size_t n, float *restrict w, const float *restrict g, float *restrict square, float scale,
                           float rate, float decay, float epsilon)
{
    for (size_t i = 0; i < n; i++) {
        float d = g[i] * scale;
        square[i] = decay * square[i] + (1.0f - decay) * d * d;
        w[i] -= rate * d / (sqrtf(square[i]) + epsilon);
    }
}

static void update_adam(size_t n, float *restrict w, const float *restrict g, float *restrict mean,
                        float *restrict square, float scale, float rate, float beta1, float beta2, float correction1,
                        float correction2, float epsilon, float weight_decay)
{
    for (size_t i = 0; i < n; i++) {
        float d = g[i] * scale;
        mean[i] = beta1 * mean[i] + (1.0f - beta1) * d;
        square[i] = beta2 * square[i] + (1.0f - beta2) * d * d;
        float direction = mean[i] * correction1 / (sqrtf(square[i] * correction2) + epsilon);
        w[i] -= rate * (direction + weight_decay * w[i]);
    }
}

#include "model/kernels/fused_step.h"
#include "model/kernels/product.h"

const struct kernels KERNELS_TABLE = {
    .name = KERNELS_NAME,
    .product = product,
    .product_over_rows = product_over_rows,
    .lstm_forward = lstm_forward,
    .lstm_backward = lstm_backward,
    .gru_forward = gru_forward,
    .gru_backward = gru_backward,
    .rnn_forward = rnn_forward,
    .rnn_backward = rnn_backward,
    .lstm_step = lstm_step,
    .gru_step = gru_step,
    .rnn_step = rnn_step,
    .project = project,
    .quantize = quantize,
    .cross_entropy = cross_entropy,
    .transpose = transpose,
    .add = add,
    .sum_of_squares = sum_of_squares,
    .update_sgd = update_sgd,
    .update_rmsprop = update_rmsprop,
    .update_adam = update_adam,
    .multiply_add = multiply_add,
    .exp = map_exp,
    .tanh = map_tanh,
    .sigmoid = map_sigmoid,
};
