#include <stdio.h>

#include "base/arena.h"
#include "model/files/safetensors.h"
#include "model/interop/export.h"

/* The most tensors: also a second bias for every layer, and the tied output. */
#define MAX_ENTRIES (NETWORK_MAX_TENSORS + NETWORK_MAX_LAYERS + 1)
#define NAME_SIZE   32

struct file {
    struct safetensors_entry entries[MAX_ENTRIES];
    char names[MAX_ENTRIES][NAME_SIZE];
    size_t count;
};

static bool check_architecture(const struct architecture *a, struct error *err)
{
    const char *why = NULL;
    if (!cell_table[a->cell].torch)
        return error_set(err, ERROR_INVALID, "PyTorch has no cell like %s", cell_name(a->cell));
    if (!architecture_cell_is_standard(a))
        why = "its cell has other activations than tanh and sigmoid, or resets before the product";
    else if (!architecture_is_uniform(a))
        why = "its layers differ in size";
    else if (a->dense_layers > 0)
        why = "it has dense layers before the output";
    return !why || error_set(err, ERROR_INVALID,
                             "PyTorch's nn.LSTM, nn.GRU and nn.RNN with one nn.Linear cannot express the model: %s; "
                             "--to keras can",
                             why);
}

static void add_tensor(struct file *file, const char *name, size_t layer, size_t rows, size_t columns,
                       const float *data)
{
    const size_t i = file->count++;
    (void)snprintf(file->names[i], NAME_SIZE, "%s%zu", name, layer);
    file->entries[i] = (struct safetensors_entry){.name = file->names[i],
                                                  .type = SAFETENSORS_F32,
                                                  .rank = columns > 0 ? 2 : 1,
                                                  .shape = {rows, columns},
                                                  .count = columns > 0 ? rows * columns : rows,
                                                  .data = (const unsigned char *)data};
}

/* Embedding, dense layers, output. */
static void add_single(struct file *file, const char *name, size_t rows, size_t columns, const float *data)
{
    add_tensor(file, "", 0, rows, columns, data);
    (void)snprintf(file->names[file->count - 1], NAME_SIZE, "%s", name);
}

/* zeros: [G*H] */
static void list_tensors(struct file *file, const struct network *network, const float *zeros)
{
    const struct architecture *a = &network->architecture;
    const size_t H = a->hidden_size, V = a->vocabulary_size, rows = architecture_gates(a) * H;
    if (a->embedding_size > 0) add_single(file, "embedding.weight", V, a->embedding_size, network->embedding);
    for (size_t k = 0; k < a->layers; k++) {
        add_tensor(file, "rnn.weight_ih_l", k, rows, architecture_input(a, k), network->weight_ih[k]);
        add_tensor(file, "rnn.weight_hh_l", k, rows, H, network->weight_hh[k]);
        add_tensor(file, "rnn.bias_ih_l", k, rows, 0, network->bias[k]);
        add_tensor(file, "rnn.bias_hh_l", k, rows, 0, network->bias_hh[k] ? network->bias_hh[k] : zeros);
    }
    add_single(file, "output.weight", V, H, network->output_weight);
    add_single(file, "output.bias", V, 0, network->output_bias);
}

bool export_torch(const struct network *network, unsigned char **data, size_t *size, struct error *err)
{
    const struct architecture *a = &network->architecture;
    struct arena arena = {0};
    struct file file = {.count = 0};
    if (!check_architecture(a, err)) return false;
    float *zeros = arena_alloc(&arena, architecture_gates(a) * a->hidden_size, sizeof *zeros, "a bias", err);
    if (zeros) list_tensors(&file, network, zeros);
    const bool done = zeros && safetensors_serialise(file.entries, file.count, "{\"format\":\"pt\"}", data, size, err);
    arena_free(&arena);
    return done;
}
