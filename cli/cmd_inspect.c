/* lstmd inspect: what a model directory holds, as a table or as JSON. */
#include <float.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cli/arguments.h"
#include "cli/commands.h"
#include "model/checkpoint.h"
#include "model/json_text.h"
#include "model/quantize.h"

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
    .table = {rows, sizeof rows / sizeof rows[0], NULL},
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

/* Groups of tensors, in the order of the computation: the embedding, each layer, the output. */
static bool is_in_group(const struct network *network, const struct tensor *tensor, size_t group)
{
    if (group == 0) return strncmp(tensor->name, "embedding.", strlen("embedding.")) == 0;
    if (group > network->architecture.layers) return strncmp(tensor->name, "output.", strlen("output.")) == 0;
    return strncmp(tensor->name, "rnn.", strlen("rnn.")) == 0 && tensor->layer == group - 1;
}

static void format_group(const struct network *network, size_t group, char *out, size_t size)
{
    if (group == 0)
        snprintf(out, size, "embedding");
    else if (group > network->architecture.layers)
        snprintf(out, size, "output");
    else
        snprintf(out, size, "%s %zu", cell_name(network->architecture.cell), group - 1);
}

static size_t print_group(const struct network *network, size_t group)
{
    size_t sum = 0;
    char label[16];
    format_group(network, group, label, sizeof label);
    for (size_t i = 0; i < network->tensor_count; i++) {
        const struct tensor *tensor = &network->tensors[i];
        size_t count = tensor->rows * tensor->columns;
        char shape[48], text[COUNT_SIZE];
        if (!is_in_group(network, tensor, group)) continue;
        snprintf(shape, sizeof shape, tensor->vector ? "%zu" : "%zu x %zu", tensor->rows, tensor->columns);
        printf("%-10s %-18s %-16s %14s\n", sum == 0 ? label : "", tensor->name, shape, format_count(count, text));
        sum += count;
    }
    return sum;
}

/* The last line adds the layers up: 119,892 = 109,056 + 10,836. */
static void print_tensors(const struct network *network)
{
    size_t sums[NETWORK_MAX_LAYERS + 2], groups = network->architecture.layers + 2;
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

static void print_network(const struct model *model)
{
    const struct architecture *a = &model->network.architecture;
    printf("%s: %s, %u %s of %u, ", model->name, cell_name(a->cell), a->layers, a->layers == 1 ? "layer" : "layers",
           a->hidden_size);
    if (a->embedding_size > 0)
        printf("embedding of %u%s", a->embedding_size, a->tie_weights ? " tied to the output" : "");
    else
        printf("one-hot input");
    if (model->weights != KERNEL_F32) printf(", weights %s", kernel_format_name(model->weights));
    printf(", %u tokens (%s)\n\n", a->vocabulary_size, token_level_name(vocabulary_level(model->vocabulary)));
}

/* Escaped to ASCII: the file is not ours to trust with a terminal. */
static bool print_json(const char *heading, const json_t *json, struct error *err)
{
    size_t n;
    char *text = json_text_print(json, JSON_INDENT(2) | JSON_REAL_PRECISION(DBL_DIG) | JSON_ENSURE_ASCII, &n, err);
    if (!text) return false;
    printf("%s%s\n", heading, text);
    free(text);
    return true;
}

static bool print_model(const struct model *model, bool as_json, struct error *err)
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
        if (!model_load(&model, flags.model, &err) || !print_model(&model, flags.json, &err))
            exit_code = command_fail(&err);
        model_close(&model);
    }
    arena_free(&arena);
    return exit_code;
}
