#include "model/network/network.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/sha256.h"
#include "base/size.h"

bool architecture_validate(const struct architecture *architecture, struct error *err)
{
    struct network network;
    return network_layout(&network, architecture, err);
}

/* Appends a tensor to the list. */
static bool add_tensor(struct network *network, const struct tensor *row, unsigned layer, struct error *err)
{
    struct tensor *tensor = &network->tensors[network->tensor_count];
    *tensor = *row;
    snprintf(tensor->name, sizeof tensor->name, row->name, layer);
    tensor->vector = row->initialiser == INITIALISE_ZERO || row->initialiser == INITIALISE_BIAS;
    tensor->offset = network->parameter_count;
    size_t size;
    if (!size_multiply(tensor->rows, tensor->columns, &size) ||
        !size_add(network->parameter_count, size, &network->parameter_count))
        return error_set(err, ERROR_TOO_LARGE, "%s of %zu x %zu: the network has too many parameters", tensor->name,
                         tensor->rows, tensor->columns);
    network->tensor_count++;
    return true;
}

bool network_layout(struct network *network, const struct architecture *architecture, struct error *err)
{
    const struct architecture *a = &network->architecture;
    *network = (struct network){.architecture = *architecture};
    if (!architecture_check(a, err)) return false;
    architecture_complete(&network->architecture);
#define ADD(member, file_name, how_many, block_count, block_rows, column_count, exists, how)                           \
    for (size_t k = 0; k < (how_many); k++) {                                                                          \
        struct tensor row = {.name = file_name,                                                                        \
                             .kind = TENSOR_##member,                                                                  \
                             .layer = k,                                                                               \
                             .initialiser = how,                                                                       \
                             .rows = (block_count) * (block_rows),                                                     \
                             .columns = column_count,                                                                  \
                             .blocks = block_count,                                                                    \
                             .field = offsetof(struct network, member) + k * sizeof(float *)};                         \
        if ((exists) && !add_tensor(network, &row, (unsigned)k, err)) return false;                                    \
    }
    NETWORK_TENSORS(ADD)
#undef ADD
    return true;
}

bool network_open(struct network *network, const struct architecture *architecture, struct error *err)
{
    if (!network_layout(network, architecture, err)) return false;
    network->parameters =
        arena_alloc(&network->arena, network->parameter_count, sizeof(float), "the network's parameters", err);
    if (!network->parameters) return false;
    for (size_t i = 0; i < network->tensor_count; i++) {
        struct tensor *tensor = &network->tensors[i];
        tensor->data = network->parameters + tensor->offset;
        memcpy((char *)network + tensor->field, &tensor->data, sizeof tensor->data);
    }
    if (architecture->tie_weights) network->output_weight = network->embedding;
    return true;
}

void network_close(struct network *network)
{
    arena_free(&network->arena);
    *network = (struct network){0};
}

/* Sums in eight lanes: the order is fixed, and the compiler can use vector registers. */
static double sum_products(const double *restrict x, const double *restrict y, size_t n)
{
    double lanes[8] = {0};
    size_t i = 0;
    for (; i + 8 <= n; i += 8)
        for (size_t lane = 0; lane < 8; lane++) lanes[lane] += x[i + lane] * y[i + lane];
    double sum = 0;
    for (; i < n; i++) sum += x[i] * y[i];
    for (size_t lane = 0; lane < 8; lane++) sum += lanes[lane];
    return sum;
}

/* row -= its projection on the unit vector q. */
static void remove_projection(double *restrict row, const double *restrict q, size_t n)
{
    double length = sum_products(row, q, n);
    for (size_t i = 0; i < n; i++) row[i] -= length * q[i];
}

static void normalise_row(double *row, size_t n)
{
    double norm = sqrt(sum_products(row, row, n));
    double scale = norm > 0 ? 1 / norm : 0;
    for (size_t i = 0; i < n; i++) row[i] *= scale;
}

/* Modified Gram-Schmidt on the rows of a normal n x n matrix: a uniformly distributed orthogonal matrix. It takes rows
 * in panels that stay in the second-level cache while it removes them from all rows below. */
