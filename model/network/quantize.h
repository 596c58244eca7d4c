/* Weights in fewer bits: bfloat16, and int8 with a scale per row. Pure functions, thread-safe.
 *
 * int8: w is about q * scale with q in -127 .. 127 and the largest weight of a row at +-127. A scale has at most 17
 * significant bits, so q * scale is an exact float, and quantising q * scale again gives the same q and the same scale:
 * a model quantised before it is saved gives the same bits as one quantised when it is loaded.
 */
#ifndef LSTMD_MODEL_NETWORK_QUANTIZE_H
#define LSTMD_MODEL_NETWORK_QUANTIZE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/error.h"
#include "model/kernels/kernels.h"
#include "model/network/network.h"

const char *kernel_format_name(enum kernel_format format); /* "f32", "bf16", "int8" */
bool kernel_format_parse(const char *name, enum kernel_format *format);

/* The format for a setting of auto, f32, bf16 or int8 (0, 1, 2, 3); auto is the model's own format. */
enum kernel_format kernel_format_choose(int choice, enum kernel_format own);

/* The nearest bfloat16 (half to even): the upper 16 bits of a float; finite for every finite weight. */
uint16_t quantize_bf16(float weight);

/* The row's scale, and q[n]. The weights are finite. A row of zeros has scale 0. */
float quantize_int8(size_t n, const float *weights, int8_t *q);

/* Whether a format stores a tensor in fewer bits: true for the matrices that stepping multiplies. Biases stay float32,
 * and so do one-hot inputs and untied embeddings, because a step only looks up one row of them. */
bool quantize_applies(const struct architecture *architecture, const struct tensor *tensor);

/* Whether a network can have this format. int8 needs every layer's output within -1 and 1, and the gates of a cell that
 * mixes old and new h within 0 and 1; relu and linear leave these bounds. Errors: ERROR_INVALID. */
bool quantize_check(const struct architecture *architecture, enum kernel_format format, struct error *err);

#endif
