#include "model/generate/inspect.h"

#include <string.h>

#include "base/size.h"
#include "model/generate/reading.h"
#include "model/generate/step_internal.h"
#include "model/kernels/half.h"
#include "model/network/plain_step.h"

#define BLOCK KERNEL_BLOCK

/* Puts token `id` into the list of the `filled` likeliest so far, sorted. Tokens come by rising id. */
static size_t place_token(const float *logits, uint32_t id, size_t count, size_t filled, struct inspect_token *top)
{
    size_t at = filled;
    if (filled == count && logits[id] <= logits[top[count - 1].id]) return filled;
    if (filled < count) filled++;
    if (at == count) at--;
    for (; at > 0 && logits[top[at - 1].id] < logits[id]; at--) top[at] = top[at - 1];
    top[at].id = id;
    return filled;
}

struct inspect_figures inspect_logits(const float *logits, size_t vocabulary, uint32_t id, size_t count,
                                      struct inspect_token *top)
{
    const struct reading_softmax softmax = reading_softmax(logits, vocabulary);
    size_t filled = 0;
    for (uint32_t v = 0; count > 0 && v < vocabulary; v++) filled = place_token(logits, v, count, filled, top);
    for (size_t i = 0; i < filled; i++) top[i].logprob = reading_softmax_log(&softmax, logits[top[i].id]);
    return (struct inspect_figures){.logprob = reading_softmax_log(&softmax, logits[id]), .entropy = softmax.entropy};
}

/* ------------------------------------------------------------------ gates */

bool inspect_gates_open(struct inspect_gates *gates, const struct stepper *stepper, struct error *err)
{
    const struct step_weights *weights = &stepper->weights;
    const size_t W = weights->largest_width, G = architecture_gates(&stepper->architecture);
    const size_t integers = W > weights->embedding_width ? W : weights->embedding_width;
    struct arena *arena = &gates->arena;
    *gates = (struct inspect_gates){.stepper = stepper};
#define TAKE(field, count)                                                                                             \
    if (!(gates->field = arena_alloc(arena, (count), sizeof *gates->field, "gates", err))) return false
    TAKE(row, G * W);
    TAKE(in, G * W);
    TAKE(gates, G * W);
    TAKE(h, W);
    TAKE(c, W);
    if (weights->format == KERNEL_INT8) {
        TAKE(x_integers, integers);
        TAKE(h_integers, W);
    }
#undef TAKE
    return true;
}

void inspect_gates_close(struct inspect_gates *gates)
{
    arena_free(&gates->arena);
}

/* y[n] += the product of x with group j of a matrix, n = 16 * group outputs; kernels.h has the layouts. */
static void multiply_floats(const struct kernel_matrix *matrix, size_t n, size_t j, const float *x, float *y)
{
    const float *w = (const float *)matrix->weights + j * matrix->inputs * n;
    for (size_t k = 0; k < matrix->inputs; k++)
        for (size_t i = 0; i < n; i++) y[i] += x[k] * w[k * n + i];
}

static void multiply_halves(const struct kernel_matrix *matrix, size_t n, size_t j, const float *x, float *y)
{
    const uint16_t *w = (const uint16_t *)matrix->weights + j * matrix->inputs * n;
    for (size_t k = 0; k < matrix->inputs; k++)
        for (size_t i = 0; i < n; i++) y[i] += x[k] * float_of_bfloat(w[(k / 2 * n + i) * 2 + k % 2]);
}

static void multiply_integers(const struct kernel_matrix *matrix, size_t n, size_t j, const int16_t *x, float *y)
{
    const int8_t *w = (const int8_t *)matrix->weights + j * matrix->inputs * n;
    int32_t sums[CELL_MAX_GATES * BLOCK] = {0};
    for (size_t k = 0; k < matrix->inputs; k++)
        for (size_t i = 0; i < n; i++) sums[i] += x[k] * w[(k / 2 * n + i) * 2 + k % 2];
    for (size_t i = 0; i < n; i++) y[i] += (float)sums[i] * matrix->scale[j * n + i];
}

static void multiply(const struct kernel_matrix *matrix, size_t n, size_t j, const void *x, float *y)
{
    switch (matrix->format) {
    case KERNEL_F32:
        multiply_floats(matrix, n, j, x, y);
        break;
    case KERNEL_BF16:
        multiply_halves(matrix, n, j, x, y);
        break;
    case KERNEL_INT8:
        multiply_integers(matrix, n, j, x, y);
        break;
    }
}

