#include "model/network/quantize.h"

#include <math.h>
#include <string.h>

#define LARGEST_BF16 0x7F7F

static const char *const names[] = {[KERNEL_F32] = "f32", [KERNEL_BF16] = "bf16", [KERNEL_INT8] = "int8"};

const char *kernel_format_name(enum kernel_format format)
{
    return names[format];
}

bool kernel_format_parse(const char *name, enum kernel_format *format)
{
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) {
        if (strcmp(name, names[i]) != 0) continue;
        *format = (enum kernel_format)i;
        return true;
    }
    return false;
}

enum kernel_format kernel_format_choose(int choice, enum kernel_format own)
{
    return choice == 0 ? own : (enum kernel_format)(choice - 1);
}

static uint32_t bits_of(float value)
{
    uint32_t bits;
    memcpy(&bits, &value, sizeof bits);
    return bits;
}

static float float_of(uint32_t bits)
{
    float value;
    memcpy(&value, &bits, sizeof value);
    return value;
}

uint16_t quantize_bf16(float weight)
{
    const uint32_t bits = bits_of(weight), magnitude = bits & 0x7FFFFFFFu;
    const uint32_t rounded = (magnitude + 0x7FFF + (magnitude >> 16 & 1)) >> 16;
    return (uint16_t)((bits >> 16 & 0x8000) | (rounded > LARGEST_BF16 ? LARGEST_BF16 : rounded));
}

/* largest / 127, rounded up to 17 significant bits. Rounding up adds to the bits of the fraction; a carry into the
 * exponent also gives the right number. */
static float scale_of(float largest)
{
    return float_of((bits_of(largest / KERNEL_INT8_MAX) + 0x7F) & ~0x7Fu);
}

float quantize_int8(size_t n, const float *weights, int8_t *q)
{
    float largest = 0;
    for (size_t i = 0; i < n; i++) largest = fmaxf(largest, fabsf(weights[i]));
    const float scale = scale_of(largest);
    for (size_t i = 0; i < n; i++) q[i] = scale > 0 ? (int8_t)lrintf(weights[i] / scale) : 0;
    return scale;
}

bool quantize_applies(const struct architecture *architecture, const struct tensor *tensor)
{
    switch (tensor->kind) {
    case TENSOR_embedding:
        return architecture->tie_weights;
    case TENSOR_weight_ih:
        return tensor->layer > 0 || architecture->embedding_size > 0;
    case TENSOR_weight_hh:
    case TENSOR_dense_weight:
    case TENSOR_output_weight:
        return true;
    case TENSOR_bias:
    case TENSOR_bias_hh:
    case TENSOR_dense_bias:
    case TENSOR_output_bias:
        break;
    }
    return false;
}

static bool activation_is_unbounded(enum activation activation)
{
    return activation == ACTIVATION_RELU || activation == ACTIVATION_LINEAR;
}

/* The first activation whose values are not within -1 and 1, or DEFAULT. A cell that mixes old and new h keeps h within
 * these bounds if its gates are within 0 and 1; with a negative gate h may grow to any size. */
static enum activation find_unbounded(const struct architecture *a)
{
    const struct cell *cell = &cell_table[a->cell];
    const enum activation gates = cell->gated ? a->recurrent_activation : ACTIVATION_DEFAULT;
    if (activation_is_unbounded(a->activation)) return a->activation;
    if (activation_is_unbounded(gates) || (cell->mixes && gates == ACTIVATION_TANH)) return gates;
    for (size_t d = 0; d < a->dense_layers; d++)
        if (activation_is_unbounded(a->dense[d].activation)) return a->dense[d].activation;
    return ACTIVATION_DEFAULT;
}

bool quantize_check(const struct architecture *architecture, enum kernel_format format, struct error *err)
{
    struct architecture complete = *architecture;
    architecture_complete(&complete);
    const enum activation unbounded = find_unbounded(&complete);
    if (format != KERNEL_INT8 || unbounded == ACTIVATION_DEFAULT) return true;
    return error_set(err, ERROR_INVALID,
                     "int8 weights need values between -1 and 1 in all layers, which the activation %s does not give; "
                     "bf16 or f32 will do",
                     activation_name(unbounded));
}
