/* What step.c and step_variant.c share: the cells that no fused kernel computes, and the inputs of products. */
#ifndef LSTMD_MODEL_GENERATE_STEP_INTERNAL_H
#define LSTMD_MODEL_GENERATE_STEP_INTERNAL_H

#include "model/generate/step.h"
#include "model/kernels/kernels.h"

/* inputs[b] = rows[b] [width] as a product reads it: itself, or its integers, which are put into `integers`. */
void step_prepare_inputs(const struct stepper *stepper, size_t batch, size_t width, const float *const *rows,
                         int16_t *integers, const void **inputs);

/* A step of layer `layer` by the equations of architecture.h, with any activations: products first, then the gates row
 * by row. A row of gates is [G][Hp] (step_weights.h). scratch->hidden_input and h_integers are used up. */
void step_variant(const struct stepper *stepper, struct step_scratch *scratch, size_t layer,
                  const struct kernel_step *arguments);

#endif
