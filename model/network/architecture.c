#include "model/network/architecture.h"

#include <stdio.h>
#include <string.h>

#include "model/text/vocabulary.h"

static const char *const activation_names[] = {
    [ACTIVATION_DEFAULT] = "",
    [ACTIVATION_TANH] = "tanh",
    [ACTIVATION_SIGMOID] = "sigmoid",
    [ACTIVATION_RELU] = "relu",
    [ACTIVATION_LINEAR] = "linear",
    [ACTIVATION_HARD_SIGMOID] = "hard_sigmoid",
    [ACTIVATION_HARD_SIGMOID_KERAS2] = "hard_sigmoid_keras2",
};

#define ACTIVATION_COUNT (sizeof activation_names / sizeof activation_names[0])

const char *activation_name(enum activation activation)
{
    return activation_names[activation];
}

bool activation_parse(const char *name, enum activation *activation)
{
    for (size_t i = ACTIVATION_DEFAULT + 1; i < ACTIVATION_COUNT; i++) {
        if (strcmp(name, activation_names[i]) != 0) continue;
        *activation = (enum activation)i;
        return true;
    }
    return false;
}

size_t architecture_gates(const struct architecture *architecture)
{
    return cell_table[architecture->cell].gates;
}

size_t architecture_hidden(const struct architecture *architecture, size_t layer)
{
    const uint32_t own = architecture->hidden_sizes[layer];
    return own > 0 ? own : architecture->hidden_size;
}

size_t architecture_input(const struct architecture *architecture, size_t layer)
{
    if (layer > 0) return architecture_hidden(architecture, layer - 1);
    return architecture->embedding_size > 0 ? architecture->embedding_size : architecture->vocabulary_size;
}

size_t architecture_dense_input(const struct architecture *architecture, size_t dense)
{
    return dense > 0 ? architecture->dense[dense - 1].size
                     : architecture_hidden(architecture, architecture->layers - 1);
}

size_t architecture_top(const struct architecture *architecture)
{
    return architecture_dense_input(architecture, architecture->dense_layers);
}

bool architecture_has_two_biases(const struct architecture *architecture)
{
    return cell_table[architecture->cell].apart && !architecture->reset_before;
}

static bool is_default_or(enum activation activation, enum activation usual)
{
    return activation == ACTIVATION_DEFAULT || activation == usual;
}

bool architecture_cell_is_standard(const struct architecture *architecture)
{
    const struct architecture *a = architecture;
    const struct cell *cell = &cell_table[a->cell];
    return cell->step && is_default_or(a->activation, ACTIVATION_TANH) &&
           (!cell->gated || is_default_or(a->recurrent_activation, ACTIVATION_SIGMOID)) &&
           (!cell->may_reset_before || !a->reset_before);
}

bool architecture_is_uniform(const struct architecture *architecture)
{
    for (size_t k = 1; k < architecture->layers; k++)
        if (architecture_hidden(architecture, k) != architecture_hidden(architecture, 0)) return false;
    return true;
}

bool architecture_is_standard(const struct architecture *architecture)
{
    return cell_table[architecture->cell].forward && architecture_cell_is_standard(architecture) &&
           architecture_is_uniform(architecture) && architecture->dense_layers == 0 && architecture->window.size == 0;
}

static bool check_range(const char *field, size_t value, uint32_t least, uint32_t most, struct error *err)
{
    if (value >= least && value <= most) return true;
    return error_set(err, ERROR_INVALID, "%s is %zu, but must be from %u to %u", field, value, least, most);
}

static bool check_activation(const char *field, enum activation activation, struct error *err)
{
    if ((size_t)activation < ACTIVATION_COUNT) return true;
    return error_set(err, ERROR_INVALID, "%s must be tanh, sigmoid, relu, linear, hard_sigmoid or hard_sigmoid_keras2",
                     field);
}

static bool check_layers(const struct architecture *a, struct error *err)
{
    char field[32];
    if (!check_range("layers", a->layers, 1, NETWORK_MAX_LAYERS, err)) return false;
    if (!check_range("hidden_size", a->hidden_size, 1, NETWORK_MAX_HIDDEN, err)) return false;
    for (size_t k = 0; k < a->layers; k++) {
        snprintf(field, sizeof field, "hidden_sizes[%zu]", k);
        if (!check_range(field, architecture_hidden(a, k), 1, NETWORK_MAX_HIDDEN, err)) return false;
    }
    return true;
}

static bool check_dense(const struct architecture *a, struct error *err)
{
    char field[32];
    if (!check_range("dense_layers", a->dense_layers, 0, NETWORK_MAX_DENSE, err)) return false;
    for (size_t d = 0; d < a->dense_layers; d++) {
        snprintf(field, sizeof field, "dense[%zu].size", d);
        if (!check_range(field, a->dense[d].size, 1, NETWORK_MAX_HIDDEN, err)) return false;
        snprintf(field, sizeof field, "dense[%zu].activation", d);
        if (!check_activation(field, a->dense[d].activation, err)) return false;
    }
    return true;
}

/* With tied weights the embedding is also the output's matrix, so its size must be the output's input. */
static bool check_tie(const struct architecture *a, struct error *err)
{
    const char *of = a->dense_layers > 0 ? "the last dense layer's size" : "hidden_size";
    if (!a->tie_weights || a->embedding_size == architecture_top(a)) return true;
    return error_set(err, ERROR_INVALID, "tie_weights needs embedding_size equal to %s, but they are %u and %zu", of,
                     a->embedding_size, architecture_top(a));
}

bool architecture_check(const struct architecture *architecture, struct error *err)
{
    const struct architecture *a = architecture;
    if ((size_t)a->cell >= CELL_COUNT) return error_set(err, ERROR_INVALID, "cell must be " CELL_NAMES);
    return check_layers(a, err) && check_range("embedding_size", a->embedding_size, 0, NETWORK_MAX_EMBEDDING, err) &&
           check_range("vocabulary_size", a->vocabulary_size, 1, VOCABULARY_MAX_TOKENS, err) &&
           check_activation("activation", a->activation, err) &&
           check_activation("recurrent_activation", a->recurrent_activation, err) && check_dense(a, err) &&
           check_range("window", a->window.size, 0, NETWORK_MAX_WINDOW, err) && check_tie(a, err);
}

void architecture_complete(struct architecture *architecture)
{
    struct architecture *a = architecture;
    const bool uniform = architecture_is_uniform(a);
    const uint32_t top = (uint32_t)architecture_hidden(a, a->layers - 1);
    for (size_t k = 0; k < NETWORK_MAX_LAYERS; k++)
        a->hidden_sizes[k] = uniform || k >= a->layers ? 0 : (uint32_t)architecture_hidden(a, k);
    a->hidden_size = top;
    if (a->activation == ACTIVATION_DEFAULT) a->activation = ACTIVATION_TANH;
    if (a->recurrent_activation == ACTIVATION_DEFAULT) a->recurrent_activation = ACTIVATION_SIGMOID;
    if (!cell_table[a->cell].gated) a->recurrent_activation = ACTIVATION_DEFAULT;
    a->reset_before = a->reset_before && cell_table[a->cell].may_reset_before;
    a->window.masked = a->window.masked && a->window.size > 0;
    for (size_t d = 0; d < a->dense_layers; d++)
        if (a->dense[d].activation == ACTIVATION_DEFAULT) a->dense[d].activation = ACTIVATION_LINEAR;
}
