/* lstmd inspect: what a model directory holds, as a table or as JSON. */
#include <float.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/json.h"
#include "cli/arguments.h"
#include "cli/commands.h"
#include "cli/inspect.h"
#include "model/files/checkpoint.h"
#include "model/network/quantize.h"

struct flags {
    const char *model;
    bool json;
};

static const struct option rows[] = {
    {"model", OPTION_TEXT, offsetof(struct flags, model), NULL, 1, 4095, NULL, NULL, "The model directory."},
    {"json", OPTION_BOOL, offsetof(struct flags, json), "false", 0, 0, NULL, NULL, "Prints JSON."},
};

static const struct command_line line = {
    .usage = "lstmd inspect DIR [--json]",
    .description = "Checks a model directory and prints its layers, tensors, shapes and parameter counts.",
    .table = {rows, sizeof rows / sizeof rows[0], NULL, NULL},
    .operands = (const char *const[]){"model", NULL},
    .required = (const char *const[]){"model", NULL},
};

#define COUNT_SIZE 32

/* 119892 -> "119,892" */
static const char *format_count(size_t count, char out[COUNT_SIZE])
{
    char digits[COUNT_SIZE];
    int n = snprintf(digits, sizeof digits, "%zu", count);
    char *at = out;
    for (int i = 0; i < n; i++) {
        if (i > 0 && (n - i) % 3 == 0) *at++ = ',';
        *at++ = digits[i];
    }
    *at = '\0';
    return out;
}

/* Groups of tensors, in the order of the computation: the embedding, each layer, each dense layer, the output. */
static size_t group_count(const struct architecture *a)
{
    return 2 + (size_t)a->layers + a->dense_layers;
}

static size_t group_of(const struct architecture *a, const struct tensor *tensor)
{
    switch (tensor->kind) {
    case TENSOR_embedding:
        return 0;
    case TENSOR_weight_ih:
    case TENSOR_weight_hh:
    case TENSOR_bias:
    case TENSOR_bias_hh:
        return 1 + tensor->layer;
    case TENSOR_dense_weight:
    case TENSOR_dense_bias:
        return 1 + a->layers + tensor->layer;
    case TENSOR_output_weight:
    case TENSOR_output_bias:
        break;
    }
    return 1 + a->layers + a->dense_layers;
}

static void format_group(const struct architecture *a, size_t group, char *out, size_t size)
{
    if (group == 0)
        snprintf(out, size, "embedding");
    else if (group <= a->layers)
        snprintf(out, size, "%s %zu", cell_name(a->cell), group - 1);
    else if (group <= a->layers + a->dense_layers)
        snprintf(out, size, "dense %zu", group - 1 - a->layers);
    else
        snprintf(out, size, "output");
}

static size_t print_group(const struct network *network, size_t group)
{
    size_t sum = 0;
    char label[32];
    format_group(&network->architecture, group, label, sizeof label);
    for (size_t i = 0; i < network->tensor_count; i++) {
        const struct tensor *tensor = &network->tensors[i];
        size_t count = tensor->rows * tensor->columns;
        char shape[48], text[COUNT_SIZE];
        if (group_of(&network->architecture, tensor) != group) continue;
        snprintf(shape, sizeof shape, tensor->vector ? "%zu" : "%zu x %zu", tensor->rows, tensor->columns);
        printf("%-10s %-18s %-16s %14s\n", sum == 0 ? label : "", tensor->name, shape, format_count(count, text));
        sum += count;
    }
    return sum;
}

/* Prints the groups; the last line is their sum: 119,892 = 109,056 + 10,836. */
static void print_tensors(const struct network *network)
{
    size_t sums[NETWORK_MAX_LAYERS + NETWORK_MAX_DENSE + 2], groups = group_count(&network->architecture);
    char text[COUNT_SIZE];
    printf("%-10s %-18s %-16s %14s\n", "layer", "tensor", "shape", "parameters");
    for (size_t group = 0; group < groups; group++) sums[group] = print_group(network, group);
    printf("%-10s %-18s %-16s %14s", "total", "", "", format_count(network->parameter_count, text));
    const char *sign = " =";
    for (size_t group = 0; group < groups; group++) {
        if (sums[group] == 0) continue;
        printf("%s %s", sign, format_count(sums[group], text));
        sign = " +";
    }
    putchar('\n');
}

/* "2 layers of 128", "3 layers of 256, 128 and 64" */
static void print_sizes(const struct architecture *a)
{
    printf("%u %s of %zu", a->layers, a->layers == 1 ? "layer" : "layers", architecture_hidden(a, 0));
    for (size_t k = 1; k < a->layers && !architecture_is_uniform(a); k++)
        printf("%s%zu", k + 1 < a->layers ? ", " : " and ", architecture_hidden(a, k));
}

/* Prints the properties that a standard network does not have. */
static void print_variant(const struct architecture *a)
{
    if (a->activation != ACTIVATION_TANH) printf(", activation %s", activation_name(a->activation));
    if (cell_table[a->cell].gated && a->recurrent_activation != ACTIVATION_SIGMOID)
        printf(", recurrent activation %s", activation_name(a->recurrent_activation));
    if (a->reset_before) printf(", reset before the product");
    for (size_t d = 0; d < a->dense_layers; d++)
        printf(", dense layer of %u (%s)", a->dense[d].size, activation_name(a->dense[d].activation));
    if (a->window.size > 0)
        printf(", window of %u tokens (%s)", a->window.size, a->window.masked ? "masked" : "padding is fed");
}

static void print_network(const struct model *model)
{
    const struct architecture *a = &model->network.architecture;
    printf("%s: %s, ", model->name, cell_name(a->cell));
    print_sizes(a);
    if (a->embedding_size > 0)
        printf(", embedding of %u%s", a->embedding_size, a->tie_weights ? " tied to the output" : "");
    else
        printf(", one-hot input");
    print_variant(a);
    if (model->weights != KERNEL_F32) printf(", weights %s", kernel_format_name(model->weights));
    printf(", %u tokens (%s)\n\n", a->vocabulary_size, token_level_name(vocabulary_level(model->vocabulary)));
}

/* Prints escaped ASCII, because an untrusted file could hold terminal controls. */
static bool print_json(const char *heading, const json_t *json, struct error *err)
{
    size_t n;
    char *text = json_text_print(json, JSON_INDENT(2) | JSON_REAL_PRECISION(DBL_DIG) | JSON_ENSURE_ASCII, &n, err);
    if (!text) return false;
    printf("%s%s\n", heading, text);
    free(text);
    return true;
}

bool inspect_print(const struct model *model, bool as_json, struct error *err)
{
    const json_t *training = json_object_get(model->config, "training");
    if (!as_json) {
        print_network(model);
        print_tensors(&model->network);
        return !training || print_json("\ntraining ", training, err);
    }
    json_t *json = model_describe(model, err);
    bool ok = json && print_json("", json, err);
    json_decref(json);
    return ok;
}

int cmd_inspect(int argc, char **argv)
{
    struct arena arena = {0};
    struct flags flags;
    int exit_code;
    if (arguments_parse(&line, argc, argv, &flags, &arena, &exit_code)) {
        struct model model;
        struct error err = {0};
        if (!model_load(&model, flags.model, &err) || !inspect_print(&model, flags.json, &err))
            exit_code = command_fail(&err);
        model_close(&model);
    }
    arena_free(&arena);
    return exit_code;
}
