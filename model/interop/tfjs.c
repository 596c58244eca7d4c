/* The model.json of a TensorFlow.js layers model, and the bytes of its weights.
 *
 * The configuration is Keras's, and so are the tensors and their order in a layer; the manifest says where their bytes
 * lie. This file makes the HDF5 file in memory that Keras would have written, and has that read. */
#include "model/interop/tfjs.h"

#include <stdlib.h>
#include <string.h>

#include "base/json.h"
#include "base/size.h"
#include "model/files/checkpoint_weights.h"
#include "model/interop/keras.h"

#define MAX_TENSORS 1024
#define MAX_NAME    256
#define MAX_INSIDE  16 /* tensors of a layer */

struct tfjs {
    struct foreign *foreign;
    const char *place;
    struct file_map weights;
    json_t *json;
    struct hdf5 *file; /* the weights as Keras's */
};

/* The tensors of one layer. They are neighbours in the manifest. */
struct layer_names {
    char group[MAX_NAME + sizeof "model_weights/"];
    const char *items[MAX_INSIDE];
    size_t count;
};

static bool tfjs_malformed(const struct tfjs *tfjs, const char *problem, struct error *err)
{
    return error_set(err, ERROR_CORRUPT, "%s: the weights' manifest: %s", tfjs->place, problem);
}

/* ---- the manifest ---- */

static bool read_shape(const json_t *tensor, struct hdf5_shape *shape)
{
    const json_t *sizes = json_object_get(tensor, "shape");
    size_t i;
    json_t *size;
    *shape = (struct hdf5_shape){.rank = json_array_size(sizes), .count = 1};
    if (shape->rank < 1 || shape->rank > HDF5_MAX_RANK) return false;
    json_array_foreach((json_t *)sizes, i, size)
    {
        if (!json_is_integer(size) || json_integer_value(size) < 1) return false;
        shape->dimensions[i] = (size_t)json_integer_value(size);
        if (!size_multiply(shape->count, shape->dimensions[i], &shape->count)) return false;
    }
    return true;
}

static bool finish_layer(const struct tfjs *tfjs, struct layer_names *names, struct error *err)
{
    const bool ok = names->count == 0 || hdf5_write_texts(tfjs->file, names->group, "weight_names",
                                                          &(struct hdf5_texts){names->items, names->count}, err);
    names->count = 0;
    return ok;
}

/* "lstm_LSTM1/kernel" is a tensor of layer lstm_LSTM1. */
static bool begin_tensor(const struct tfjs *tfjs, const char *name, struct layer_names *names, struct error *err)
{
    char group[sizeof names->group];
    const size_t n = strcspn(name, "/");
    if (n == 0 || name[n] == '\0' || strlen(name) >= MAX_NAME)
        return tfjs_malformed(tfjs, "a name is not LAYER/TENSOR", err);
    (void)snprintf(group, sizeof group, "model_weights/%.*s", (int)n, name);
    const bool other = names->count == 0 || strcmp(group, names->group) != 0;
    if (other && !finish_layer(tfjs, names, err)) return false;
    if (other && hdf5_exists(tfjs->file, group)) return tfjs_malformed(tfjs, "a layer's tensors are not together", err);
    memcpy(names->group, group, sizeof group);
    if (names->count == MAX_INSIDE) return tfjs_malformed(tfjs, "a layer has too many tensors", err);
    names->items[names->count++] = name;
    return true;
}

static bool add_tensor(const struct tfjs *tfjs, const json_t *tensor, struct layer_names *names, size_t *at,
                       struct error *err)
{
    char path[sizeof names->group + MAX_NAME + 1];
    struct hdf5_shape shape;
    size_t bytes;
    const char *name = json_string_value(json_object_get(tensor, "name"));
    const char *type = json_string_value(json_object_get(tensor, "dtype"));
    if (!name || !type) return tfjs_malformed(tfjs, "a tensor has no name or dtype", err);
    if (strcmp(type, "float32") != 0 || json_object_get(tensor, "quantization"))
        return error_set(err, ERROR_INVALID,
                         "%s: tensor \"%.64s\" is %.16s%s; float32 without quantization is imported", tfjs->place, name,
                         type, json_object_get(tensor, "quantization") ? ", quantized" : "");
    if (!read_shape(tensor, &shape) || !size_multiply(shape.count, sizeof(float), &bytes))
        return tfjs_malformed(tfjs, "a tensor has no shape that is read", err);
    if (bytes > tfjs->weights.size - *at)
        return error_set(err, ERROR_CORRUPT, "%s: its %zu bytes end within tensor \"%.64s\"",
                         tfjs->foreign->weights_file, tfjs->weights.size, name);
    if (!begin_tensor(tfjs, name, names, err)) return false;
    (void)snprintf(path, sizeof path, "%s/%s", names->group, name);
    if (hdf5_exists(tfjs->file, path)) return tfjs_malformed(tfjs, "two tensors have one name", err);
    const float *data = (const float *)(const void *)(tfjs->weights.data + *at);
    *at += bytes;
    return hdf5_write(tfjs->file, path, &shape, data, err) || error_add_context(err, "%s", tfjs->place);
}

