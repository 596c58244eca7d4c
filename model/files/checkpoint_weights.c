#include "model/files/checkpoint_weights.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

#include "base/arena.h"
#include "model/network/quantize.h"

#define CONFIG_FILE "config.json"

/* The tensors of a file: those of the network, and for int8 a scale for each quantised one. */
struct contents {
    struct tensor tensors[2 * NETWORK_MAX_TENSORS];
    size_t count;
};

static struct tensor scale_of(const struct tensor *tensor)
{
    struct tensor scale = {.rows = tensor->rows, .columns = 1, .vector = true};
    snprintf(scale.name, sizeof scale.name, "%.25s.scale", tensor->name);
    return scale;
}

/* How the file keeps this tensor. */
static enum kernel_format format_of(const struct network *network, const struct tensor *tensor,
                                    enum kernel_format format)
{
    return quantize_applies(&network->architecture, tensor) ? format : KERNEL_F32;
}

static void list_contents(struct contents *contents, const struct network *layout, enum kernel_format format)
{
    contents->count = 0;
    for (size_t i = 0; i < layout->tensor_count; i++) {
        const struct tensor *tensor = &layout->tensors[i];
        contents->tensors[contents->count++] = *tensor;
        if (format_of(layout, tensor, format) == KERNEL_INT8) contents->tensors[contents->count++] = scale_of(tensor);
    }
}

/* ---- reading ---- */

/* "[512, 84]" */
static void print_shape(char *out, size_t size, const size_t *shape, size_t rank)
{
    size_t at = (size_t)snprintf(out, size, "[");
    for (size_t i = 0; i < rank && at < size; i++)
        at += (size_t)snprintf(out + at, size - at, i ? ", %zu" : "%zu", shape[i]);
    if (at < size) snprintf(out + at, size - at, "]");
}

static bool check_shape(const struct safetensors *file, const struct tensor *tensor,
                        const struct safetensors_entry *entry, struct error *err)
{
    const size_t shape[] = {tensor->rows, tensor->columns};
    size_t rank = tensor->vector ? 1 : 2;
    if (entry->rank == rank && memcmp(entry->shape, shape, rank * sizeof *shape) == 0) return true;
    char found[SAFETENSORS_MAX_RANK * 24], expected[64];
    print_shape(found, sizeof found, entry->shape, entry->rank);
    print_shape(expected, sizeof expected, shape, rank);
    return error_set(err, ERROR_CORRUPT, "%s: tensor \"%s\": shape is %s, but " CONFIG_FILE " asks for %s", file->path,
                     tensor->name, found, expected);
}

static bool is_listed(const struct contents *contents, const char *name)
{
    for (size_t i = 0; i < contents->count; i++)
        if (strcmp(contents->tensors[i].name, name) == 0) return true;
    return false;
}

/* Checks that the file has exactly the tensors that the configuration asks for. Nothing was allocated for them yet: a
 * configuration of absurd sizes fails here, at the size of the file. */
static bool check_tensors(const struct safetensors *file, const struct contents *contents, struct error *err)
{
    for (size_t i = 0; i < contents->count; i++) {
        const struct tensor *tensor = &contents->tensors[i];
        const struct safetensors_entry *entry = safetensors_find(file, tensor->name);
        if (!entry) return error_set(err, ERROR_CORRUPT, "%s: tensor \"%s\" is missing", file->path, tensor->name);
        if (!check_shape(file, tensor, entry, err)) return false;
    }
    for (size_t i = 0; i < file->count; i++)
        if (!is_listed(contents, file->entries[i].name))
            return error_set(err, ERROR_CORRUPT, "%s: tensor \"%s\" does not belong to this network", file->path,
                             file->entries[i].name);
    return true;
}

bool checkpoint_weights_check(const struct network *network, enum error_code code, const char *place, struct error *err)
{
    size_t index;
    const struct tensor *tensor = network_find_not_finite(network, &index);
    if (!tensor) return true;
    return error_set(err, code, "%s: tensor \"%s\": element %zu is %s, but weights must be finite", place, tensor->name,
                     index, tensor->data[index] != tensor->data[index] ? "NaN" : "infinite");
}

/* Quantising never gives -128, and a sum of products could overflow with it. */
static bool dequantize_row(const int8_t *q, float scale, size_t n, float *out)
{
    bool valid = true;
    for (size_t i = 0; i < n; i++) {
        valid = valid && q[i] >= -KERNEL_INT8_MAX;
        out[i] = (float)q[i] * scale;
    }
    return valid;
}

