/* The values of a recognised network: from the tensors of the file into ours. */
#include <stdlib.h>

#include "model/interop/recurrent_internal.h"

bool recurrent_load_values(struct foreign_tensors *tensors, struct error *err)
{
    for (size_t i = 0; i < tensors->count; i++)
        if (!foreign_tensor_load(tensors, &tensors->list[i], err)) return false;
    return true;
}

static bool read_bias(const struct layer *layer, struct network *network, size_t k, struct error *err)
{
    const struct foreign_tensor *ih = layer->parts[BIAS_IH], *hh = layer->parts[BIAS_HH];
    float *bias = network->bias[k];
    if (ih) foreign_tensor_read(ih, bias);
    if (hh && network->bias_hh[k]) foreign_tensor_read(hh, network->bias_hh[k]);
    if (!hh || network->bias_hh[k]) return true;
    float *second = malloc(hh->count * sizeof *second);
    if (!second) return error_set_no_memory(err, hh->count * sizeof *second, "a bias");
    foreign_tensor_read(hh, second);
    for (size_t i = 0; i < hh->count; i++) bias[i] += second[i];
    free(second);
    return true;
}

bool recurrent_read_values(const struct model_parts *parts, struct network *network, struct error *err)
{
    for (size_t k = 0; k < parts->layer_count; k++) {
        foreign_tensor_read(parts->layers[k].parts[WEIGHT_IH], network->weight_ih[k]);
        foreign_tensor_read(parts->layers[k].parts[WEIGHT_HH], network->weight_hh[k]);
        if (!read_bias(&parts->layers[k], network, k, err)) return false;
    }
    if (parts->embedding) foreign_tensor_read(parts->embedding, network->embedding);
    if (!parts->architecture.tie_weights) foreign_tensor_read(parts->output, network->output_weight);
    if (parts->output_bias) foreign_tensor_read(parts->output_bias, network->output_bias);
    return true;
}
