/* An .h5 file or a .keras archive as a whole. */
#include "model/interop/keras.h"

#include <stdlib.h>
#include <string.h>

#include "base/file.h"
#include "base/json.h"
#include "base/size.h"
#include "model/files/checkpoint_weights.h"
#include "model/interop/zip.h"

#define MAX_METADATA ((size_t)1 << 20)
/* An archive's weights: the network in float32, up to three moments of its optimizer, and room for the groups. */
#define WEIGHTS_PER_PARAMETER 4
#define WEIGHTS_OVERHEAD      ((size_t)1 << 24)

/* For scaled ids: gives the model an embedding of one number as its input. */
static bool expect_scaled_ids(const struct foreign *foreign, struct keras_model *model, const char *place,
                              struct error *err)
{
    if (!foreign->scaled_ids) return true;
    if (model->architecture.embedding_size > 0)
        return error_set(err, ERROR_INVALID, "%s: the model has an Embedding, which takes ids as they are, not scaled",
                         place);
    if (model->masking)
        return error_set(err, ERROR_INVALID, "%s: its Masking layer would skip id 0, which is not imported", place);
    model->architecture.embedding_size = 1;
    return true;
}

bool keras_network_read(struct foreign *foreign, struct keras_model *model, struct hdf5 *file, enum keras_layout layout,
                        const char *place, struct error *err)
{
    if (!expect_scaled_ids(foreign, model, place, err) ||
        !keras_weights_read(&foreign->network, model, file, layout, place, err) ||
        (foreign->scaled_ids && !foreign_scale_ids(foreign, err)) ||
        !checkpoint_weights_check(&foreign->network, ERROR_CORRUPT, place, err))
        return false;
    foreign->pad = model->mask_zero;
    foreign->window = model->window;
    if (!model->masking || model->architecture.embedding_size > 0) return true;
    return foreign_note(
        foreign, err,
        "its Masking layer is left out: it skips input vectors of zeros, and a one-hot vector never is one");
}

static bool set_format(struct foreign *foreign, const char *version, const char *form, struct error *err)
{
    char text[96];
    int n = snprintf(text, sizeof text, "Keras %.32s %s", version, form);
    foreign->format = arena_copy_text(&foreign->arena, text, (size_t)n, err);
    return foreign->format;
}

/* ---- .h5 ---- */

static bool refuse_weights_alone(const char *place, struct error *err)
{
    return error_set(err, ERROR_INVALID,
                     "%s: an HDF5 file without a model_config; if it holds weights alone (save_weights), give what "
                     "model.to_json() returns, too (--architecture FILE, or the part architecture of a form), or load "
                     "them into the model in Python and save all of it: model.save(\"model.keras\")",
                     place);
}

/* A text attribute of the root group, or NULL. *there: the file has one, so NULL is a failure. */
static const char *find_text(struct hdf5 *file, const char *attribute, bool *there, struct error *err)
{
    struct error problem = {0};
    const char *text = hdf5_text(file, "", attribute, &problem);
    *there = text || problem.code != ERROR_NOT_FOUND;
    if (!text && *there) error_set(err, problem.code, "%s", problem.message);
    return text;
}

/* Files without a version come from before 1.0.5; Keras assumes the same. */
#define UNKNOWN_VERSION "1.0.0"

/* An HDF5 file while it is read. */
struct keras_reading {
    struct foreign *foreign;
    struct keras_model *model;
    struct hdf5 *file;
    const char *place;
};

static bool read_whole(const struct keras_reading *reading, const char *config, struct error *err)
{
    unsigned major;
    bool there;
    const char *version = find_text(reading->file, "keras_version", &there, err);
    if (!version && there) return false;
    if (!version) version = UNKNOWN_VERSION;
    return keras_version_parse(version, &major, reading->place, err) &&
           set_format(reading->foreign, version, "HDF5", err) &&
           keras_model_parse(reading->model, config, strlen(config), major, reading->place, err) &&
           keras_network_read(reading->foreign, reading->model, reading->file, KERAS_BY_NAME, reading->place, err);
}

/* ---- weights alone, with the configuration beside them ---- */

/* The version that wrote a configuration: its own field, or the one of the weights; else Keras 3 names modules, and
 * Keras 2 does not. NULL after an error. */
static const char *find_version(const json_t *config, struct hdf5 *file, struct error *err)
{
    bool there;
    const char *version = json_string_value(json_object_get(config, "keras_version"));
    if (version) return version;
    version = find_text(file, "keras_version", &there, err);
    if (version || there) return version;
    return json_object_get(config, "module") ? "3.0.0" : "2.0.0";
}

static bool read_weights_alone(const struct keras_reading *reading, const char *config, size_t n, struct error *err)
{
    unsigned major;
    json_error_t cause;
    json_t *json = json_text_parse(config, n, 0, &cause); /* keras_model_parse() reports what is wrong with it */
    if (!json && json_text_lacked_memory(&cause)) return error_set_no_memory(err, n, "the model's configuration");
    struct foreign *foreign = reading->foreign;
    struct hdf5 *file = reading->file;
    const char *version = find_version(json, file, err);
    const bool by_class = hdf5_exists(file, "layers") || hdf5_exists(file, "_layer_checkpoint_dependencies");
    const enum keras_layout layout = by_class ? KERAS_BY_CLASS : KERAS_BY_NAME_ALONE;
    const bool ok = version && keras_version_parse(version, &major, foreign->architecture_file, err) &&
                    set_format(foreign, version, "HDF5, weights alone", err) &&
                    keras_model_parse(reading->model, config, n, major, foreign->architecture_file, err) &&
                    keras_network_read(foreign, reading->model, file, layout, reading->place, err);
    json_decref(json);
    return ok;
}

