#include <string.h>

#include "model/generate/step_internal.h"
#include "model/network/plain_step.h"

/* Lets `finish` finish each row of a layer. The padding behind the units stays zero, whatever f(0) is. */
static void finish_rows(const struct stepper *stepper, size_t layer, const struct kernel_step *s, float *const *in,
                        float *const *gates, void (*finish)(const struct plain_row *row))
{
    const size_t W = stepper->weights.layers[layer].width, units = architecture_hidden(&stepper->architecture, layer);
    for (size_t m = 0; m < s->rows; m++) {
        const struct plain_row row = {.architecture = &stepper->architecture,
                                      .kernels = stepper->kernels,
                                      .W = W,
                                      .in = s->input.inputs > 0 ? in[m] : s->start[m],
                                      .gates = gates[m],
                                      .h_previous = s->h_previous[m],
                                      .h = s->h[m],
                                      .c = s->c[m]};
        finish(&row);
        memset(row.h + units, 0, (W - units) * sizeof(float));
        if (cell_table[stepper->architecture.cell].states > 1) memset(row.c + units, 0, (W - units) * sizeof(float));
    }
}

/* The outputs of a matrix from output `first` on. Its groups are single blocks: [G][W] outputs. */
static struct kernel_matrix part_of(const struct kernel_matrix *matrix, size_t first)
{
    static const size_t sizes[] = {
        [KERNEL_F32] = sizeof(float), [KERNEL_BF16] = sizeof(uint16_t), [KERNEL_INT8] = sizeof(int8_t)};
    struct kernel_matrix part = *matrix;
    part.weights = (const char *)matrix->weights + first * matrix->inputs * sizes[matrix->format];
    if (matrix->scale) part.scale = matrix->scale + first;
    return part;
}

/* The first gates make of h what the product of the other gates reads. */
static void step_in_parts(const struct stepper *stepper, struct step_scratch *scratch, size_t layer,
                          const struct kernel_step *s, const struct cell_plain *plain)
{
    const struct step_layer *weights = &stepper->weights.layers[layer];
    const size_t W = weights->width, first = plain->first_gates * W, rest = weights->gate_row - first;
    const struct kernel_matrix last = part_of(&s->hidden, first);
    float **in = scratch->gate_rows[0], **gates = scratch->gate_rows[1];
    stepper->kernels->project(s->rows, first / KERNEL_BLOCK, &s->hidden, s->bias_hh, s->hidden_input, gates);
    finish_rows(stepper, layer, s, in, gates, plain->first);
    step_prepare_inputs(stepper, s->rows, W, (const float *const *)s->h, scratch->h_integers, scratch->hidden_input);
    for (size_t m = 0; m < s->rows; m++) gates[m] += first;
    stepper->kernels->project(s->rows, rest / KERNEL_BLOCK, &last, s->bias_hh + first, s->hidden_input, gates);
    for (size_t m = 0; m < s->rows; m++) gates[m] -= first;
    finish_rows(stepper, layer, s, in, gates, plain->last);
}

void step_variant(const struct stepper *stepper, struct step_scratch *scratch, size_t layer,
                  const struct kernel_step *arguments)
{
    const struct kernel_step *s = arguments;
    const struct cell *cell = &cell_table[stepper->architecture.cell];
    const struct cell_plain *plain = stepper->architecture.reset_before ? &cell->plain_reset_before : &cell->plain;
    const size_t gate_row = stepper->weights.layers[layer].gate_row, blocks = gate_row / KERNEL_BLOCK;
    for (size_t part = 0; part < 2; part++)
        for (size_t m = 0; m < s->rows; m++) scratch->gate_rows[part][m] = scratch->gates[part] + m * gate_row;
    for (size_t m = 0; s->gates && m < s->rows; m++) scratch->gate_rows[1][m] = s->gates[m];
    if (s->input.inputs > 0)
        stepper->kernels->project(s->rows, blocks, &s->input, s->start[0], s->x, scratch->gate_rows[0]);
    if (plain->first_gates > 0) {
        step_in_parts(stepper, scratch, layer, s, plain);
        return;
    }
    stepper->kernels->project(s->rows, blocks, &s->hidden, s->bias_hh, s->hidden_input, scratch->gate_rows[1]);
    finish_rows(stepper, layer, s, scratch->gate_rows[0], scratch->gate_rows[1], plain->last);
}
