#include "model/interop/tensors.h"

#include <stdio.h>
#include <string.h>

#include "base/size.h"
#include "model/kernels/half.h"

_Static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__, "elements are copied as they lie in the file");

static const size_t type_sizes[] = {
    [FOREIGN_F32] = 4, [FOREIGN_F16] = 2, [FOREIGN_BF16] = 2, [FOREIGN_F64] = 8, [FOREIGN_OTHER] = 0};

size_t foreign_type_size(enum foreign_type type)
{
    return type_sizes[type];
}

const char *foreign_shape_text(const struct foreign_tensor *tensor, char out[FOREIGN_SHAPE_TEXT])
{
    size_t at = 0;
    out[at++] = '[';
    for (size_t i = 0; i < tensor->rank; i++)
        at += (size_t)snprintf(out + at, FOREIGN_SHAPE_TEXT - at, i > 0 ? ", %zu" : "%zu", tensor->shape[i]);
    out[at++] = ']';
    out[at] = '\0';
    return out;
}

/* Doubles a list in the arena. */
static bool grow_list(struct arena *arena, void **items, size_t count, size_t *capacity, size_t size, struct error *err)
{
    if (count < *capacity) return true;
    if (count >= FOREIGN_MAX_TENSORS)
        return error_set(err, ERROR_TOO_LARGE, "more than %d tensors or modules", FOREIGN_MAX_TENSORS);
    const size_t wanted = *capacity > 0 ? *capacity * 2 : 32;
    void *grown = arena_alloc(arena, wanted, size, "a list of tensors", err);
    if (!grown) return false;
    if (count > 0) memcpy(grown, *items, count * size);
    *items = grown;
    *capacity = wanted;
    return true;
}

/* Counts the elements and checks that the last one lies inside of the storage. */
static bool tensor_measure(struct foreign_tensor *tensor)
{
    size_t last = tensor->offset, reach, bytes, size = type_sizes[tensor->type];
    tensor->count = 1;
    for (size_t i = 0; i < tensor->rank; i++)
        if (!size_multiply(tensor->count, tensor->shape[i], &tensor->count)) return false;
    if (tensor->count == 0 || size == 0) return true;
    for (size_t i = 0; i < tensor->rank; i++)
        if (!size_multiply(tensor->shape[i] - 1, tensor->stride[i], &reach) || !size_add(last, reach, &last))
            return false;
    return size_add(last, 1, &last) && size_multiply(last, size, &bytes) && bytes <= tensor->storage->bytes &&
           tensor->count <= tensor->storage->bytes / size;
}

bool foreign_tensors_add(struct foreign_tensors *tensors, const struct foreign_tensor *tensor, struct error *err)
{
    char shape[FOREIGN_SHAPE_TEXT];
    struct foreign_tensor measured = *tensor;
    if (!tensor_measure(&measured))
        return error_set(err, ERROR_CORRUPT, "%s: tensor \"%s\" of shape %s is not inside of its storage of %zu bytes",
                         tensors->place, tensor->name, foreign_shape_text(tensor, shape), tensor->storage->bytes);
    for (size_t i = 0; i < tensors->count; i++)
        if (strcmp(tensors->list[i].name, tensor->name) == 0)
            return error_set(err, ERROR_CORRUPT, "%s: two tensors are named \"%s\"", tensors->place, tensor->name);
    void *list = tensors->list;
    if (!grow_list(tensors->arena, &list, tensors->count, &tensors->capacity, sizeof *tensors->list, err))
        return error_add_context(err, "%s", tensors->place);
    tensors->list = list;
    tensors->list[tensors->count++] = measured;
    return true;
}

bool foreign_tensors_add_module(struct foreign_tensors *tensors, const struct foreign_module *module, struct error *err)
{
    void *list = tensors->modules;
    if (!grow_list(tensors->arena, &list, tensors->module_count, &tensors->module_capacity, sizeof *tensors->modules,
                   err))
        return error_add_context(err, "%s", tensors->place);
    tensors->modules = list;
    tensors->modules[tensors->module_count++] = *module;
    return true;
}

static float read_element(const unsigned char *data, enum foreign_type type)
{
    uint16_t half;
    float single;
    double real;
    switch (type) {
    case FOREIGN_F16:
    case FOREIGN_BF16:
        memcpy(&half, data, sizeof half);
        return type == FOREIGN_F16 ? float_of_half(half) : float_of_bfloat(half);
    case FOREIGN_F64:
        memcpy(&real, data, sizeof real);
        return (float)real;
    case FOREIGN_F32:
    case FOREIGN_OTHER:
        break;
    }
    memcpy(&single, data, sizeof single);
    return single;
}

/* Counts `index` like an odometer: the last dimension changes fastest. */
static void gather_elements(const struct foreign_tensor *tensor, float *out)
{
    const size_t size = type_sizes[tensor->type];
    size_t index[FOREIGN_MAX_RANK] = {0}, at = tensor->offset;
    for (size_t i = 0; i < tensor->count; i++) {
        out[i] = read_element(tensor->storage->data + at * size, tensor->type);
        for (size_t d = tensor->rank; d > 0; d--) {
            at += tensor->stride[d - 1];
            if (++index[d - 1] < tensor->shape[d - 1]) break;
            at -= tensor->stride[d - 1] * tensor->shape[d - 1];
            index[d - 1] = 0;
        }
    }
}

bool foreign_tensor_load(struct foreign_tensors *tensors, struct foreign_tensor *tensor, struct error *err)
{
    if (type_sizes[tensor->type] == 0)
        return error_set(err, ERROR_INVALID, "%s: tensor \"%s\" does not have floating-point elements", tensors->place,
                         tensor->name);
    return tensor->count == 0 || tensor->storage->data || tensors->load(tensors->context, tensor->storage, err);
}

void foreign_tensor_read(const struct foreign_tensor *tensor, float *out)
{
    if (tensor->count > 0) gather_elements(tensor, out);
}
