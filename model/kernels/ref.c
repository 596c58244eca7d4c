/* The reference: every kernel as the plain loop that its comment in kernels.h describes. It is the specification: tests
 * compare the vector kernels with it. The setting `kernel: ref` forces it, for whoever doubts one of these.
 */
#include <assert.h>
#include <math.h>
#include <string.h>

#include "model/kernels/tables.h"

#define BLOCK KERNEL_BLOCK

static float sigmoid_of(float x)
{
    return 1.0f / (1.0f + expf(-x));
}

/* Gate g of unit u in a row whose units have `gates` gates each. */
static float *gate_at(float *row, size_t gates, size_t g, size_t u)
{
    return row + u / BLOCK * (gates * BLOCK) + g * BLOCK + u % BLOCK;
}

static void ref_product(const struct kernel_product *p)
{
    for (size_t m = 0; m < p->M; m++) {
        for (size_t n = 0; n < p->blocks * BLOCK; n++) {
            float sum = p->accumulate ? p->y[m * p->ldy + n] : 0.0f;
            for (size_t k = 0; k < p->K; k++)
                sum += p->x[m * p->ldx + k] * p->packed[n / BLOCK * p->stride + k * BLOCK + n % BLOCK];
            p->y[m * p->ldy + n] = sum;
        }
    }
}

static void ref_product_over_rows(const struct kernel_product_over_rows *p)
{
    for (size_t m = 0; m < p->M; m++) {
        for (size_t n = 0; n < p->blocks * BLOCK; n++) {
            float sum = p->accumulate ? p->c[m * p->ldc + n] : 0.0f;
            for (size_t k = 0; k < p->K; k++) sum += p->a[k * p->lda + m] * p->b[k * p->ldb + n];
            p->c[m * p->ldc + n] = sum;
        }
    }
}

static void ref_lstm_forward(const struct kernel_cell *operands)
{
    const struct kernel_cell s = *operands;
    for (size_t m = 0; m < s.M; m++) {
        for (size_t u = 0; u < s.blocks * BLOCK; u++) {
            float *i = gate_at(s.gates + m * s.ldg, 4, 0, u), *f = gate_at(s.gates + m * s.ldg, 4, 1, u);
            float *g = gate_at(s.gates + m * s.ldg, 4, 2, u), *o = gate_at(s.gates + m * s.ldg, 4, 3, u);
            *i = sigmoid_of(*i);
            *f = sigmoid_of(*f);
            *g = tanhf(*g);
            *o = sigmoid_of(*o);
            s.c[m * s.ldh + u] = *f * s.c_previous[m * s.ldh + u] + *i * *g;
            s.h[m * s.ldh + u] = *o * tanhf(s.c[m * s.ldh + u]);
        }
    }
}

static void ref_lstm_backward(const struct kernel_cell *operands)
{
    const struct kernel_cell s = *operands;
    for (size_t m = 0; m < s.M; m++) {
        for (size_t u = 0; u < s.blocks * BLOCK; u++) {
            float *i = gate_at(s.gates + m * s.ldg, 4, 0, u), *f = gate_at(s.gates + m * s.ldg, 4, 1, u);
            float *g = gate_at(s.gates + m * s.ldg, 4, 2, u), *o = gate_at(s.gates + m * s.ldg, 4, 3, u);
            size_t at = m * s.ldh + u;
            float t = tanhf(s.c[at]), input = *i, cell = *g;
            float dcell = s.dc[at] + s.dh[at] * *o * (1.0f - t * t);
            s.dc[at] = dcell * *f;
            *i = dcell * cell * input * (1.0f - input);
            *f = dcell * s.c_previous[at] * *f * (1.0f - *f);
            *g = dcell * input * (1.0f - cell * cell);
            *o = s.dh[at] * t * *o * (1.0f - *o);
        }
    }
}

static void ref_gru_forward(const struct kernel_cell *operands)
{
    const struct kernel_cell s = *operands;
    for (size_t m = 0; m < s.M; m++) {
        for (size_t u = 0; u < s.blocks * BLOCK; u++) {
            float *n = gate_at(s.gates + m * s.ldg, 3, 0, u), *r = gate_at(s.gates + m * s.ldg, 3, 1, u);
            float *z = gate_at(s.gates + m * s.ldg, 3, 2, u);
            *r = sigmoid_of(*r + *gate_at(s.gates_h + m * s.ldg, 3, 0, u));
            *z = sigmoid_of(*z + *gate_at(s.gates_h + m * s.ldg, 3, 1, u));
            *n = tanhf(*n + *r * *gate_at(s.gates_h + m * s.ldg, 3, 2, u));
            s.h[m * s.ldh + u] = (1.0f - *z) * *n + *z * s.h_previous[m * s.ldh + u];
        }
    }
}