static bool read_int8(const struct safetensors *file, const struct tensor *tensor, struct error *err)
{
    const struct safetensors_entry *entry = safetensors_find(file, tensor->name);
    const struct safetensors_entry *scales = safetensors_find(file, scale_of(tensor).name);
    if (entry->type != SAFETENSORS_I8 || scales->type != SAFETENSORS_F32)
        return error_set(err, ERROR_CORRUPT,
                         "%s: tensor \"%s\": dtype is %s and that of its scale %s, but weights int8 in " CONFIG_FILE
                         " asks for I8 and F32",
                         file->path, tensor->name, safetensors_type_name(entry->type),
                         safetensors_type_name(scales->type));
    for (size_t row = 0; row < tensor->rows; row++) {
        float scale;
        memcpy(&scale, scales->data + row * sizeof scale, sizeof scale);
        if (!(scale >= 0) || !isfinite(scale))
            return error_set(err, ERROR_CORRUPT, "%s: tensor \"%s.scale\": element %zu is not a finite scale",
                             file->path, tensor->name, row);
        const int8_t *q = (const int8_t *)entry->data + row * tensor->columns;
        if (!dequantize_row(q, scale, tensor->columns, tensor->data + row * tensor->columns))
            return error_set(err, ERROR_CORRUPT, "%s: tensor \"%s\": row %zu has a value of -128, the least is -127",
                             file->path, tensor->name, row);
    }
    return true;
}

bool checkpoint_weights_read(struct network *network, const struct safetensors *file,
                             const struct architecture *architecture, enum kernel_format format, struct error *err)
{
    struct network layout;
    struct contents contents;
    if (!network_layout(&layout, architecture, err)) return false;
    list_contents(&contents, &layout, format);
    if (!check_tensors(file, &contents, err)) return false;
    if (!network_open(network, architecture, err)) return error_add_context(err, "%s", file->path);
    for (size_t i = 0; i < network->tensor_count; i++) {
        const struct tensor *tensor = &network->tensors[i];
        const bool read = format_of(network, tensor, format) == KERNEL_INT8
                              ? read_int8(file, tensor, err)
                              : safetensors_read_float(file, safetensors_find(file, tensor->name), tensor->data, err);
        if (!read) return false;
    }
    return checkpoint_weights_check(network, ERROR_CORRUPT, file->path, err);
}

/* ---- writing ---- */

static struct safetensors_entry entry_of(const struct tensor *tensor, enum safetensors_type type, const void *data)
{
    return (struct safetensors_entry){.name = tensor->name,
                                      .type = type,
                                      .rank = tensor->vector ? 1 : 2,
                                      .shape = {tensor->rows, tensor->columns},
                                      .count = tensor->rows * tensor->columns,
                                      .data = data};
}

static bool add_bf16(struct safetensors_entry *entry, const struct tensor *tensor, struct arena *arena,
                     struct error *err)
{
    const size_t count = tensor->rows * tensor->columns;
    uint16_t *halves = arena_alloc(arena, count, sizeof *halves, "bfloat16 weights", err);
    if (!halves) return false;
    for (size_t i = 0; i < count; i++) halves[i] = quantize_bf16(tensor->data[i]);
    *entry = entry_of(tensor, SAFETENSORS_BF16, halves);
    return true;
}

static bool add_int8(struct safetensors_entry *entry, struct safetensors_entry *scale_entry,
                     const struct tensor *tensor, const struct tensor *scale, struct arena *arena, struct error *err)
{
    int8_t *q = arena_alloc(arena, tensor->rows * tensor->columns, 1, "int8 weights", err);
    float *scales = arena_alloc(arena, tensor->rows, sizeof *scales, "the scales of int8 weights", err);
    if (!q || !scales) return false;
    for (size_t row = 0; row < tensor->rows; row++) {
        const size_t at = row * tensor->columns;
        scales[row] = quantize_int8(tensor->columns, tensor->data + at, q + at);
    }
    *entry = entry_of(tensor, SAFETENSORS_I8, q);
    *scale_entry = entry_of(scale, SAFETENSORS_F32, scales);
    return true;
}

bool checkpoint_weights_serialise(const struct network *network, enum kernel_format format, unsigned char **data,
                                  size_t *size, struct error *err)
{
    struct contents contents;
    struct safetensors_entry entries[2 * NETWORK_MAX_TENSORS];
    struct arena arena = {0};
    bool ok = true;
    list_contents(&contents, network, format);
    for (size_t i = 0; ok && i < contents.count; i++) {
        const struct tensor *tensor = &contents.tensors[i];
        switch (format_of(network, tensor, format)) {
        case KERNEL_F32:
            entries[i] = entry_of(tensor, SAFETENSORS_F32, tensor->data);
            break;
        case KERNEL_BF16:
            ok = add_bf16(&entries[i], tensor, &arena, err);
            break;
        case KERNEL_INT8: /* its scale follows */
            ok = add_int8(&entries[i], &entries[i + 1], tensor, &contents.tensors[i + 1], &arena, err);
            i++;
            break;
        }
    }
    ok = ok && safetensors_serialise(entries, contents.count, NULL, data, size, err);
    arena_free(&arena);
    return ok;
}