/* Operands of a product of one row with a matrix of a layer. */
struct gates_product {
    size_t layer;
    bool hidden_part;  /* the hidden product, else the input product */
    const float *bias; /* [a row of gates]; NULL: 0 */
    const void *x;     /* the row, in the matrix's format; NULL: no inputs */
    size_t first;      /* gates before this one keep their values in `out` */
    float *out;        /* [G][W] */
};

/* out = bias + the product of x with the matrix, in the file's order of gates. */
static void gates_multiply(const struct inspect_gates *gates, const struct gates_product *product)
{
    const struct step_weights *weights = &gates->stepper->weights;
    const struct step_layer *own = &weights->layers[product->layer];
    const struct kernel_matrix *matrix = product->hidden_part ? &own->hidden : &own->input;
    const size_t G = architecture_gates(&gates->stepper->architecture), n = (weights->fused ? G : 1) * BLOCK;
    const size_t H = architecture_hidden(&gates->stepper->architecture, product->layer);
    if (product->bias)
        memcpy(gates->row, product->bias, own->gate_row * sizeof(float));
    else
        memset(gates->row, 0, own->gate_row * sizeof(float));
    for (size_t j = 0; product->x && matrix->inputs > 0 && j < own->gate_row / n; j++)
        multiply(matrix, n, j, product->x, gates->row + j * n);
    for (size_t gate = product->first; gate < G; gate++) {
        float *values = product->out + gate * own->width;
        memset(values + H, 0, (own->width - H) * sizeof(float));
        for (size_t u = 0; u < H; u++)
            values[u] = gates->row[step_weights_gate(weights, product->layer, product->hidden_part, gate * H + u)];
    }
}

/* The input of layer `layer`: the token's row, or h of the layer below. */
static const void *input_of(const struct inspect_gates *gates, size_t layer, uint32_t token, const float *after)
{
    const struct stepper *stepper = gates->stepper;
    const struct step_weights *weights = &stepper->weights;
    const void *x = NULL;
    if (layer == 0)
        return weights->embedding ? (const char *)weights->embedding +
                                        token * step_input_size(weights->format, weights->embedding_width)
                                  : NULL;
    const float *below = after + stepper->first_state[layer - 1];
    step_prepare_inputs(stepper, 1, weights->layers[layer - 1].width, &below, gates->x_integers, &x);
    return x;
}

const float *inspect_gates_of(struct inspect_gates *gates, size_t layer, uint32_t token, const float *before,
                              const float *after)
{
    const struct stepper *stepper = gates->stepper;
    const struct step_layer *own = &stepper->weights.layers[layer];
    const struct cell *cell = &cell_table[stepper->architecture.cell];
    const struct cell_plain *plain = stepper->architecture.reset_before ? &cell->plain_reset_before : &cell->plain;
    const float *start = own->table ? own->table + token * own->gate_row : own->bias;
    const float *h_previous = before + stepper->first_state[layer];
    const struct plain_row row = {.architecture = &stepper->architecture,
                                  .kernels = stepper->kernels,
                                  .W = own->width,
                                  .in = gates->in,
                                  .gates = gates->gates,
                                  .h_previous = h_previous,
                                  .h = gates->h,
                                  .c = gates->c};
    const float *h_new = gates->h;
    const void *x;
    if (cell->states > 1) memcpy(gates->c, h_previous + own->width, own->width * sizeof(float));
    gates_multiply(gates,
                   &(struct gates_product){layer, false, start, input_of(gates, layer, token, after), 0, gates->in});
    step_prepare_inputs(stepper, 1, own->width, &h_previous, gates->h_integers, &x);
    gates_multiply(gates, &(struct gates_product){layer, true, own->bias_hh, x, 0, gates->gates});
    if (plain->first_gates > 0) {
        plain->first(&row);
        step_prepare_inputs(stepper, 1, own->width, &h_new, gates->h_integers, &x);
        gates_multiply(gates, &(struct gates_product){layer, true, own->bias_hh, x, plain->first_gates, gates->gates});
    }
    plain->last(&row);
    return gates->gates;
}