static void ref_gru_backward(const struct kernel_cell *operands)
{
    const struct kernel_cell s = *operands;
    for (size_t m = 0; m < s.M; m++) {
        for (size_t u = 0; u < s.blocks * BLOCK; u++) {
            float *x_n = gate_at(s.gates + m * s.ldg, 3, 0, u), *x_r = gate_at(s.gates + m * s.ldg, 3, 1, u);
            float *x_z = gate_at(s.gates + m * s.ldg, 3, 2, u), *q = gate_at(s.gates_h + m * s.ldg, 3, 2, u);
            float n = *x_n, r = *x_r, z = *x_z, d = s.dh[m * s.ldh + u];
            *x_n = d * (1.0f - z) * (1.0f - n * n);
            *x_r = *x_n * *q * r * (1.0f - r);
            *x_z = d * (s.h_previous[m * s.ldh + u] - n) * z * (1.0f - z);
            *gate_at(s.gates_h + m * s.ldg, 3, 0, u) = *x_r;
            *gate_at(s.gates_h + m * s.ldg, 3, 1, u) = *x_z;
            *q = *x_n * r;
            s.dh_previous[m * s.ldh + u] = d * z;
        }
    }
}

static void ref_rnn_forward(const struct kernel_cell *operands)
{
    const struct kernel_cell s = *operands;
    for (size_t m = 0; m < s.M; m++) {
        for (size_t u = 0; u < s.blocks * BLOCK; u++)
            s.h[m * s.ldh + u] = s.gates[m * s.ldg + u] = tanhf(s.gates[m * s.ldg + u]);
    }
}

static void ref_rnn_backward(const struct kernel_cell *operands)
{
    const struct kernel_cell s = *operands;
    for (size_t m = 0; m < s.M; m++) {
        for (size_t u = 0; u < s.blocks * BLOCK; u++) {
            float t = s.gates[m * s.ldg + u];
            s.gates[m * s.ldg + u] = s.dh[m * s.ldh + u] * (1.0f - t * t);
        }
    }
}

/* ------------------------------------------------------------------ steps */

/* Where input k of output `n` lies among the weights, in units of one weight (kernels.h has the layouts). */
static size_t place_of(const struct kernel_matrix *matrix, size_t group, size_t n, size_t k)
{
    const size_t block = n / BLOCK, together = matrix->format == KERNEL_F32 ? 1 : 2;
    const size_t row = block / group * (matrix->inputs / together) + k / together;
    return ((row * group + block % group) * BLOCK + n % BLOCK) * together + k % together;
}

static float float_of_bf16(uint16_t upper)
{
    const uint32_t bits = (uint32_t)upper << 16;
    float value;
    memcpy(&value, &bits, sizeof value);
    return value;
}

static float dot_int8(const struct kernel_matrix *matrix, size_t group, size_t n, const int16_t *x, float start)
{
    const int8_t *w = matrix->weights;
    int32_t sum = 0;
    for (size_t k = 0; k < matrix->inputs; k++) sum += w[place_of(matrix, group, n, k)] * x[k];
    return start + (float)sum * matrix->scale[n];
}

/* start + row n of the matrix times x */
static float ref_dot(const struct kernel_matrix *matrix, size_t group, size_t n, const void *x, float start)
{
    const float *values = x, *weights = matrix->weights;
    const uint16_t *halves = matrix->weights;
    if (matrix->inputs == 0) return start;
    if (matrix->format == KERNEL_INT8) return dot_int8(matrix, group, n, x, start);
    float sum = start;
    for (size_t k = 0; k < matrix->inputs; k++) {
        const size_t at = place_of(matrix, group, n, k);
        sum += values[k] * (matrix->format == KERNEL_BF16 ? float_of_bf16(halves[at]) : weights[at]);
    }
    return sum;
}

/* Gate g of unit u: its place in a row of gates. */
static size_t gate_index(size_t gates, size_t g, size_t u)
{
    return u / BLOCK * (gates * BLOCK) + g * BLOCK + u % BLOCK;
}