/* Groups lie one after the other, as their files do. */
static bool add_tensors(const struct tfjs *tfjs, struct error *err)
{
    struct layer_names names = {.count = 0};
    size_t at = 0, count = 0, g, i;
    json_t *group, *tensor;
    json_array_foreach(json_object_get(tfjs->json, "weightsManifest"), g, group)
    {
        json_array_foreach(json_object_get(group, "weights"), i, tensor)
        {
            if (++count > MAX_TENSORS) return tfjs_malformed(tfjs, "it lists too many tensors", err);
            if (!add_tensor(tfjs, tensor, &names, &at, err)) return false;
        }
    }
    if (!finish_layer(tfjs, &names, err)) return false;
    return at == tfjs->weights.size ||
           error_set(err, ERROR_CORRUPT, "%s: it has %zu bytes, but the manifest of %s lists %zu",
                     tfjs->foreign->weights_file, tfjs->weights.size, tfjs->place, at);
}

/* ---- the model ---- */

/* What Keras would have written. A converter keeps it under model_config; tfjs itself has it at the top. */
static const json_t *find_config(const struct tfjs *tfjs)
{
    const json_t *topology = json_object_get(tfjs->json, "modelTopology");
    const json_t *config = json_object_get(topology, "model_config");
    return config ? config : topology;
}

/* The version of Keras: a converted model has its own; tfjs-layers computes like Keras 2. */
static unsigned find_major(const struct tfjs *tfjs)
{
    const json_t *topology = json_object_get(tfjs->json, "modelTopology");
    const char *version = json_string_value(json_object_get(topology, "keras_version"));
    return version && version[0] == '3' ? 3 : 2;
}

/* *image: the weights, which the caller frees (free()). The file is closed before another one is opened. */
static bool write_image(struct tfjs *tfjs, unsigned char **image, size_t *size, struct error *err)
{
    tfjs->file = hdf5_create(err);
    const bool ok = tfjs->file && hdf5_write_group(tfjs->file, "model_weights", err) && add_tensors(tfjs, err) &&
                    hdf5_image(tfjs->file, image, size, err);
    hdf5_close(tfjs->file);
    return ok;
}

static bool read_weights(struct tfjs *tfjs, struct keras_model *model, struct error *err)
{
    unsigned char *image = NULL;
    size_t size;
    if (!write_image(tfjs, &image, &size, err)) return false;
    struct hdf5 *file = hdf5_open(image, size, tfjs->place, err);
    const bool ok = file && keras_network_read(tfjs->foreign, model, file, KERAS_BY_NAME, tfjs->place, err);
    hdf5_close(file);
    free(image);
    return ok;
}

static bool read_model(struct tfjs *tfjs, struct error *err)
{
    size_t n;
    struct keras_model model = {0};
    const json_t *config = find_config(tfjs);
    const char *format = json_string_value(json_object_get(tfjs->json, "format"));
    if (!json_is_object(config) || (format && strcmp(format, "layers-model") != 0))
        return error_set(err, ERROR_INVALID, "%s: a TensorFlow.js model of format %.32s; layers-model is imported",
                         tfjs->place, format ? format : "that it does not name");
    char *text = json_text_print(config, JSON_COMPACT, &n, err);
    const bool ok = text && keras_model_parse(&model, text, n, find_major(tfjs), tfjs->place, err) &&
                    read_weights(tfjs, &model, err);
    free(text);
    keras_model_close(&model);
    tfjs->foreign->format = "TensorFlow.js layers model";
    return ok;
}

static bool read_json(struct tfjs *tfjs, const void *data, size_t size, struct error *err)
{
    json_error_t cause;
    if (size > KERAS_MAX_CONFIG)
        return error_set(err, ERROR_TOO_LARGE, "%s: %zu bytes are more than are read", tfjs->place, size);
    tfjs->json = json_text_parse(data, size, 0, &cause);
    if (tfjs->json) return true;
    if (json_text_lacked_memory(&cause)) return error_set_no_memory(err, size, "a model's JSON");
    return error_set(err, ERROR_CORRUPT, "%s: not valid JSON: %s (byte %d)", tfjs->place, cause.text, cause.position);
}

bool interop_tfjs_read_memory(const char *path, const void *data, size_t size, const struct file_map *weights,
                              struct foreign *foreign, struct error *err)
{
    struct tfjs tfjs = {.foreign = foreign, .place = path, .weights = *weights};
    if (weights->size > INTEROP_MAX_BYTES)
        return error_set(err, ERROR_TOO_LARGE, "%s: %zu bytes are more than are read", foreign->weights_file,
                         weights->size);
    const bool ok = read_json(&tfjs, data, size, err) && read_model(&tfjs, err);
    json_decref(tfjs.json);
    return ok;
}

bool interop_tfjs_read(const char *path, struct foreign *foreign, struct error *err)
{
    struct file_map map, weights;
    if (!foreign->weights_file)
        return error_set(err, ERROR_INVALID,
                         "%s: the model.json of a TensorFlow.js model, whose weights lie in other files: give them "
                         "(--weights FILE, or the part weights of a form); of several, one after the other: cat "
                         "group1-shard* >weights.bin",
                         path);
    if (!file_map_open(&map, path, err)) return false;
    bool ok = file_map_open(&weights, foreign->weights_file, err);
    if (ok) {
        ok = interop_tfjs_read_memory(path, map.data, map.size, &weights, foreign, err);
        file_map_close(&weights);
    }
    file_map_close(&map);
    return ok;
}
