/* What step.c and step_variant.c share: the way without a fused kernel, and the inputs of products. */
#ifndef LSTMD_MODEL_GENERATE_STEP_INTERNAL_H
#define LSTMD_MODEL_GENERATE_STEP_INTERNAL_H

#include "model/generate/step.h"
#include "model/kernels/kernels.h"

/* inputs[b] = rows[b] [width] as a product reads it: the row itself, or for INT8 its integers, in `integers`. */
void step_prepare_inputs(const struct stepper *stepper, size_t batch, size_t width, const float *const *rows,
                         int16_t *integers, const void **inputs);

/* A step of layer `layer` without a fused kernel: products first, then the cell's plain step row by row. A row of gates
 * is [G][Hp] (step_weights.h). Overwrites scratch->hidden_input and h_integers. */
void step_variant(const struct stepper *stepper, struct step_scratch *scratch, size_t layer,
                  const struct kernel_step *arguments);

#endif