/* Gate g of unit u of row m, before its non-linearity, where input and hidden part have the same gates. */
static float gate_sum(const struct kernel_step *s, size_t gates, size_t g, size_t m, size_t u)
{
    const size_t n = gate_index(gates, g, u);
    return ref_dot(&s->hidden, gates, n, s->hidden_input[m],
                   ref_dot(&s->input, gates, n, s->input.inputs > 0 ? s->x[m] : NULL, s->start[m][n]));
}

/* Keeps the activation of gate g of unit u where gates are asked for. */
static void keep_gate(const struct kernel_step *s, size_t gates, size_t g, size_t m, size_t u, float value)
{
    if (s->gates) s->gates[m][gate_index(gates, g, u)] = value;
}

static void ref_lstm_step(const struct kernel_step *s)
{
    for (size_t m = 0; m < s->rows; m++) {
        for (size_t u = 0; u < s->blocks * BLOCK; u++) {
            const float i = sigmoid_of(gate_sum(s, 4, 0, m, u)), f = sigmoid_of(gate_sum(s, 4, 1, m, u));
            const float g = tanhf(gate_sum(s, 4, 2, m, u)), o = sigmoid_of(gate_sum(s, 4, 3, m, u));
            const float values[] = {i, f, g, o};
            for (size_t k = 0; k < 4; k++) keep_gate(s, 4, k, m, u, values[k]);
            s->c[m][u] = f * s->c[m][u] + i * g;
            s->h[m][u] = o * tanhf(s->c[m][u]);
        }
    }
}

/* r (index 0) or z (1) of the GRU; they are gates 1 and 2 of the input part. */
static float gru_gate(const struct kernel_step *s, size_t index, size_t m, size_t u)
{
    const size_t in = gate_index(3, index + 1, u), hidden = gate_index(3, index, u);
    const float start = s->start[m][in] + s->bias_hh[hidden];
    return sigmoid_of(ref_dot(&s->hidden, 3, hidden, s->hidden_input[m],
                              ref_dot(&s->input, 3, in, s->input.inputs > 0 ? s->x[m] : NULL, start)));
}

static void ref_gru_step(const struct kernel_step *s)
{
    for (size_t m = 0; m < s->rows; m++) {
        for (size_t u = 0; u < s->blocks * BLOCK; u++) {
            const size_t in = gate_index(3, 0, u), hidden = gate_index(3, 2, u);
            const float r = gru_gate(s, 0, m, u), z = gru_gate(s, 1, m, u);
            const float x = ref_dot(&s->input, 3, in, s->input.inputs > 0 ? s->x[m] : NULL, s->start[m][in]);
            const float q = ref_dot(&s->hidden, 3, hidden, s->hidden_input[m], s->bias_hh[hidden]);
            const float n = tanhf(x + r * q), values[] = {n, r, z};
            for (size_t k = 0; k < 3; k++) keep_gate(s, 3, k, m, u, values[k]);
            s->h[m][u] = (1.0f - z) * n + z * s->h_previous[m][u];
        }
    }
}

static void ref_rnn_step(const struct kernel_step *s)
{
    for (size_t m = 0; m < s->rows; m++)
        for (size_t u = 0; u < s->blocks * BLOCK; u++) s->h[m][u] = tanhf(gate_sum(s, 1, 0, m, u));
}

static void ref_project(size_t rows, size_t blocks, const struct kernel_matrix *matrix, const float *bias,
                        const void *const *x, float *const *y)
{
    for (size_t m = 0; m < rows; m++)
        for (size_t n = 0; n < blocks * BLOCK; n++) y[m][n] = ref_dot(matrix, 1, n, x[m], bias[n]);
}

static void ref_inputs(const struct kernel_inputs *p)
{
    const size_t size = p->matrix->format == KERNEL_INT8 ? sizeof(int16_t) : sizeof(float);
    for (size_t m = 0; m < p->rows; m++)
        for (size_t n = 0; n < p->blocks * p->gates * BLOCK; n++)
            p->y[m * p->ldy + n] = ref_dot(p->matrix, p->gates, n, (const char *)p->x + m * p->ldx * size, p->start[n]);
}

static void ref_quantize(size_t n, const float *x, float factor, int32_t limit, int16_t *out)
{
    for (size_t i = 0; i < n; i++) out[i] = (int16_t)lrintf(fmaxf(-(float)limit, fminf((float)limit, x[i] * factor)));
}

/* ------------------------------------------------------------------ loss */