static void orthogonalise_rows(double *matrix, size_t n)
{
    const size_t panel = 16;
    for (size_t first = 0; first < n; first += panel) {
        size_t end = first + panel < n ? first + panel : n;
        for (size_t i = first; i < end; i++) {
            for (size_t j = first; j < i; j++) remove_projection(matrix + i * n, matrix + j * n, n);
            normalise_row(matrix + i * n, n);
        }
        for (size_t i = end; i < n; i++)
            for (size_t j = first; j < end; j++) remove_projection(matrix + i * n, matrix + j * n, n);
    }
}

static void initialise_normal(const struct tensor *tensor, struct rng *rng)
{
    for (size_t i = 0; i < tensor->rows * tensor->columns; i++) tensor->data[i] = (float)(0.1 * rng_normal(rng));
}

static void initialise_uniform(const struct tensor *tensor, struct rng *rng)
{
    size_t rows = tensor->rows / tensor->blocks;
    double fans = (double)tensor->columns + (double)rows;
    double limit = sqrt(6 / fans);
    for (size_t i = 0; i < tensor->rows * tensor->columns; i++)
        tensor->data[i] = (float)(limit * (2 * rng_uniform(rng) - 1));
}

static bool initialise_recurrent(const struct tensor *tensor, struct rng *rng, struct error *err)
{
    size_t n = tensor->columns;
    struct arena arena = {0};
    double *matrix = arena_alloc(&arena, n * n, sizeof(double), "an orthogonal matrix", err);
    if (!matrix) return false;
    for (size_t block = 0; block < tensor->blocks; block++) {
        for (size_t i = 0; i < n * n; i++) matrix[i] = rng_normal(rng);
        orthogonalise_rows(matrix, n);
        for (size_t i = 0; i < n * n; i++) tensor->data[block * n * n + i] = (float)matrix[i];
    }
    arena_free(&arena);
    return true;
}

static void initialise_bias(const struct architecture *architecture, const struct tensor *tensor)
{
    memset(tensor->data, 0, tensor->rows * sizeof(float));
    const int gate = cell_table[architecture->cell].forget_gate;
    if (gate < 0) return;
    const size_t hidden = tensor->rows / tensor->blocks;
    for (size_t i = 0; i < hidden; i++) tensor->data[(size_t)gate * hidden + i] = 1;
}

bool network_initialise(struct network *network, uint64_t seed, struct error *err)
{
    for (size_t i = 0; i < network->tensor_count; i++) {
        const struct tensor *tensor = &network->tensors[i];
        struct rng rng; /* one stream per tensor: its values do not depend on the sizes of other tensors */
        rng_seed(&rng, seed, i);
        switch (tensor->initialiser) {
        case INITIALISE_ZERO:
            memset(tensor->data, 0, tensor->rows * tensor->columns * sizeof(float));
            break;
        case INITIALISE_NORMAL:
            initialise_normal(tensor, &rng);
            break;
        case INITIALISE_UNIFORM:
            initialise_uniform(tensor, &rng);
            break;
        case INITIALISE_RECURRENT:
            if (!initialise_recurrent(tensor, &rng, err)) return false;
            break;
        case INITIALISE_BIAS:
            initialise_bias(&network->architecture, tensor);
            break;
        }
    }
    return true;
}

void network_digest(const struct network *network, unsigned char out[NETWORK_DIGEST_SIZE])
{
    unsigned char digest[SHA256_SIZE];
    sha256_bytes(network->parameters, network->parameter_count * sizeof *network->parameters, digest);
    memcpy(out, digest, NETWORK_DIGEST_SIZE);
}

const struct tensor *network_find_not_finite(const struct network *network, size_t *index)
{
    for (size_t i = 0; i < network->tensor_count; i++) {
        const struct tensor *tensor = &network->tensors[i];
        for (size_t j = 0; j < tensor->rows * tensor->columns; j++) {
            if (isfinite(tensor->data[j])) continue;
            *index = j;
            return tensor;
        }
    }
    return NULL;
}