static bool read_with_architecture(const struct keras_reading *reading, struct error *err)
{
    char *text;
    size_t n;
    if (!file_read(reading->foreign->architecture_file, KERAS_MAX_CONFIG, &text, &n, err)) return false;
    const bool ok = read_weights_alone(reading, text, n, err);
    free(text);
    return ok;
}

static bool refuse_architecture(const char *place, struct error *err)
{
    return error_set(err, ERROR_INVALID,
                     "%s: the file holds the model's own configuration, so no architecture is given beside it", place);
}

static bool read_file(const struct keras_reading *reading, struct error *err)
{
    bool there;
    const char *config = find_text(reading->file, "model_config", &there, err);
    const bool beside = reading->foreign->architecture_file;
    if (!config && there) return false;
    if (config && beside) return refuse_architecture(reading->place, err);
    if (config) return read_whole(reading, config, err);
    return beside ? read_with_architecture(reading, err) : refuse_weights_alone(reading->place, err);
}

static bool read_hdf5(struct foreign *foreign, const struct file_map *map, const char *place, struct error *err)
{
    struct keras_model model = {0};
    const struct keras_reading reading = {foreign, &model, hdf5_open(map->data, map->size, place, err), place};
    bool ok = reading.file && read_file(&reading, err);
    keras_model_close(&model);
    hdf5_close(reading.file);
    return ok;
}

/* ---- .keras ---- */

/* The version in metadata.json; the caller's (json_decref()). */
static json_t *read_metadata(struct interop_zip *zip, const char *place, struct error *err)
{
    char *text;
    size_t n;
    if (!interop_zip_read(zip, "metadata.json", MAX_METADATA, &text, &n, err)) return NULL;
    json_error_t cause;
    json_t *metadata = json_text_parse(text, n, 0, &cause);
    free(text);
    if (!metadata && json_text_lacked_memory(&cause)) error_set_no_memory(err, n, "metadata.json");
    if (json_is_string(json_object_get(metadata, "keras_version"))) return metadata;
    json_decref(metadata);
    error_set(err, ERROR_CORRUPT, "%s: metadata.json is not JSON with a keras_version", place);
    return NULL;
}

static bool parse_config(struct keras_model *model, struct interop_zip *zip, unsigned major, const char *place,
                         struct error *err)
{
    char *text;
    size_t n;
    if (!interop_zip_read(zip, "config.json", KERAS_MAX_CONFIG, &text, &n, err)) return false;
    bool ok = keras_model_parse(model, text, n, major, place, err);
    free(text);
    return ok;
}

/* Sets how large model.weights.h5 may reasonably be. A larger one is not unpacked. */
static bool bound_weights(const struct keras_model *model, size_t *bytes, const char *place, struct error *err)
{
    struct network network;
    bool ok = network_layout(&network, &model->architecture, err);
    if (!ok) return error_add_context(err, "%s", place);
    if (!size_multiply(network.parameter_count, WEIGHTS_PER_PARAMETER * sizeof(double), bytes) ||
        !size_add(*bytes, WEIGHTS_OVERHEAD, bytes) || *bytes > INTEROP_MAX_BYTES)
        *bytes = INTEROP_MAX_BYTES;
    return true;
}

static bool read_weights(struct foreign *foreign, struct keras_model *model, struct interop_zip *zip, const char *place,
                         struct error *err)
{
    char *image;
    size_t size, most;
    if (!bound_weights(model, &most, place, err) ||
        !interop_zip_read(zip, "model.weights.h5", most, &image, &size, err))
        return false;
    struct hdf5 *file = hdf5_open(image, size, place, err);
    bool ok = file && keras_network_read(foreign, model, file, KERAS_BY_CLASS, place, err);
    hdf5_close(file);
    free(image);
    return ok;
}

static bool read_archive(struct foreign *foreign, const struct file_map *map, const char *place, struct error *err)
{
    unsigned major;
    struct keras_model model = {0};
    struct interop_zip *zip = interop_zip_open(place, map->data, map->size, err);
    json_t *metadata = zip ? read_metadata(zip, place, err) : NULL;
    const char *version = json_string_value(json_object_get(metadata, "keras_version"));
    bool ok = metadata && keras_version_parse(version, &major, place, err) &&
              set_format(foreign, version, "archive", err) && parse_config(&model, zip, major, place, err) &&
              read_weights(foreign, &model, zip, place, err);
    keras_model_close(&model);
    json_decref(metadata);
    interop_zip_close(zip);
    return ok;
}

bool interop_keras_read(const char *path, struct foreign *foreign, struct error *err)
{
    struct file_map map;
    if (!file_map_open(&map, path, err)) return false;
    bool ok = map.size <= INTEROP_MAX_BYTES;
    if (!ok)
        error_set(err, ERROR_TOO_LARGE, "%s: %zu bytes are more than the limit of %zu", path, map.size,
                  INTEROP_MAX_BYTES);
    else if (hdf5_recognise(map.data, map.size))
        ok = read_hdf5(foreign, &map, path, err);
    else if (foreign->architecture_file)
        ok = refuse_architecture(path, err);
    else
        ok = read_archive(foreign, &map, path, err);
    file_map_close(&map);
    return ok;
}