static double ref_cross_entropy(size_t V, const float *logits, uint32_t target, float scale, float *gradient)
{
    assert(target < V);
    double largest = -INFINITY, sum = 0;
    const double target_logit = (double)logits[target];
    for (size_t v = 0; v < V; v++) largest = fmax(largest, (double)logits[v]);
    for (size_t v = 0; v < V; v++) sum += exp((double)logits[v] - largest);
    for (size_t v = 0; gradient && v < V; v++)
        gradient[v] = scale * ((float)(exp((double)logits[v] - largest) / sum) - (v == target ? 1.0f : 0.0f));
    return log(sum) + largest - target_logit;
}

static void ref_transpose(size_t rows, size_t columns, const float *in, size_t ldi, float *out, size_t ldo)
{
    for (size_t r = 0; r < rows; r++)
        for (size_t c = 0; c < columns; c++) out[c * ldo + r] = in[r * ldi + c];
}

static void ref_add(size_t n, const float *x, float *y)
{
    for (size_t i = 0; i < n; i++) y[i] += x[i];
}

static double ref_sum_of_squares(size_t n, const float *x)
{
    double total = 0;
    for (size_t i = 0; i < n; i++) total += (double)x[i] * (double)x[i];
    return total;
}

static float ref_multiply_add(size_t n)
{
    volatile float factor = 0.5f;
    float sum = 0;
    for (size_t i = 0; i < n * KERNEL_MULTIPLY_ADDS; i++) sum = sum * factor + 1.0f;
    return sum;
}

static void ref_update_sgd(const struct kernel_update *update)
{
    const struct kernel_update u = *update;
    for (size_t i = 0; i < u.n; i++) {
        u.mean[i] = u.beta1 * u.mean[i] + u.g[i] * u.scale;
        u.w[i] -= u.rate * u.mean[i];
    }
}

static void ref_update_rmsprop(const struct kernel_update *update)
{
    const struct kernel_update u = *update;
    for (size_t i = 0; i < u.n; i++) {
        float d = u.g[i] * u.scale;
        u.square[i] = u.beta2 * u.square[i] + (1.0f - u.beta2) * d * d;
        u.w[i] -= u.rate * d / (sqrtf(u.square[i]) + u.epsilon);
    }
}

static void ref_update_adam(const struct kernel_update *update)
{
    const struct kernel_update u = *update;
    for (size_t i = 0; i < u.n; i++) {
        float d = u.g[i] * u.scale;
        u.mean[i] = u.beta1 * u.mean[i] + (1.0f - u.beta1) * d;
        u.square[i] = u.beta2 * u.square[i] + (1.0f - u.beta2) * d * d;
        float direction = u.mean[i] * u.correction1 / (sqrtf(u.square[i] * u.correction2) + u.epsilon);
        u.w[i] -= u.rate * (direction + u.weight_decay * u.w[i]);
    }
}

static void ref_exp(size_t n, const float *in, float *out)
{
    for (size_t i = 0; i < n; i++) out[i] = expf(in[i]);
}

static void ref_tanh(size_t n, const float *in, float *out)
{
    for (size_t i = 0; i < n; i++) out[i] = tanhf(in[i]);
}

static void ref_sigmoid(size_t n, const float *in, float *out)
{
    for (size_t i = 0; i < n; i++) out[i] = sigmoid_of(in[i]);
}

const struct kernels kernels_ref = {
    .name = "ref",
    .generic = true,
    .window_rows = KERNEL_WINDOW_ROWS,
    .product = ref_product,
    .product_of_window = ref_product,
    .product_over_rows = ref_product_over_rows,
    .lstm_forward = ref_lstm_forward,
    .lstm_backward = ref_lstm_backward,
    .gru_forward = ref_gru_forward,
    .gru_backward = ref_gru_backward,
    .rnn_forward = ref_rnn_forward,
    .rnn_backward = ref_rnn_backward,
    .lstm_step = ref_lstm_step,
    .gru_step = ref_gru_step,
    .rnn_step = ref_rnn_step,
    .project = ref_project,
    .inputs = ref_inputs,
    .quantize = ref_quantize,
    .cross_entropy = ref_cross_entropy,
    .transpose = ref_transpose,
    .add = ref_add,
    .sum_of_squares = ref_sum_of_squares,
    .update_sgd = ref_update_sgd,
    .update_rmsprop = ref_update_rmsprop,
    .update_adam = ref_update_adam,
    .multiply_add = ref_multiply_add,
    .exp = ref_exp,
    .tanh = ref_tanh,
    .sigmoid = ref_sigmoid,
};
