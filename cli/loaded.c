#include "cli/loaded.h"

#include <stdio.h>
#include <string.h>

#include "model/network/quantize.h"

bool loaded_open_as(struct loaded *loaded, const char *directory, int weights, struct error *err)
{
    memset(loaded, 0, sizeof *loaded);
    return model_load(&loaded->model, directory, err) &&
           stepper_open_as(&loaded->stepper, &loaded->model.network, kernels_select("auto"),
                           kernel_format_choose(weights, loaded->model.weights), err);
}

bool loaded_open(struct loaded *loaded, const char *directory, struct error *err)
{
    return loaded_open_as(loaded, directory, 0, err);
}

void loaded_close(struct loaded *loaded)
{
    stepper_close(&loaded->stepper);
    model_close(&loaded->model);
}

void loaded_print_warnings(const struct generation *generation, const char *prompt)
{
    for (size_t i = 0; i < generation_warning_count(generation); i++) {
        char text[GENERATION_WARNING_SIZE];
        generation_warning(generation, prompt, i, text);
        fprintf(stderr, "lstmd: warning: %s\n", text);
    }
}
